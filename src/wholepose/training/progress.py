"""Where a run stands, how it ended, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wholepose.training.config import TrainConfig


class Observer(Protocol):
    """Whoever watches a run; the command line draws its progress bar from this."""

    def started(self, config: TrainConfig, steps: int, done: int) -> None:
        """A stage begins, with ``done`` of its optimiser steps behind it."""

    def stepped(self, epoch: int, loss: float, lr: float) -> None:
        """An optimiser step is done."""

    def said(self, message: str) -> None:
        """Something worth a line happened."""


@dataclass
class Progress:
    """Where a run stands; saved in each checkpoint.

    Attributes:
        step: Steps taken, those skipped included.
        updates: Steps that changed the weights.
        epoch: Epochs that are over, validation included.
        position: Steps taken in the current epoch.
        skipped: Steps of no use.
        skipped_in_a_row: Those since the last useful one.
        best_ap: Of all validations; -1 before the first.
        window_loss: Sum of the losses since the last line of the log.
        window_steps: How many they are.
    """

    step: int = 0
    updates: int = 0
    epoch: int = 0
    position: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_ap: float = -1.0
    window_loss: float = 0.0
    window_steps: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: All epochs are done.
        stopped_by: The signal that ended it early, or None.
        weights: The weights to use: the best in validation, or the last without validation. None when not finished.
        best_ap: Their AP in [0, 1]; -1 without validation.
    """

    finished: bool
    stopped_by: int | None
    weights: Path | None
    best_ap: float
