"""Heatmaps of keypoints: drawing them (targets) and reading them with sub-pixel precision (DARK).

Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020.

Convention:
    A heatmap cell's index is its coordinate: the centre of the top-left cell is (0, 0). Crop pixels are cells times the
    stride, with no half-pixel shift. Points are (x, y), sizes are (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import Protocol

Method = Literal["dark", "quarter", "argmax"]

MAX_STEP_CELLS = 1.5
"""A Newton step beyond this has left the peak it started from, and is not believed."""

_LOG_FLOOR = 1e-10
_REACH = 2  # second derivatives look two cells to either side of the peak


@dataclass(frozen=True, eq=False)
class Decoded:
    """Keypoints read from heatmaps.

    Attributes:
        coordinates: (N, K, 2) float32 (x, y) in heatmap cells; (-1, -1) where the map has no positive value.
        scores: (N, K) float32, the raw peaks, which may exceed 1.
        covariances: (N, K, 2, 2) float32 in cells^2: the inverse of the negative Hessian of the log heatmap at the
            peak. Where that is not positive definite, the spread of a uniform guess over the map.
    """

    coordinates: NDArray[np.float32]
    scores: NDArray[np.float32]
    covariances: NDArray[np.float32]


def encode(
    keypoints: NDArray[np.floating],
    visibility: NDArray[np.floating],
    heatmap_size: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 3.0,
    protocol: Protocol = "default",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draws training targets: a Gaussian at the exact place of each keypoint, over the whole map.

    Args:
        keypoints: (..., K, 2) crop pixels.
        visibility: (..., K); 0 is unlabelled.
        heatmap_size: (h, w) in cells.
        stride: Crop pixels a cell.
        sigma: Standard deviation in cells.
        protocol: ``"default"``: a visibility below 0.35 is unlabelled, all others weigh 1. ``"mmpose0"``: the
            visibility is the weight, and from 0.5 downwards the target is empty.

    Returns:
        Targets (..., K, h, w) float32 and weights (..., K) float32. The weight is 0 where the keypoint is unlabelled or
        where the box of 3 sigma about it misses the map.
    """
    height, width = heatmap_size
    cells = keypoints.astype(np.float64) / stride
    labelled = np.asarray(np.isfinite(cells).all(-1))
    cells = np.where(labelled[..., None], cells, 0.0)
    radius = 3 * sigma
    inside = (
        (np.floor(cells - radius) < [width, height]).all(-1) & (np.floor(cells + radius + 1) >= 0).all(-1) & labelled
    )
    if protocol == "mmpose0":
        weights = np.where(inside, visibility, 0.0)
        drawn = weights > 0.5
    else:
        drawn = inside & (visibility >= 0.35)
        weights = drawn.astype(np.float64)
    columns = np.exp(-np.square(np.arange(width) - cells[..., 0, None]) / (2 * sigma**2)).astype(np.float32)
    rows = np.exp(-np.square(np.arange(height) - cells[..., 1, None]) / (2 * sigma**2)).astype(np.float32)
    rows *= drawn[..., None]
    return rows[..., :, None] * columns[..., None, :], weights.astype(np.float32)


