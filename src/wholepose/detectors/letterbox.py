"""Fitting an image into a network's input without changing its shape.

Convention:
    The image is scaled about its upper left corner and padded to the right and below with gray, so that a box of the
    network's input divided by the factors is the box of the image.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GRAY = 114
"""Value of the padding, as YOLOX and RTMDet were trained with."""

_SIDE_LIMIT = 32_000
"""Some of OpenCV's loops count pixels with 16-bit integers."""


def letterbox(
    image: NDArray[np.uint8], long_side: int | tuple[int, int], *, multiple: int = 32
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shrinks or enlarges an image to fit, and pads it.

    Args:
        image: (H, W, 3) uint8, at least one pixel.
        long_side: Where its longer side shall end, in pixels; or the (height, width) of a fixed input.
        multiple: Without a fixed input, the sides are padded to a multiple of this.

    Returns:
        (H', W', 3) uint8, and the factors (4,) float32 from a box of the image to one of the input, which differ a
        little between x and y because sides are whole pixels.
    """
    height, width = image.shape[:2]
    if isinstance(long_side, tuple):
        canvas_size = long_side
        scale = min(long_side[0] / height, long_side[1] / width)
    else:
        scale = long_side / max(height, width)
        padded = [-(-max(1, round(side * scale)) // multiple) * multiple for side in (height, width)]
        canvas_size = (padded[0], padded[1])
    new_height = min(canvas_size[0], max(1, round(height * scale)))
    new_width = min(canvas_size[1], max(1, round(width * scale)))
    step = -(-max(height, width) // _SIDE_LIMIT)
    source = image[::step, ::step] if step > 1 else image
    if source.shape[:2] != (new_height, new_width):
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        source = np.asarray(cv2.resize(source, (new_width, new_height), interpolation=method), dtype=np.uint8)
    canvas = np.full((*canvas_size, 3), GRAY, dtype=np.uint8)
    canvas[:new_height, :new_width] = source
    x, y = new_width / width, new_height / height
    return canvas, np.array([x, y, x, y], dtype=np.float32)
