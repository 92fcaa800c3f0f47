"""Reading heatmaps on the device they are on: the rules of :mod:`wholepose.heatmaps`, in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholepose.geometry import Protocol
from wholepose.heatmaps import MAX_STEP_CELLS, gaussian_kernel

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

REACH = 2
"""Second derivatives look this many cells to either side of the peak."""

LOG_FLOOR = 1e-10
FLAT_DETERMINANT = 1e-12


@dataclass(frozen=True, eq=False)
class DecodedTensors:
    """Keypoints read from heatmaps, on the heatmaps' device.

    Attributes:
        coordinates: (N, K, 2) float32 (x, y) in heatmap cells; (-1, -1) where the map has no positive value.
        scores: (N, K) float32, the raw peaks.
        covariances: (N, K, 2, 2) float32 in cells^2; see ``wholepose.heatmaps.Decoded``.
    """

    coordinates: Tensor
    scores: Tensor
    covariances: Tensor


def normalize(crops: Tensor) -> Tensor:
    """Turns (B, H, W, 3) uint8 RGB into (B, 3, H, W) float32 in channels-last memory, ImageNet's mean and deviation."""
    mean, std = _constant(MEAN, torch.float32, crops.device), _constant(STD, torch.float32, crops.device)
    return ((crops.to(torch.float32) / 255 - mean) / std).permute(0, 3, 1, 2)


def merge_flipped(heatmaps: Tensor, heatmaps_of_mirrored: Tensor, flip_indices: Tensor) -> Tensor:
    """Averages the heatmaps of crops with those of their mirror images; see ``wholepose.heatmaps.merge_flipped``.

    Args:
        heatmaps: (N, K, h, w) float.
        heatmaps_of_mirrored: (N, K, h, w) float, of the mirrored crops.
        flip_indices: (K,) int64, for each keypoint the index of its mirror.

    Returns:
        (N, K, h, w), same dtype.
    """
    back = heatmaps_of_mirrored[:, flip_indices].flip(-1)
    shifted = torch.cat([back[..., :1], back[..., :-1]], dim=-1)
    return (heatmaps + shifted) * 0.5


def decode(heatmaps: Tensor, *, kernel: int = 17, protocol: Protocol = "default") -> DecodedTensors:
    """Reads keypoints from heatmaps by DARK; agrees with ``wholepose.heatmaps.decode`` within a thousandth of a cell.

    The Newton step is computed in float64, on Apple's GPUs, which have none, in float32.

    Args:
        heatmaps: (N, K, h, w) float; values that are not finite count as 0.
        kernel: Size of the blur, which belongs to the weights.
        protocol: See ``wholepose.heatmaps.decode``.

    Returns:
        The keypoints, without waiting for the device.
    """
    people, keypoints, height, width = heatmaps.shape
    precise = torch.float32 if heatmaps.device.type == "mps" else torch.float64
    maps = heatmaps.to(torch.float32).reshape(people * keypoints, height * width)
    maps = torch.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0)
    if len(maps) == 0:
        empty = maps.new_zeros(people, keypoints)
        return DecodedTensors(empty.new_zeros(people, keypoints, 2), empty, empty.new_zeros(people, keypoints, 2, 2))
    scores, peaks = maps.max(dim=1)
    y = torch.div(peaks, width, rounding_mode="floor")
    x = peaks - y * width
    interior = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    windows, inside = _windows(maps, x, y, (height, width), kernel)
    quarter = _quarter_offsets(windows, protocol, x, y, (height, width)).to(precise)
    zeroed = interior[:, None, None] & ~inside
    logs = _blur(windows.to(precise).masked_fill(zeroed, 0.0), kernel).clamp_min(LOG_FLOOR).log()
    steps, spread, definite = _newton_steps(logs)
    if protocol == "mmpose0":
        moves = torch.where(interior[:, None], steps, 0.0)
    else:
        believed = definite & (steps.square().sum(1) <= MAX_STEP_CELLS**2)
        moves = torch.where(believed[:, None], steps, quarter)
    coordinates = torch.stack([x, y], dim=1).to(precise) + moves
    coordinates = torch.where((scores > 0)[:, None], coordinates, -1.0)
    guess = _constant((width**2 / 12, 0.0, 0.0, height**2 / 12), precise, maps.device).reshape(2, 2)
    covariances = torch.where(definite[:, None, None], spread, guess)
    return DecodedTensors(
        coordinates.to(torch.float32).reshape(people, keypoints, 2),
        scores.reshape(people, keypoints),
        covariances.to(torch.float32).reshape(people, keypoints, 2, 2),
    )


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device. They are kept there: a copy from the host has no place in a CUDA graph."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=dtype, device=device)


