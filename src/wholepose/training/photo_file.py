"""Decoded photos of a dataset in one file, which every loader process maps into its memory."""

from __future__ import annotations

import mmap
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.photos import PhotoStore

_LARGEST_SHARE = 0.5
"""How much of the free disk the file may take; photos beyond that are decoded each time."""


class PhotoFile(PhotoStore):
    """Keeps decoded photos on the disk instead of in each process.

    Loader processes get the file's name and the places in it, and share the pages that the system keeps of it; copies
    of the photos in every process would fill the memory. Read every photo once with ``PoseDataset.preload``, then
    ``seal``.

    Args:
        path: The file; what was there is overwritten.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("nothing")
        self.path = path
        self._places: dict[Path, tuple[int, tuple[int, ...]]] = {}
        self._map: NDArray[np.uint8] | None = None
        self._file: Any = path.open("wb")
        self.limit_bytes = int(shutil.disk_usage(path.parent).free * _LARGEST_SHARE)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: where the photos are."""
        return {**super().__getstate__(), "_map": None, "_file": None}

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Reads a photo, as ``PhotoStore.read`` does; before ``seal`` it is also kept."""
        if path in self._places and self._file is None:
            start, shape = self._places[path]
            return self._pixels()[start : start + int(np.prod(shape))].reshape(shape)
        pixels = super().read(path, size)
        if self._file is not None and path not in self._places and self.kept_bytes + pixels.nbytes <= self.limit_bytes:
            self._file.write(np.ascontiguousarray(pixels).data)
            self._places[path] = (self.kept_bytes, pixels.shape)
            self.kept_bytes += pixels.nbytes
        return pixels

    def seal(self) -> None:
        """Ends the writing; from now on photos come from the file.

        Raises:
            OSError: The disk is full.
        """
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Deletes the file."""
        self.seal()
        self._map, self._places = None, {}
        self.path.unlink(missing_ok=True)

    def _pixels(self) -> NDArray[np.uint8]:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        return self._map
