"""The COCO assignment of detections to labelled people, vectorised over images and thresholds.

faster-coco-eval makes the same assignment but keeps it to itself; intervals, error kinds and pictures need to know who
was matched with whom. That both agree is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.arrangement import Arrangement


@dataclass(frozen=True, eq=False)
class Matches:
    """Which labelled person each of M detections was given, at each of T thresholds.

    Attributes:
        people: (T, M) int64 position in ``Arrangement.people``, -1 for nobody.
        ignored: (T, M) bool: the person found is one to ignore, so the detection is neither right nor wrong.
    """

    people: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(T, M) bool: true positives."""
        return (self.people >= 0) & ~self.ignored


def match(
    arrangement: Arrangement,
    similarity: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowds: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> Matches:
    """Gives each detection, best scored first, the most similar person who is still free.

    A person to ignore is taken only where nobody else is similar enough; a crowd can be taken again and again. Of two
    people equally similar, the later one is taken, as pycocotools does.

    Args:
        arrangement: The pairs.
        similarity: (P,) of the pairs.
        ignored: (N,) bool in the order given to ``arrange``.
        crowds: (N,) bool, likewise.
        thresholds: (T,) the least similarity that counts.

    Returns:
        The matches.
    """
    lowest = np.minimum(thresholds, 1 - 1e-10)[:, None]
    aside, crowd = ignored[arrangement.people], crowds[arrangement.people]
    taken = np.zeros((len(thresholds), len(aside)), dtype=np.bool_)
    matched = np.full((len(thresholds), len(arrangement.detections)), -1, dtype=np.int64)
    pair_ranks = arrangement.ranks[arrangement.pair_detections]
    # The n-th best detections of all images are independent of each other and are served together.
    for rank in range(int(pair_ranks.max(initial=-1)) + 1):
        pairs = np.flatnonzero((pair_ranks == rank) & (similarity >= lowest.min(initial=2.0)))
        if not len(pairs):
            continue
        people, rows = arrangement.pair_people[pairs], arrangement.pair_detections[pairs]
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        group = np.cumsum(np.r_[False, rows[1:] != rows[:-1]])
        free = (similarity[pairs] >= lowest) & (~taken[:, people] | crowd[people])
        chosen = _best(np.where(free & ~aside[people], similarity[pairs], -1.0), starts, group)
        second = _best(np.where(free & aside[people], similarity[pairs], -1.0), starts, group)
        chosen = np.where(chosen >= 0, chosen, second)
        threshold, place = np.nonzero(chosen >= 0)
        person = people[chosen[threshold, place]]
        matched[threshold, rows[starts[place]]] = person
        taken[threshold, person] = True
    return Matches(matched, (matched >= 0) & aside[matched] if len(aside) else np.zeros_like(matched, dtype=np.bool_))


def _best(values: NDArray[np.float64], starts: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the last largest value of each group of columns, -1 where all are negative: (T, groups)."""
    largest = np.maximum.reduceat(values, starts, axis=1)
    places = np.where((values == largest[:, group]) & (values >= 0), np.arange(values.shape[1]), -1)
    return np.asarray(np.maximum.reduceat(places, starts, axis=1))
