"""Pictures to compare two forms of a model on where nobody has given any."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SEED = 7


def draw_pictures(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draws smooth pictures with edges, the same ones at each call: (count, H, W, 3) uint8 RGB."""
    height, width = size
    random = np.random.default_rng(_SEED)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for picture in pictures:
        canvas = np.zeros((height, width, 3), np.float32)
        for cells, contrast in ((4, 60.0), (16, 25.0)):
            noise = random.normal(0, contrast, (cells * 4 // 3, cells, 3)).astype(np.float32)
            canvas += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(8):
            center = (int(random.integers(width)), int(random.integers(height)))
            axes = (int(random.integers(4, width // 4)), int(random.integers(4, height // 4)))
            color = tuple(float(value) for value in random.normal(0, 80, 3))
            cv2.ellipse(canvas, center, axes, float(random.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        picture[:] = np.clip(canvas + 120, 0, 255).astype(np.uint8)
    return pictures
