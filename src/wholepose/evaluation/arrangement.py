"""Labelled people and detections laid out by image, and every pair of them that shares one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_DETECTIONS = 20
"""Detections an image that count, the best scored: the COCO keypoint evaluation's number."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Who meets whom: P pairs of a detection and a labelled person of the same image.

    Images are rows 0 to I - 1. Detections are in order of image, then falling score (those of one score in the order
    given), people in order of image. All indices are int64.

    Attributes:
        images: I, the number of images, with people or without.
        people: (N,) index of each person in the order given to ``arrange``.
        person_images: (N,) image row, rising.
        detections: (M,) index of each detection in the order given; those beyond the limit an image are gone.
        detection_images: (M,) image row, rising.
        ranks: (M,) place of a detection among those of its image, 0 is the best.
        pair_detections: (P,) position in ``detections``, rising.
        pair_people: (P,) position in ``people``, rising within a detection.
    """

    images: int
    people: NDArray[np.int64]
    person_images: NDArray[np.int64]
    detections: NDArray[np.int64]
    detection_images: NDArray[np.int64]
    ranks: NDArray[np.int64]
    pair_detections: NDArray[np.int64]
    pair_people: NDArray[np.int64]


def arrange(
    images: int,
    person_images: NDArray[np.int64],
    detection_images: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    max_detections: int = MAX_DETECTIONS,
) -> Arrangement:
    """Lays people and detections out by image.

    Args:
        images: Number of images.
        person_images: (N,) image row of each person, any order.
        detection_images: (M,) image row of each detection, any order.
        scores: (M,) of the detections.
        max_detections: How many detections an image count.

    Returns:
        The arrangement; for M = 0 or N = 0 it has no pairs.
    """
    people = np.argsort(person_images, kind="stable").astype(np.int64)
    detections = np.lexsort((-scores, detection_images)).astype(np.int64)
    rows = detection_images[detections]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = ranks < max_detections
    detections, rows, ranks = detections[kept], rows[kept], ranks[kept]

    person_rows = person_images[people]
    first = np.searchsorted(person_rows, rows, side="left")
    company = np.searchsorted(person_rows, rows, side="right") - first  # people in the image of each detection
    pair_detections = np.repeat(np.arange(len(rows)), company)
    starts = np.cumsum(company) - company
    pair_people = np.arange(len(pair_detections)) - np.repeat(starts - first, company)
    return Arrangement(images, people, person_rows, detections, rows, ranks, pair_detections, pair_people)
