"""What kind of error each keypoint is, after Ronchi and Perona.

"Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017.

Similarity of a keypoint to a label is exp(-d^2 / (2 area (2 sigma)^2)), with the area of the label's person.

- good: at least .85 similar to its label;
- jitter: at least .5, a little off;
- inversion: not similar to its label, but to the mirror keypoint of the same person, a left wrist on the right wrist;
- swap: not similar to its label, but to the same keypoint, or its mirror, of another person;
- miss: near none of these.

Where both an inversion and a swap fit, the more similar one is it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.arrangement import Arrangement
from wholepose.evaluation.localization import RIGHT_SIMILARITY, Localization
from wholepose.evaluation.results import Results

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD_SIMILARITY = 0.85
_CHUNK_NUMBERS = 1 << 19


def error_kinds(
    annotations: AnnotationSet, results: Results, arrangement: Arrangement, localization: Localization
) -> NDArray[np.int8]:
    """Finds the kind of every labelled keypoint of everybody who has a detection.

    Args:
        annotations: The labelled people.
        results: Their detections.
        arrangement: Who shares an image with whom; only its people are looked at.
        localization: Who has which detection, and how similar their keypoints are.

    Returns:
        (N, K) int8 index into ``KINDS``, -1 where there is no label or no detection.
    """
    kinds = np.full(localization.visible.shape, -1, dtype=np.int8)
    own = localization.similarities
    judged = localization.visible & localization.found[:, None]
    kinds[judged & (own >= GOOD_SIMILARITY)] = KINDS.index("good")
    kinds[judged & (own >= RIGHT_SIMILARITY) & (own < GOOD_SIMILARITY)] = KINDS.index("jitter")
    wrong = judged & (own < RIGHT_SIMILARITY)
    sufferers = np.flatnonzero(wrong.any(axis=1))
    mirror = annotations.skeleton.flip_indices
    inverted = np.zeros(own.shape)
    inverted[sufferers] = np.where(
        mirror == np.arange(len(mirror)), 0, _similar(annotations, results, localization, sufferers, sufferers, mirror)
    )
    swapped = np.zeros(own.shape)
    victims, others = _neighbours(arrangement, sufferers)
    step = max(1, _CHUNK_NUMBERS // max(1, own.shape[1]))
    for start in range(0, len(victims), step):
        victim, other = victims[start : start + step], others[start : start + step]
        for keypoints in (np.arange(len(mirror)), mirror):
            similar = _similar(annotations, results, localization, victim, other, keypoints)
            np.maximum.at(swapped, victim, similar)
    kinds[wrong] = KINDS.index("miss")
    kinds[wrong & (inverted >= RIGHT_SIMILARITY) & (inverted >= swapped)] = KINDS.index("inversion")
    kinds[wrong & (swapped >= RIGHT_SIMILARITY) & (swapped > inverted)] = KINDS.index("swap")
    return kinds


def _similar(
    annotations: AnnotationSet,
    results: Results,
    localization: Localization,
    people: NDArray[np.int64],
    labels: NDArray[np.int64],
    keypoints: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Similarity of the detections of (S,) people to the labels of (S,) people at ``keypoints`` (K,): (S, K)."""
    places = results.keypoints[localization.detections[people]]
    distances = np.square(places - annotations.keypoints[labels][:, keypoints]).sum(axis=-1)
    reach = np.square(2 * annotations.skeleton.sigmas) * (annotations.areas[labels, None] + np.spacing(1))
    return np.where(localization.visible[labels][:, keypoints], np.exp(-distances / reach / 2), 0)


def _neighbours(arrangement: Arrangement, people: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of one of these people and another labelled person of the same image."""
    rows = np.empty(len(arrangement.people), dtype=np.int64)
    rows[arrangement.people] = arrangement.person_images
    first = np.searchsorted(arrangement.person_images, rows[people], side="left")
    company = np.searchsorted(arrangement.person_images, rows[people], side="right") - first
    starts = np.cumsum(company) - company
    victims = np.repeat(people, company)
    others = arrangement.people[np.arange(len(victims)) - np.repeat(starts - first, company)]
    apart = victims != others
    return victims[apart], others[apart]
