"""The log of a run: JSON lines, and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import require

UNREPEATABLE = ("time", "data_time", "memory_mb")
"""Fields of a line that differ from one run to the next although nothing else does."""


class RunLog:
    """Writes ``log.jsonl`` and ``tensorboard/`` in a run's folder.

    A line is an object with ``mode`` (``"train"`` or ``"val"``), ``epoch`` (from 1), ``iter`` and the values.

    Args:
        folder: The run's folder.
        length_bytes: How much of an existing log belongs to the checkpoint that the run goes on from; what was written
            after it is cut off, because it will be written again.
        step: The step of that checkpoint.
    """

    def __init__(self, folder: Path, length_bytes: int = 0, step: int = 0) -> None:
        self.path = folder / "log.jsonl"
        self._file = self.path.open("ab")
        self._file.truncate(min(length_bytes, self.path.stat().st_size))
        self._file.seek(0, os.SEEK_END)
        require("tensorboard", "train")
        writer = require("torch.utils.tensorboard", "train").SummaryWriter
        self._board = writer(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, line: Mapping[str, Any], step: int) -> None:
        """Appends a line, and its numbers to TensorBoard."""
        self._file.write((json.dumps(dict(line)) + "\n").encode())
        self._file.flush()
        for name, value in line.items():
            if isinstance(value, (int, float)) and name not in ("epoch", "iter"):
                self._board.add_scalar(f"{line['mode']}/{name}", value, step)

    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds an (H, W, 3) RGB picture to TensorBoard."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def sync(self) -> int:
        """Forces the log to the disk, so that a checkpoint may refer to it; returns its length in bytes."""
        self._board.flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()
