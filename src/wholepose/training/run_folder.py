"""A run's folder: one run at a time, always the same settings and the same data."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wholepose.data.annotations import AnnotationSet
from wholepose.errors import ConfigError
from wholepose.outputs import atomic_path
from wholepose.training import processes
from wholepose.training.config import TrainConfig, difference, from_json, to_json
from wholepose.weights.locks import exclusive

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"

Fingerprints = Mapping[str, Sequence[int]]
"""By annotation file: how many people it has, and a checksum of who they are and how they are labelled."""


@contextlib.contextmanager
def held(run: Path, rank: int) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it; all processes of a run ask, the first one holds it.

    Raises:
        ConfigError: Another run is at work there.
    """
    with contextlib.ExitStack() as stack:
        problem = None
        if rank == 0:
            run.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(exclusive(run / _LOCK_FILE, wait=False))
            except BlockingIOError:
                problem = f"{run}: another run trains there now; wait for it, or give --run another folder"
        problem = processes.gather(problem)[0]
        if problem is not None:
            raise ConfigError(problem)
        yield


def check_settings(config: TrainConfig, run: Path) -> None:
    """Compares settings with those that a run was begun with.

    Args:
        config: The settings to go on with.
        run: The run's folder; nothing is wrong where it does not exist yet.

    Raises:
        ConfigError: They differ in something that changes results; the message lists it.
    """
    path = run / CONFIG_FILE
    if path.exists():
        changes = difference(from_json(path.read_text(encoding="utf-8"), str(path)), config)
        if changes:
            title = f"{run} holds a run with other settings; give --run another folder, or the old ones:"
            raise ConfigError("\n  ".join([title, *changes]))


def write_settings(config: TrainConfig, run: Path) -> None:
    """Notes the settings that the run has from now on."""
    with atomic_path(run / CONFIG_FILE) as temporary:
        temporary.write_text(to_json(config), encoding="utf-8")


def fingerprint(people: AnnotationSet) -> list[int]:
    """How many people there are, and a CRC-32 of their ids, boxes, keypoints and visibility."""
    value = 0
    for column in (people.person_ids, people.boxes, people.keypoints, people.visibility):
        value = zlib.crc32(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data, value)
    return [len(people), value]


def check_data(run: Path, before: Fingerprints, now: Fingerprints) -> None:
    """Compares the data with those that a run was begun with.

    Raises:
        ConfigError: They differ, so that the run could not go on as if it had never stopped.
    """
    for name, old in before.items():
        new = now.get(name, [0, 0])
        if list(new) != list(old):
            raise ConfigError(
                f"{run}: {name} has changed since this run began ({old[0]} people then, {new[0]} now), so it cannot go "
                "on as if it had never stopped; bring the old data back, or give --run another folder"
            )
