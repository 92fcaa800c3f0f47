"""Runs the stages of a recipe, one after the other, as one run that can be taken up again anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from wholepose.errors import ConfigError
from wholepose.outputs import write_json
from wholepose.training import processes
from wholepose.training.config import TrainConfig, override
from wholepose.training.progress import Observer, Outcome
from wholepose.training.run_folder import check_settings
from wholepose.training.trainer import MakePainter, Trainer

_RESULT = "result.json"


def train_stages(
    stages: Sequence[TrainConfig],
    run: Path,
    *,
    device: str = "auto",
    observer: Observer | None = None,
    make_painter: MakePainter | None = None,
) -> Outcome:
    """Trains every stage that is not done yet.

    Args:
        stages: One stage trains in ``run`` itself, several in a folder each below it, named after the stage.
        run: The run's folder.
        device: As :func:`wholepose.training.processes.choose_device` takes it.
        observer: Who is told of progress.
        make_painter: See :class:`Trainer`.

    Returns:
        How the last stage that ran ended.

    Raises:
        ConfigError: There is no stage, or see :class:`Trainer`.
        WholeposeError: See :class:`Trainer`.
        OSError: Something could not be written.
    """
    if not stages:
        raise ConfigError("a recipe must have at least one stage")
    folders = [run if len(stages) == 1 else run / stage.stage for stage in stages]
    for stage, folder in zip(stages, folders, strict=True):
        check_settings(stage, folder)  # of all stages, before hours go into the first
    rank, _ = processes.join()
    outcome: Outcome | None = None
    for stage, folder in zip(stages, folders, strict=True):
        done = _finished(folder)
        if done is None:
            previous = outcome.weights if outcome else None
            outcome = Trainer(
                stage, folder, device=device, observer=observer, previous=previous, make_painter=make_painter
            ).fit()
            if not outcome.finished:
                return outcome
            if rank == 0:
                assert outcome.weights is not None
                write_json(folder / _RESULT, {"weights": outcome.weights.name, "best_ap": outcome.best_ap})
        else:
            outcome = done
            if observer and rank == 0:
                observer.said(f"{folder}: finished before")
    assert outcome is not None
    return outcome


def _finished(folder: Path) -> Outcome | None:
    """How a stage ended, if it is done."""
    path = folder / _RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(True, None, folder / result["weights"], float(result["best_ap"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it to let the stage end again") from error


def configure_stages(stages: Sequence[TrainConfig], assignments: Sequence[str]) -> tuple[TrainConfig, ...]:
    """Changes fields in all stages, or in one: ``"halpe:epochs=100"``.

    Args:
        stages: The stages.
        assignments: ``"NAME=VALUE"`` or ``"STAGE:NAME=VALUE"``.

    Raises:
        ConfigError: There is no such stage or field, or the value does not fit.
    """
    names = [stage.stage for stage in stages if stage.stage]
    changed = list(stages)
    for assignment in assignments:
        name, colon, _ = assignment.partition("=")[0].partition(":")
        if colon and name not in names:
            listed = f"the stages are {', '.join(names)}" if names else "this recipe has one stage, without a name"
            raise ConfigError(f"--set {assignment}: there is no stage {name!r}; {listed}")
        setting = assignment[len(name) + 1 :] if colon else assignment
        for number, stage in enumerate(changed):
            if not colon or stage.stage == name:
                changed[number] = override(stage, [setting])
    return tuple(changed)
