"""Cutting crops out of images on the device that the model runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import invert_affine

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def upload(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Copies an (H, W, 3) uint8 image to a device: its bytes, once, and without waiting for them on a GPU."""
    import torch

    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    if device.type == "cuda":
        # From ordinary memory the driver would copy to memory of this kind first, and wait.
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


def crop_on_device(pixels: Tensor, matrices: NDArray[np.floating], crop_size: tuple[int, int]) -> Tensor:
    """Cuts crops out of an image: bilinear, black outside it; within one grey level of ``geometry.crop_image``.

    Four reads of bytes a pixel and a weighted sum: no copy of the image in floating point is made, so that a large
    picture costs no more than a small one.

    Args:
        pixels: (H, W, 3) uint8 on the device.
        matrices: (N, 2, 3) maps from image pixels to crop pixels.
        crop_size: (height, width) of the crops.

    Returns:
        (N, height, width, 3) uint8 on the device.
    """
    import torch

    height, width = crop_size
    device = pixels.device
    precise = torch.float32 if device.type == "mps" else torch.float64
    back = torch.from_numpy(invert_affine(matrices)).to(device=device, dtype=precise)
    rows = torch.arange(height, device=device, dtype=precise)[:, None]
    columns = torch.arange(width, device=device, dtype=precise)[None]
    # (N, height, width) places in the image, for x and for y
    x, y = (
        back[:, axis, 0, None, None] * columns + back[:, axis, 1, None, None] * rows + back[:, axis, 2, None, None]
        for axis in (0, 1)
    )
    left, top = x.floor(), y.floor()
    right_share, lower_share = (x - left).float(), (y - top).float()
    flat = pixels.reshape(-1, 3)
    total = torch.zeros((len(matrices), height, width, 3), device=device)
    for down in (0, 1):
        for across in (0, 1):
            column, row = left.long() + across, top.long() + down
            inside = (column >= 0) & (column < pixels.shape[1]) & (row >= 0) & (row < pixels.shape[0])
            weight = (right_share if across else 1 - right_share) * (lower_share if down else 1 - lower_share)
            place = (row * pixels.shape[1] + column).masked_fill(~inside, 0)
            total += flat[place].float() * (weight * inside)[..., None]
    return total.round_().to(torch.uint8)
