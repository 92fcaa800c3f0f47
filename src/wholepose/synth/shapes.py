"""Body shapes: from readable properties (age, sex, weight, ...) to weights of blend shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

VARIATIONS: Mapping[str, tuple[str, ...]] = {
    "race": ("african", "asian", "caucasian"),
    "gender": ("male", "female"),
    "age": ("newborn", "baby", "child", "young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "maxheight"),
    "proportions": ("idealproportions", "uncommonproportions"),
    "cupsize": ("mincup", "averagecup", "maxcup"),
    "firmness": ("minfirmness", "averagefirmness", "maxfirmness"),
}
"""The anchors between which every property interpolates, in the order of the body file's mask."""

_LOWEST = {"age": -1 / 3}


def phenotype_weights(phenotype: Mapping[str, float], mask: NDArray[np.integer]) -> NDArray[np.float64]:
    """Weights of the phenotype blend shapes: products of linear interpolation weights.

    Args:
        phenotype: Properties in [0, 1]; ``age`` reaches down to -1/3 (newborn; 0 baby, 1/3 child, 2/3 young, 1 old);
            ``african``, ``asian`` and ``caucasian`` are relative amounts. Missing ones are 0.5.
        mask: (P, 26) which anchors each blend shape multiplies.

    Returns:
        (P,) float64.
    """
    values: list[float] = []
    for name, anchors in VARIATIONS.items():
        if name == "race":
            amounts = np.array([phenotype.get(anchor, 0.5) for anchor in anchors])
            values.extend(amounts / max(amounts.sum(), 1e-9))
            continue
        positions = np.linspace(_LOWEST.get(name, 0.0), 1.0, len(anchors))
        value = float(np.clip(phenotype.get(name, 0.5), positions[0], positions[-1]))
        values.extend(np.interp(value, positions, row) for row in np.eye(len(anchors)))
    factors = np.where(mask.astype(bool), np.array(values)[None], 1.0)
    return np.asarray(factors.prod(axis=1))
