"""What training minimises."""

from __future__ import annotations

from torch import Tensor, nn


def heatmap_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heatmaps, each keypoint weighted, as the reference computes it.

    The mean runs over the batch, all keypoints and all cells, those of weight 0 included, so that a person with few
    labels counts for less.

    Args:
        heatmaps: (B, K, h, w) predictions.
        targets: (B, K, h, w).
        weights: (B, K) or (B, K, 1).

    Returns:
        A scalar.
    """
    weights = weights.reshape(*heatmaps.shape[:2])
    error = nn.functional.mse_loss(heatmaps.float(), targets.float(), reduction="none").mean((2, 3))
    return (error * weights).mean()
