"""How well people keep their numbers: CLEAR MOT (Bernardin and Stiefelhagen) and IDF1 (Ristani et al.)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import box_iou
from wholepose.tracking import assign


@dataclass(frozen=True)
class TrackingScores:
    """Scores over all frames.

    Attributes:
        mota: 1 minus misses, false alarms and switches as a share of the true people; 1 is best, below 0 possible.
        idf1: Share of all people, true and found, that agree when each true person is given one number throughout.
        switches: How often a true person's number changed.
        fragments: How often a true person was lost and found again.
        misses: True people not found.
        false_alarms: People found where none is.
        people: True people, summed over frames.
    """

    mota: float
    idf1: float
    switches: int
    fragments: int
    misses: int
    false_alarms: int
    people: int


Group = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Numbers (N,) and boxes (N, 4) xyxy of the people of a frame."""


def tracking_scores(frames: Iterable[tuple[Group, Group]], *, min_iou: float = 0.5) -> TrackingScores:
    """Scores tracks against the truth.

    Args:
        frames: For each frame the true people and those found.
        min_iou: Boxes that overlap less are not the same person.

    Raises:
        ValueError: No frame holds a true person, so that there is nothing to score.
    """
    misses = false_alarms = switches = fragments = people = found_people = 0
    last_number: dict[int, int] = {}  # of each true person, when last matched
    matched_before: set[int] = set()
    agreements: dict[tuple[int, int], int] = {}
    for (true_ids, true_boxes), (ids, boxes) in frames:
        overlaps = box_iou(true_boxes, boxes)
        possible = np.where(overlaps >= min_iou, overlaps, 0)
        # CLEAR MOT: a match of the frame before stands as long as it is good enough.
        standing = np.array([[last_number.get(int(true)) == int(found) for found in ids] for true in true_ids])
        rows, columns = assign(possible + (possible > 0) * standing.reshape(possible.shape) * len(boxes))
        matched = set()
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            true, found = int(true_ids[row]), int(ids[column])
            matched.add(true)
            if true in last_number:
                switches += last_number[true] != found
                fragments += true not in matched_before
            last_number[true] = found
        for row, column in zip(*(indices.tolist() for indices in np.nonzero(possible)), strict=True):
            pair = int(true_ids[row]), int(ids[column])
            agreements[pair] = agreements.get(pair, 0) + 1
        matched_before = matched
        misses += len(true_ids) - len(rows)
        false_alarms += len(ids) - len(rows)
        people += len(true_ids)
        found_people += len(ids)
    if not people:
        raise ValueError("no frame holds a true person; there is nothing to score")
    return TrackingScores(
        mota=1 - (misses + false_alarms + switches) / people,
        idf1=2 * _identity_matches(agreements) / (people + found_people),
        switches=switches,
        fragments=fragments,
        misses=misses,
        false_alarms=false_alarms,
        people=people,
    )


def _identity_matches(agreements: dict[tuple[int, int], int]) -> float:
    """In how many cases people agree if each true person is paired with one number, as well as can be."""
    true_ids = {true: row for row, true in enumerate(sorted({true for true, _ in agreements}))}
    numbers = {number: column for column, number in enumerate(sorted({number for _, number in agreements}))}
    table = np.zeros((len(true_ids), len(numbers)))
    for (true, number), count in agreements.items():
        table[true_ids[true], numbers[number]] = count
    rows, columns = assign(table)
    return float(table[rows, columns].sum())
