"""Writing pictures: whole under their final name, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholepose.errors import ImageError
from wholepose.images.kinds import printable_path
from wholepose.images.read import check_image
from wholepose.outputs import atomic_path

_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_LARGEST_SIDES_PX = {"JPEG": 65500, "WEBP": 16383}


def save_image(path: str | os.PathLike[str], image: NDArray[np.uint8], *, quality: int = 90) -> None:
    """Writes a picture in the format that its ending names; the folder must exist.

    The file appears under its name when it is complete. What was there before stays until then.

    Args:
        path: Name that ends in .jpg, .jpeg, .png, .webp, .bmp, .tif or .tiff.
        image: (H, W, 3) uint8 RGB.
        quality: 1 to 100, for JPEG and WebP.

    Raises:
        ImageError: The file cannot be written, or the format cannot hold a picture of this size.
        ValueError: `image` is not a picture, the ending names no format, or `quality` is out of range.
    """
    check_image(image)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, not {quality}")
    name = printable_path(path)
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"{name}: the ending must be one of {', '.join(_FORMATS)}, not {suffix!r}")
    form = _FORMATS[suffix]
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST_SIDES_PX.get(form, height + width):
        raise ImageError(
            f"{name}: {form} holds at most {_LARGEST_SIDES_PX[form]} pixels a side, and the picture is "
            f"{width} x {height}; write .png"
        )
    options = {"quality": quality} if form in ("JPEG", "WEBP") else {}
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(np.ascontiguousarray(image)).save(temporary, format=form, **options)
    except OSError as error:
        raise ImageError(f"{name}: cannot be written ({error.strerror or error})") from error
