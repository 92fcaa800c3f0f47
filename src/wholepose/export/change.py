"""How far a smaller or faster form of a model moves the keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wholepose.errors import WeightsError
from wholepose.runtimes.base import CropPredictions


@dataclass(frozen=True)
class KeypointChange:
    """Distances between the keypoints of two forms of a model on the same crops.

    A keypoint whose heatmap has two peaks of almost the same height may jump from one to the other, however little has
    changed; so the largest distance says little, and the median is what a bound is put on.

    Attributes:
        keypoints: How many were compared.
        median_px: Median distance, crop pixels.
        p95_px: Distance that 95 % of the keypoints stay below, crop pixels.
        max_px: Largest distance, crop pixels.
        median_score: Median difference of the scores, without sign.
    """

    keypoints: int
    median_px: float
    p95_px: float
    max_px: float
    median_score: float


def keypoint_change(before: CropPredictions, after: CropPredictions) -> KeypointChange:
    """Compares two answers about the same crops.

    Args:
        before: Of the model as it was; at least one crop.
        after: Of its other form.

    Raises:
        ValueError: The two are not of the same shape, or empty.
    """
    if before.keypoints.shape != after.keypoints.shape or not before.keypoints.size:
        raise ValueError(f"cannot compare keypoints {before.keypoints.shape} with {after.keypoints.shape}")
    distances = np.linalg.norm(after.keypoints.astype(np.float64) - before.keypoints, axis=-1)
    median, most, largest = np.quantile(distances, [0.5, 0.95, 1.0])
    scores = np.abs(after.scores.astype(np.float64) - before.scores)
    return KeypointChange(distances.size, float(median), float(most), float(largest), float(np.median(scores)))


def check_change(change: KeypointChange, limit_px: float, where: str, remedy: str) -> None:
    """Refuses a form of a model that moves the keypoints too far.

    Args:
        change: What was measured.
        limit_px: Largest median, crop pixels.
        where: Begins the message: the file, and in what form.
        remedy: Ends it.

    Raises:
        WeightsError: The median is above the limit.
    """
    if not change.median_px <= limit_px:
        raise WeightsError(
            f"{where} half of the keypoints move by more than {change.median_px:.3f} px (at most {limit_px:g}); "
            f"{remedy}"
        )
