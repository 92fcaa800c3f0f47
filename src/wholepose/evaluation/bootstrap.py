"""95 % intervals by the bootstrap over images.

Images are drawn with replacement, as many as there are, a thousand times; the interval goes from the 2.5th to the
97.5th percentile of what each draw gives. An image drawn twice brings its people and its detections twice. It is whole
images that are drawn because the people in one photo succeed or fail together.

For average precision nothing is matched anew: matching goes image by image, so a draw only changes how often each match
counts. Precision is read at true positives alone, since between two of them it can only fall.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.arrangement import Arrangement
from wholepose.evaluation.matching import Matches

REPLICATES = 1000
_PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float]


def image_weights(images: int, replicates: int = REPLICATES, seed: int = 0) -> NDArray[np.uint16]:
    """How often each image is drawn in each replicate: (R, I), each row of sum I."""
    random = np.random.default_rng(seed)
    weights = np.empty((replicates, images), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(random.integers(0, max(images, 1), images), minlength=images)
    return weights


def interval(samples: NDArray[np.float64]) -> Interval | None:
    """The 2.5th and the 97.5th percentile; None where no replicate gives a number (NaN)."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    low, high = np.percentile(samples, _PERCENTILES)
    return float(low), float(high)


def ratio_samples(
    totals: NDArray[np.float64], counts: NDArray[np.float64], weights: NDArray[np.uint16]
) -> NDArray[np.float64]:
    """A mean over things that lie in images, in each replicate.

    Args:
        totals: (I,) sum of the values of each image.
        counts: (I,) number of values of each image.
        weights: (R, I).

    Returns:
        (R,) float64; NaN where a replicate has drawn no value.
    """
    columns = np.stack([totals, counts], axis=1)
    # One replicate at a time: all at once as floats would take gigabytes on a set of 100,000 images.
    total, number = np.array([weight.astype(np.float64) @ columns for weight in weights]).reshape(-1, 2).T
    return np.asarray(np.where(number > 0, total / np.maximum(number, 1e-12), np.nan))


def average_precision_samples(
    arrangement: Arrangement,
    matches: Matches,
    scores: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    recalls: NDArray[np.float64],
    weights: NDArray[np.uint16],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision and recall at each threshold in each replicate.

    Args:
        arrangement: Who shares an image with whom.
        matches: Who was matched with whom at each of T thresholds.
        scores: (M,) of the detections in the order given to ``arrange``.
        ignored: (N,) bool of the labelled people, likewise.
        recalls: Recalls at which precision is read.
        weights: (R, I).

    Returns:
        Precision and recall, both (R, T) float64; NaN where a replicate has drawn nobody to find.
    """
    order = np.argsort(-scores[arrangement.detections], kind="stable")
    images = arrangement.detection_images[order]
    right, aside = matches.right[:, order], matches.ignored[:, order]
    # Detections after the last true positive change nothing.
    reach = int(np.flatnonzero(right.any(axis=0)).max(initial=-1)) + 1
    images = images[:reach]
    hits = [np.flatnonzero(row[:reach]) for row in right]
    skips = [np.flatnonzero(row[:reach]) for row in aside]
    skipped_before = [np.searchsorted(skip, hit) for hit, skip in zip(hits, skips, strict=True)]
    wanted = np.bincount(arrangement.person_images[~ignored[arrangement.people]], minlength=arrangement.images).astype(
        np.float64
    )

    precision = np.full((len(weights), len(right)), np.nan)
    recall = np.full_like(precision, np.nan)
    for replicate, drawn_images in enumerate(weights):
        weight = drawn_images.astype(np.float64)
        total = float(weight @ wanted)
        if total <= 0:
            continue
        drawn = weight[images]
        seen = np.cumsum(drawn)
        for row, (hit, skip, before) in enumerate(zip(hits, skips, skipped_before, strict=True)):
            if not len(hit):
                precision[replicate, row] = recall[replicate, row] = 0.0
                continue
            found = np.cumsum(drawn[hit])
            skipped = np.concatenate([[0.0], np.cumsum(drawn[skip])])[before]
            level = found / np.maximum(seen[hit] - skipped, 1e-12)
            level = np.maximum.accumulate(level[::-1])[::-1]
            places = np.searchsorted(found / total, recalls, side="left")
            precision[replicate, row] = np.append(level, 0.0)[places].mean()
            recall[replicate, row] = found[-1] / total
    return precision, recall