def blur_matrix(kernel: int) -> NDArray[np.float64]:
    """(5, kernel + 4): takes the windows about a peak, on either side, to the 5 x 5 blurred values that are needed."""
    weights = gaussian_kernel(kernel)
    matrix = np.zeros((2 * REACH + 1, kernel + 2 * REACH))
    for shift in range(len(matrix)):
        matrix[shift, shift : shift + kernel] = weights
    return matrix


def _windows(maps: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], kernel: int) -> tuple[Tensor, Tensor]:
    """Windows (M, s, s) about each peak, beyond the map its edge values, and which of their cells are in the map."""
    height, width = size
    reach = kernel // 2 + REACH
    offsets = torch.arange(-reach, reach + 1, device=maps.device)
    columns, rows = x[:, None] + offsets, y[:, None] + offsets
    inner_columns, inner_rows = columns.clamp(0, width - 1), rows.clamp(0, height - 1)
    flat = inner_rows[:, :, None] * width + inner_columns[:, None, :]
    windows = maps.gather(1, flat.flatten(1)).reshape(flat.shape)
    inside = (inner_rows == rows)[:, :, None] & (inner_columns == columns)[:, None, :]
    return windows, inside


def _quarter_offsets(windows: Tensor, protocol: Protocol, x: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """(M, 2): a quarter of a cell towards the higher neighbour on each axis."""
    height, width = size
    middle = windows.shape[1] // 2
    across = windows[:, middle, middle + 1] - windows[:, middle, middle - 1]
    down = windows[:, middle + 1, middle] - windows[:, middle - 1, middle]
    offsets = 0.25 * torch.stack([across.sign(), down.sign()], dim=1)
    if protocol == "mmpose0":
        offsets *= ((x > 1) & (x < width - 1) & (y > 1) & (y < height - 1))[:, None]
    return offsets


def _blur(windows: Tensor, kernel: int) -> Tensor:
    """(M, 5, 5) blurred values about the middles of (M, s, s) windows."""
    weights = _constant(tuple(blur_matrix(kernel).flat), windows.dtype, windows.device).reshape(2 * REACH + 1, -1)
    return weights @ (windows @ weights.T)


def _newton_steps(logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Steps (M, 2), covariances (M, 2, 2) and whether the Hessian is negative definite (M,), from (M, 5, 5) logs."""
    center = logs[:, 2, 2]
    dx = 0.5 * (logs[:, 2, 3] - logs[:, 2, 1])
    dy = 0.5 * (logs[:, 3, 2] - logs[:, 1, 2])
    dxx = 0.25 * (logs[:, 2, 4] - 2 * center + logs[:, 2, 0])
    dyy = 0.25 * (logs[:, 4, 2] - 2 * center + logs[:, 0, 2])
    dxy = 0.25 * (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1])
    determinant = dxx * dyy - dxy * dxy
    safe = torch.where(determinant == 0, torch.inf, determinant)
    spread = torch.stack([-dyy / safe, dxy / safe, dxy / safe, -dxx / safe], dim=1).reshape(-1, 2, 2)
    steps = (spread @ torch.stack([dx, dy], dim=1)[:, :, None])[:, :, 0]
    return steps, spread, (dxx < 0) & (determinant > FLAT_DETERMINANT)
