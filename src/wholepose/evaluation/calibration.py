"""Do keypoint scores mean what they say: of the keypoints scored 0.8, are eight in ten right?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.localization import RIGHT_SIMILARITY, Localization
from wholepose.evaluation.results import Results

BINS = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """A reliability curve over equal bins of the score, from 0 to 1.

    A keypoint is right when its similarity to its label is above 0.5.

    Attributes:
        counts: (BINS,) int64 keypoints in each bin.
        mean_scores: (BINS,) float64, NaN in an empty bin.
        right: (BINS,) float64 share of right keypoints, likewise.
        expected_error: Mean distance of score and share over keypoints (ECE), None without keypoints.
        brier: Mean square of score less outcome, None without keypoints.
    """

    counts: NDArray[np.int64]
    mean_scores: NDArray[np.float64]
    right: NDArray[np.float64]
    expected_error: float | None
    brier: float | None


def calibrate(results: Results, localization: Localization) -> Calibration:
    """Measures the scores of the labelled keypoints of everybody who has a detection.

    Args:
        results: The detections; scores are clipped to [0, 1].
        localization: Who has which detection, and how similar their keypoints are.

    Returns:
        The curve.
    """
    found = localization.found
    judged = localization.visible[found]
    scores = np.clip(results.keypoint_scores[localization.detections[found]][judged], 0, 1)
    outcome = (localization.similarities[found][judged] > RIGHT_SIMILARITY).astype(np.float64)
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=values, minlength=BINS) for values in (scores, outcome)]
    mean_scores, right = (np.where(counts > 0, each / np.maximum(counts, 1), np.nan) for each in sums)
    total = len(scores)
    return Calibration(
        counts=counts,
        mean_scores=mean_scores,
        right=right,
        expected_error=float(np.abs(sums[0] - sums[1]).sum() / total) if total else None,
        brier=float(np.square(scores - outcome).mean()) if total else None,
    )
