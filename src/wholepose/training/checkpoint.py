"""Checkpoints of a run: whole or absent, checked when read, without pickle.

A checkpoint is one safetensors file that holds every tensor of the run (weights, averaged weights, optimiser moments,
random states) and, in its metadata, the rest as JSON with a checksum of the tensors. It appears under its final name
only when it is complete and on disk.
"""

from __future__ import annotations

import json
import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wholepose.errors import WeightsError, require
from wholepose.outputs import atomic_path

_NAME = re.compile(r"step_(\d{9})\.safetensors")


@dataclass(frozen=True)
class TrainingState:
    """Everything that a run needs to go on as if it had never stopped.

    Attributes:
        tensors: By dotted name, such as ``"model.backbone.conv1.weight"``.
        values: JSON values: step, position in the epoch, best result, counters, log length.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a name, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


class CheckpointFolder:
    """The checkpoints of one run, the newest few of which are kept.

    A process that was killed while it wrote leaves a hidden part of a file behind; ``clean`` removes those.

    Args:
        folder: Made when missing.
        keep_last: How many stay.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last
        folder.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Removes what processes left that were killed while they wrote; none may be writing now."""
        for part in self.folder.glob(".wholepose-*"):
            part.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def save(self, state: TrainingState) -> Path:
        """Writes a checkpoint under the name of its step, then removes the oldest ones.

        Args:
            state: ``values["step"]`` names the file.

        Returns:
            The file.

        Raises:
            OSError: It could not be written; those that were there are still there.
        """
        path = self._path(state.values["step"])
        write_state(path, state)
        for old in self.paths()[: -self.keep_last]:
            old.unlink(missing_ok=True)
        return path

    def load(self, step: int) -> TrainingState:
        """Reads the checkpoint of a step.

        Raises:
            WeightsError: It is damaged, or not in the folder.
        """
        return read_state(self._path(step))

    def load_newest(self) -> TrainingState | None:
        """Reads the newest checkpoint that is whole; None where there is none.

        Warns:
            UserWarning: A newer one is damaged and was passed over; it is kept under another name.

        Raises:
            WeightsError: There are checkpoints, but all are damaged.
        """
        damaged: list[tuple[Path, WeightsError]] = []
        for path in reversed(self.paths()):
            try:
                state = read_state(path)
            except WeightsError as error:
                damaged.append((path, error))
                continue
            for broken, why in damaged:
                warnings.warn(f"{why}; going on from an older checkpoint", stacklevel=2)
                broken.replace(broken.with_name(broken.name + ".damaged"))
            return state
        if damaged:
            raise WeightsError(
                f"every checkpoint in {self.folder} is damaged; to begin anew, give --run another folder"
            )
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:09d}.safetensors"


def write_state(path: Path, state: TrainingState) -> None:
    """Writes a state as one safetensors file, atomically.

    Raises:
        OSError: The disk is full or refuses.
    """
    serialise = require("safetensors.torch", "train").save
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    metadata = {
        "format": "wholepose-training",
        "values": json.dumps(dict(state.values), sort_keys=True),
        "checksum": f"{_checksum(tensors):08x}",
    }
    data: bytes = serialise(tensors, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_state(path: Path) -> TrainingState:
    """Reads and checks a state.

    Raises:
        WeightsError: The file is not a whole checkpoint.
    """
    safetensors = require("safetensors", "train")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        values = json.loads(metadata["values"])
        expected = int(metadata["checksum"], 16)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is not a whole checkpoint ({type(error).__name__}: {error})") from error
    found = _checksum(tensors)
    if found != expected:
        raise WeightsError(f"{path} is damaged: its tensors have checksum {found:08x}, not {expected:08x}")
    return TrainingState(tensors, values)


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 over names and bytes, in the order of names."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        flat = tensors[name].contiguous().reshape(-1)
        if flat.numel():
            value = zlib.crc32(flat.view(torch.uint8).numpy().data, value)
    return value
