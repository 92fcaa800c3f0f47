"""What a camera does to a picture: exposure, white balance, blur, grain, JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def develop(
    generator: np.random.Generator, picture: NDArray[np.float32], *, strength: float = 1.0
) -> NDArray[np.uint8]:
    """Turns a clean picture into one that a camera took.

    Args:
        generator: Random numbers.
        picture: (H, W, 3) in [0, 1], sRGB.
        strength: 0 leaves the picture alone but for rounding, 1 spoils it as phones and old cameras do.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    result = picture
    if strength > 0:
        gain = np.exp(generator.normal(0, 0.16 * strength)) * (1 + generator.normal(0, 0.045 * strength, 3))
        # Cameras measure the light, more or less well, so that few photos are all dark.
        wanted = generator.uniform(0.3, 0.55) / max(float(result.mean()), 0.02)
        gain = gain * float(np.clip(wanted, 0.75, 2.0)) ** (generator.uniform(0, 1) * strength)
        gamma = float(np.exp(generator.normal(0, 0.12 * strength)))
        result = np.clip(result * gain.astype(np.float32), 0, 1) ** np.float32(gamma)
        contrast = float(np.exp(generator.normal(0, 0.12 * strength)))
        result = (result - 0.45) * contrast + 0.45
        if generator.random() < 0.05 * strength:
            grey = result @ np.array([0.299, 0.587, 0.114], np.float32)
            result = np.repeat(grey[..., None], 3, axis=2)
        kind = generator.random()
        if kind < 0.2 * strength:
            result = np.asarray(cv2.GaussianBlur(result, (0, 0), float(generator.uniform(0.3, 1.6)) * width / 256))
        elif kind < 0.27 * strength:
            length = max(2, int(generator.uniform(2, 9) * width / 256))
            kernel = np.zeros((length, length), np.float32)
            angle = generator.uniform(0, np.pi)
            middle = (length - 1) / 2
            for t in np.linspace(-middle, middle, length * 2):
                kernel[round(middle + t * float(np.sin(angle))), round(middle + t * float(np.cos(angle)))] = 1
            result = np.asarray(cv2.filter2D(result, -1, kernel / kernel.sum()))
        elif kind < 0.42 * strength:
            factor = float(generator.uniform(0.3, 0.85))
            small = (max(8, int(width * factor)), max(8, int(height * factor)))
            result = np.asarray(cv2.resize(cv2.resize(result, small, interpolation=cv2.INTER_AREA), (width, height)))
        grain = abs(float(generator.normal(0, 0.018 * strength)))
        if grain > 0.004:
            result = result + generator.standard_normal(result.shape, dtype=np.float32) * grain
    pixels = np.asarray(np.clip(result * 255 + 0.5, 0, 255), dtype=np.uint8)
    if strength > 0 and generator.random() < 0.6:
        quality = int(generator.uniform(35, 95))
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(pixels)
