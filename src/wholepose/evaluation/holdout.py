"""Which pictures of a set stay out of training, so that they can measure it.

Some sets come without a validation half. Training scripts and benchmarks both take the split from here, so that a model
is never measured on what it learnt from.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def holdout_ids(ids: Iterable[int], count: int = 200, seed: int = 0) -> frozenset[int]:
    """Chooses the images that are held out for measuring.

    The sorted, distinct ids are put in a random order that depends on the seed alone, and the first ones are taken: the
    order in which a file lists its images, or lists one twice, changes nothing.

    Args:
        ids: Image ids of the whole set.
        count: How many to hold out.
        seed: Another seed, another choice.

    Returns:
        The ids to leave out of training.

    Raises:
        ValueError: The set has fewer images than are to be held out.
    """
    ordered = sorted(set(ids))
    if not 0 <= count <= len(ordered):
        raise ValueError(f"cannot hold out {count} of {len(ordered)} images")
    order = np.random.default_rng(seed).permutation(len(ordered))
    return frozenset(ordered[position] for position in order[:count])
