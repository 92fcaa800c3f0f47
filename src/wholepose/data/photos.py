"""Photos of a dataset, decoded when needed or kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import AnnotationError
from wholepose.images import load_image, read_header, turn_back

Keep = Literal["nothing", "files", "pixels"]


class PhotoStore:
    """Reads photos, and keeps the first ones that fit into a budget.

    Nothing kept is ever dropped again: training looks at photos in random order, where the last one seen is as likely
    to come back as any other. Worker processes started by fork share what was kept before; those started otherwise
    begin with nothing.
    """

    def __init__(self, keep: Keep = "nothing", limit_bytes: int = 2 * 1024**3) -> None:
        """Makes an empty store.

        Args:
            keep: ``"pixels"`` keeps decoded photos (a 640 x 480 one is 0.9 MB), ``"files"`` the compressed bytes.
            limit_bytes: How much to keep.
        """
        self.keep = keep
        self.limit_bytes = limit_bytes
        self.kept_bytes = 0
        self._kept: dict[Path, NDArray[np.uint8] | bytes] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: the settings without the photos."""
        return {**self.__dict__, "kept_bytes": 0, "_kept": {}}

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Reads a photo in the orientation that its annotations are in.

        Args:
            path: The file.
            size: (height, width) as annotated; (0, 0) where that is not known.

        Returns:
            (height, width, 3) uint8 RGB; not to be written to.

        Raises:
            ImageError: The file is missing or no readable picture.
            AnnotationError: The picture has another size.
        """
        kept = self._kept.get(path)
        if isinstance(kept, np.ndarray):
            return kept
        pixels = _read(path if kept is None else kept, path, size)
        pixels.flags.writeable = False
        if kept is None and self.keep == "pixels":
            self._keep(path, pixels, pixels.nbytes)
        elif kept is None and self.keep == "files":
            content = path.read_bytes()
            self._keep(path, content, len(content))
        return pixels

    def _keep(self, path: Path, item: NDArray[np.uint8] | bytes, length: int) -> None:
        if self.kept_bytes + length <= self.limit_bytes:
            self._kept[path] = item
            self.kept_bytes += length


def _read(source: Path | bytes, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = load_image(source)
    if size in ((0, 0), pixels.shape[:2]):
        return pixels
    if size == pixels.shape[1::-1]:
        # Some sets were annotated on the stored pixels, before the camera's orientation mark turns them upright.
        header = read_header(source)
        if header.stored_size == size:
            return turn_back(pixels, header.orientation)
    raise AnnotationError(
        f"{path}: is {pixels.shape[0]} pixels high and {pixels.shape[1]} wide, annotated as {size[0]} and {size[1]}; "
        "the annotations belong to another version of this picture"
    )
