"""Heatmap targets drawn on the device, for a whole batch in one call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholepose.geometry import Protocol

_TAIL = 1e-15


def heatmap_targets(
    keypoints: Tensor,
    visibility: Tensor,
    heatmap_size: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 3.0,
    protocol: Protocol = "default",
) -> tuple[Tensor, Tensor]:
    """Draws the same targets as :func:`wholepose.heatmaps.encode`, on the device that holds the keypoints.

    Args:
        keypoints: (B, K, 2) float crop pixels.
        visibility: (B, K) float; 0 is unlabelled.
        heatmap_size: (h, w) in cells.
        stride: Crop pixels a cell.
        sigma: Standard deviation of the Gaussian in cells.
        protocol: ``"default"``: a visibility below 0.35 is unlabelled, all others weigh 1. ``"mmpose0"``: the
            visibility is the weight, and from 0.5 downwards the target is empty.

    Returns:
        Targets (B, K, h, w) float32 and weights (B, K) float32.
    """
    height, width = heatmap_size
    cells = keypoints.float() / stride
    finite = torch.isfinite(cells).all(-1)
    cells = torch.where(finite[..., None], cells, 0.0)
    radius = 3 * sigma
    size = torch.tensor([width, height], device=cells.device)
    inside = (torch.floor(cells - radius) < size).all(-1) & (torch.floor(cells + radius + 1) >= 0).all(-1) & finite
    if protocol == "mmpose0":
        weights = torch.where(inside, visibility.float(), 0.0)
        drawn = weights > 0.5
    else:
        drawn = inside & (visibility >= 0.35)
        weights = drawn.float()
    columns = torch.arange(width, device=cells.device) - cells[..., 0, None]
    rows = torch.arange(height, device=cells.device) - cells[..., 1, None]
    scale = -0.5 / sigma**2
    # Without the tails, whose products are denormal numbers, the product below takes a third of the time.
    columns, rows = (nn.functional.threshold(torch.exp(axis.square() * scale), _TAIL, 0.0) for axis in (columns, rows))
    rows = rows * drawn[..., None]
    return rows[..., :, None] * columns[..., None, :], weights