def merge_flipped(
    heatmaps: NDArray[np.float32], heatmaps_of_mirrored: NDArray[np.float32], flip_indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Averages the heatmaps of crops with those of their mirror images (flip test).

    The second set is mirrored back, its left and right keypoints change places, and it is shifted one column to the
    right (column 0 stays), which makes up for the odd pixel between a crop and its mirror image.

    Args:
        heatmaps: (N, K, h, w).
        heatmaps_of_mirrored: (N, K, h, w), of the mirrored crops.
        flip_indices: (K,) for each keypoint the index of its mirror.

    Returns:
        (N, K, h, w) float32.
    """
    back = heatmaps_of_mirrored[:, flip_indices, :, ::-1]
    shifted = np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
    return np.asarray((heatmaps + shifted) * np.float32(0.5))


def gaussian_kernel(size: int) -> NDArray[np.float64]:
    """The 1-D blur kernel that OpenCV makes of an odd size alone: sigma = 0.3 ((size - 1) / 2 - 1) + 0.8, sum 1."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"the decode kernel must be an odd number from 3 on, not {size}")
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    kernel = np.exp(-np.square(np.arange(size) - (size - 1) / 2) / (2 * sigma**2))
    return np.asarray(kernel / kernel.sum())


def decode(
    heatmaps: NDArray[np.float32],
    *,
    kernel: int = 17,
    method: Method = "dark",
    protocol: Protocol = "default",
) -> Decoded:
    """Reads keypoints from heatmaps.

    ``"dark"`` blurs, takes the logarithm, and makes one Newton step from the highest cell. Only the 13 blurred values
    that the derivatives need are computed, from a window about the peak. In the default protocol the Hessian must be
    negative definite and the step at most ``MAX_STEP_CELLS``, else the quarter-offset rule answers; peaks within two
    cells of the border are refined too, with the heatmap continued beyond it by its edge values. The mmpose0 protocol
    steps wherever the Hessian has an inverse, and leaves peaks near the border where they are.

    Args:
        heatmaps: (N, K, h, w) float32; values that are not finite count as 0.
        kernel: Size of the blur, which belongs to the weights: 17 for the Halpe model, 11 for COCO ones.
        method: ``"dark"``; ``"quarter"``: a quarter of a cell towards the higher neighbour; ``"argmax"``.
        protocol: As above.

    Returns:
        The keypoints; see ``Decoded``.
    """
    people, keypoints, height, width = heatmaps.shape
    maps = np.ascontiguousarray(heatmaps, dtype=np.float32).reshape(people * keypoints, height * width)
    peaks = maps.argmax(axis=1)
    scores = np.take_along_axis(maps, peaks[:, None], axis=1)[:, 0]
    if not np.isfinite(scores).all():  # a network that overflowed answers nothing rather than nonsense
        return decode(np.nan_to_num(heatmaps, posinf=0.0, neginf=0.0), kernel=kernel, method=method, protocol=protocol)
    y, x = np.divmod(peaks, width)
    found = scores > 0
    coordinates = np.stack([x, y], axis=1).astype(np.float64)
    covariances = np.tile(np.diag([width**2 / 12.0, height**2 / 12.0]), (len(maps), 1, 1))
    if method == "quarter":
        coordinates += _quarter_offsets(maps, x, y, (height, width), protocol)
    elif method == "dark" and len(maps):
        interior = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
        blurred = _blurred_windows(maps, x, y, (height, width), gaussian_kernel(kernel), edge_padded=~interior)
        steps, spread, definite = _newton_steps(np.log(np.maximum(blurred, _LOG_FLOOR)))
        covariances[definite] = spread[definite]
        if protocol == "mmpose0":
            coordinates += np.where(interior[:, None], steps, 0.0)
        else:
            believed = definite & (np.square(steps).sum(1) <= MAX_STEP_CELLS**2)
            quarter = _quarter_offsets(maps, x, y, (height, width), protocol)
            coordinates += np.where(believed[:, None], steps, quarter)
    coordinates[~found] = -1.0
    return Decoded(
        coordinates.astype(np.float32).reshape(people, keypoints, 2),
        scores.reshape(people, keypoints),
        covariances.astype(np.float32).reshape(people, keypoints, 2, 2),
    )


def _quarter_offsets(
    maps: NDArray[np.float32],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    size: tuple[int, int],
    protocol: Protocol,
) -> NDArray[np.float64]:
    """(M, 2): a quarter of a cell towards the higher neighbour on each axis."""
    height, width = size
    everyone = np.arange(len(maps))
    right = maps[everyone, y * width + np.minimum(x + 1, width - 1)]
    left = maps[everyone, y * width + np.maximum(x - 1, 0)]
    below = maps[everyone, np.minimum(y + 1, height - 1) * width + x]
    above = maps[everyone, np.maximum(y - 1, 0) * width + x]
    offsets = 0.25 * np.stack([np.sign(right - left), np.sign(below - above)], axis=1).astype(np.float64)
    if protocol == "mmpose0":
        offsets *= ((x > 1) & (x < width - 1) & (y > 1) & (y < height - 1))[:, None]
    return offsets


def _blurred_windows(
    maps: NDArray[np.float32],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    size: tuple[int, int],
    kernel: NDArray[np.float64],
    edge_padded: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(M, 5, 5) blurred values about each peak, zero outside the map or, where asked, its edge values."""
    height, width = size
    reach = len(kernel) // 2 + _REACH
    offsets = np.arange(-reach, reach + 1)
    columns, rows = x[:, None] + offsets, y[:, None] + offsets
    inner_columns, inner_rows = np.clip(columns, 0, width - 1), np.clip(rows, 0, height - 1)
    start = np.arange(len(maps)) * (height * width)
    windows = maps.reshape(-1).take((start[:, None] + inner_rows * width)[:, :, None] + inner_columns[:, None, :])
    windows = windows.astype(np.float64)
    crossing = np.flatnonzero(((inner_columns != columns) | (inner_rows != rows)).any(axis=1) & ~edge_padded)
    if len(crossing):
        inside = (inner_rows == rows)[crossing, :, None] & (inner_columns == columns)[crossing, None, :]
        windows[crossing] *= inside
    blur = np.zeros((2 * _REACH + 1, len(offsets)))
    for shift in range(len(blur)):
        blur[shift, shift : shift + len(kernel)] = kernel
    return np.asarray(blur @ (windows @ blur.T))


def _newton_steps(
    logs: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Steps (M, 2), covariances (M, 2, 2) and whether the Hessian is negative definite (M,), from (M, 5, 5) logs."""
    center = logs[:, 2, 2]
    dx = 0.5 * (logs[:, 2, 3] - logs[:, 2, 1])
    dy = 0.5 * (logs[:, 3, 2] - logs[:, 1, 2])
    dxx = 0.25 * (logs[:, 2, 4] - 2 * center + logs[:, 2, 0])
    dyy = 0.25 * (logs[:, 4, 2] - 2 * center + logs[:, 0, 2])
    dxy = 0.25 * (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1])
    determinant = dxx * dyy - dxy * dxy
    safe = np.where(determinant == 0, np.inf, determinant)  # a flat map does not move
    # minus the inverse of the Hessian, by Cramer's rule
    spread = np.stack([-dyy / safe, dxy / safe, dxy / safe, -dxx / safe], axis=1).reshape(-1, 2, 2)
    steps = (spread @ np.stack([dx, dy], axis=1)[:, :, None])[:, :, 0]
    definite = (dxx < 0) & (determinant > 1e-12)
    return steps, spread, definite
