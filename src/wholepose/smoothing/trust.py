"""How far a measured keypoint is to be believed, next to the others of its person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SURE_SCORE = 0.7
"""Keypoints that score this are believed in full."""


def score_trust(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """(...) in [0, 1] of (...) scores: the score as a share of a sure one's."""
    return np.asarray(np.minimum(scores.astype(np.float64) / _SURE_SCORE, 1))


def usual_variance(covariances: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The variance that keypoints of a person usually have in a frame.

    A covariance from a heatmap holds the width of the heatmap's bell, which all keypoints share and which grows with
    the person. Only what exceeds it tells one keypoint from another.

    Args:
        covariances: (N, K, 2, 2) px^2.
        known: (N, K) bool, the keypoints to count.

    Returns:
        (N,) float64 px^2: the median of half the traces, at least 1e-6.
    """
    variances = np.trace(covariances.astype(np.float64), axis1=-2, axis2=-1) / 2
    medians = [np.median(row[mask]) if mask.any() else 0.0 for row, mask in zip(variances, known, strict=True)]
    return np.maximum(np.array(medians, dtype=np.float64), 1e-6)


def gain_matrices(
    covariances: NDArray[np.floating], usual: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of a step to take, by direction.

    Along a direction in which a keypoint's standard deviation is twice the usual, it goes half the way; where it is
    surer than usual, all of it. Score and covariance mostly tell of the same doubt: the lower of the two counts, once.

    Args:
        covariances: (N, K, 2, 2) px^2.
        usual: (N,) px^2, of ``usual_variance``.
        limits: (N, K) in [0, 1], of ``score_trust``: no share is larger.

    Returns:
        (N, K, 2, 2) float64 symmetric, eigenvalues in [0, 1].
    """
    variances, directions = np.linalg.eigh(covariances.astype(np.float64))
    limit = usual[:, None, None]
    shares = np.minimum(np.sqrt(limit / np.maximum(variances, limit)), limits[..., None])
    return np.asarray((directions * shares[..., None, :]) @ np.swapaxes(directions, -1, -2))
