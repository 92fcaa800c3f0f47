"""What all writers share: frames come one by one, and the file gets its name when it is complete."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from wholepose.formats.frame import PoseFrame
from wholepose.outputs import atomic_path
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton, conversion


class PoseWriter(ABC):
    """Writes frames to one file or folder, which appears under its name when the writer is closed.

    As a context manager it closes at the end, and throws everything away where an exception ends the block.
    """

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        self.path = Path(path)
        self._skeleton = skeleton
        self._model = model
        self._last_index = -1
        self._open = True
        self._cleanup = contextlib.ExitStack()

    def write(
        self,
        frame_index: int,
        time_s: float | None,
        poses: Poses,
        *,
        image: str,
        size: tuple[int, int] | None,
        filled: NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds a frame.

        Args:
            frame_index: Its place in the video, or the picture's among the pictures; larger than the last one's.
            time_s: Seconds since the start of the video; None for pictures.
            poses: The people, converted if they are in another skeleton than the writer's.
            image: Name of the video or picture.
            size: (height, width) of the upright frame in pixels; None where it is not known.
            filled: (N, K) bool of keypoints put into gaps; formats without a place for it leave it out.

        Raises:
            ValueError: The frame does not come after the last one, or the writer is closed.
            ConfigError: The format has no place for these people.
            OSError: It cannot be written.
        """
        if not self._open:
            raise ValueError(f"{self.path}: this writer is closed")
        if frame_index <= self._last_index:
            raise ValueError(f"{self.path}: frame {frame_index} does not come after frame {self._last_index}")
        self._last_index = frame_index
        if filled is not None and filled.shape != poses.scores.shape:
            raise ValueError(f"filled must have shape {poses.scores.shape}, not {filled.shape}")
        if poses.skeleton is not self._skeleton:
            if filled is not None:
                filled = conversion(poses.skeleton, self._skeleton).apply_to_marks(filled)
            poses = poses.convert(self._skeleton)
        self._write(PoseFrame(frame_index, time_s, poses, image, size, self._model, filled))

    def close(self) -> None:
        """Completes the file and gives it its name; does nothing the second time.

        Raises:
            OSError: It cannot be written; nothing is left then.
        """
        if not self._open:
            return
        self._open = False
        with self._cleanup:  # an exception in here goes through it, and removes what was written
            self._finish()

    def discard(self) -> None:
        """Throws away what was written; a file that stood there before stays as it was."""
        self._abandon(GeneratorExit, GeneratorExit(), None)

    def __enter__(self) -> PoseWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon(kind, error, traceback)

    def _abandon(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            self._cleanup.__exit__(kind, error, traceback)

    @abstractmethod
    def _write(self, frame: PoseFrame) -> None:
        """Takes a frame in the writer's skeleton."""

    @abstractmethod
    def _finish(self) -> None:
        """Writes what only the end knows, and closes files."""


class TextWriter(PoseWriter):
    """A writer of one text file."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        """Opens a temporary file beside ``path``.

        Raises:
            OSError: The folder is missing or may not be written to.
        """
        super().__init__(path, skeleton=skeleton, model=model)
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._file: TextIO = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            self._cleanup = stack.pop_all()

    def _finish(self) -> None:
        self._file.close()  # here, so that what fails on the last flush is told
