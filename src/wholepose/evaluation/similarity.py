"""Object keypoint similarity of detections and the labelled people of their image, for all parts in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.arrangement import Arrangement

_CHUNK_NUMBERS = 1 << 19
"""Pairs times keypoints that are worked on at once: 4 MiB an array, which stays in the processor's cache."""


def similarities(
    arrangement: Arrangement,
    detected: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    visible: NDArray[np.bool_],
    areas: NDArray[np.float64],
    boxes: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    columns: dict[str, NDArray[np.int64]],
) -> dict[str, NDArray[np.float64]]:
    """COCO's similarity of every pair, counting the keypoints of one part at a time.

    It is the mean over a person's labelled keypoints of exp(-d^2 / (2 area (2 sigma)^2)). For a person without any, d
    is the distance from a box of three times the sides about the person's, and the keypoints of all parts count: so the
    COCO evaluation forgives detections near somebody who is not labelled. A part's numbers are those that it gives
    when every label outside the part is deleted.

    Args:
        arrangement: The pairs, P of them.
        detected: (M, K, 2) keypoints of the detections in the order given to ``arrange``.
        keypoints: (N, K, 2) of the labelled people, likewise.
        visible: (N, K) which of them are labelled.
        areas: (N,) px^2 of the people.
        boxes: (N, 4) xyxy of the people.
        sigmas: (K,).
        columns: Part name to the indices of its keypoints.

    Returns:
        Part name to (P,) float64 in [0, 1]; 0 throughout for a part without keypoints.
    """
    pairs = len(arrangement.pair_people)
    result = {part: np.zeros(pairs) for part in columns}
    parts = [indices for indices in columns.values() if len(indices)]
    if not parts:
        return result
    everything = np.unique(np.concatenate(parts))
    variances = np.square(2 * sigmas)
    step = max(1, _CHUNK_NUMBERS // max(1, len(sigmas)))
    for start in range(0, pairs, step):
        chunk = slice(start, start + step)
        people = arrangement.people[arrangement.pair_people[chunk]]
        found = detected[arrangement.detections[arrangement.pair_detections[chunk]]].astype(np.float64)
        area = areas[people, None] + np.spacing(1)
        offsets = found - keypoints[people]
        near = np.exp(-(np.square(offsets[..., 0]) + np.square(offsets[..., 1])) / variances / area / 2)
        labelled = visible[people]
        near[~labelled] = 0
        forgiven = np.zeros(len(people))
        blank = np.flatnonzero(~np.stack([labelled[:, indices].any(axis=1) for indices in parts]).all(axis=0))
        outside = _outside(found[np.ix_(blank, everything)], boxes[people[blank]])
        forgiven[blank] = np.exp(-outside / variances[everything] / area[blank] / 2).mean(axis=1)
        for part, indices in columns.items():
            if not len(indices):
                continue
            counts = labelled[:, indices].sum(axis=1)
            similarity = near[:, indices].sum(axis=1) / np.maximum(counts, 1)
            result[part][chunk] = np.where(counts > 0, similarity, forgiven)
    return result


def _outside(points: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of points (B, K, 2) from boxes (B, 4) grown to three times their sides: (B, K)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = (boxes[:, :2] - sides)[:, None], (boxes[:, 2:] + sides)[:, None]
    gap = np.maximum(low - points, 0) + np.maximum(points - high, 0)
    return np.asarray(np.square(gap).sum(axis=-1))
