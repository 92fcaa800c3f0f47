"""Where the 136 Halpe keypoints lie on the body: data in ``keypoints.json``, matrices here."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.skeletons import HALPE136
from wholepose.synth.body import Body


class KeypointMap:
    """Turns a posed body into 136 points.

    A keypoint is a mix of mesh vertices, of heads and tails of bones and of other keypoints, or one of anny's
    regressors.

    Args:
        body: The body whose vertices and bones the definitions name.
    """

    def __init__(self, body: Body) -> None:
        definitions = _definitions()
        names = HALPE136.keypoint_names
        bones = len(body.bone_names)
        total = body.num_vertices + 2 * bones
        weights = np.zeros((len(names), total))
        for row, name in enumerate(names):
            definition = definitions[name]
            for vertex, weight in definition.get("vertices", {}).items():
                weights[row, int(vertex)] = weight
            if "regressor" in definition:
                vertices, values = body.regressors[definition["regressor"]]
                weights[row, vertices] = values
            for end, weight in definition.get("bones", {}).items():
                bone, _, which = end.partition(":")
                weights[row, body.num_vertices + body.bone_rows[bone] + (bones if which == "tail" else 0)] = weight
        for row, name in enumerate(names):
            for other, weight in definitions[name].get("keypoints", {}).items():
                weights[row] += weight * weights[names.index(other)]
        weights /= weights.sum(axis=1, keepdims=True)
        rows, self._used = np.nonzero(weights)
        self._weights = weights[rows, self._used].astype(np.float32)[:, None]
        self._starts = np.searchsorted(rows, np.arange(len(names)))
        self.depths_m: NDArray[np.float32] = np.array(
            [definitions[name]["depth_m"] for name in names], dtype=np.float32
        )
        """(136,) how deep under skin and cloth each point may lie and still count as seen, for an adult."""

    def __call__(
        self, vertices: NDArray[np.float32], heads: NDArray[np.float32], tails: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The 136 points.

        Args:
            vertices: (V, 3) posed vertices.
            heads: (B, 3) posed bone heads.
            tails: (B, 3) posed bone tails.

        Returns:
            (136, 3) float32 in Halpe order.
        """
        points = np.concatenate([vertices, heads, tails])[self._used] * self._weights
        return np.asarray(np.add.reduceat(points, self._starts, axis=0), dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _definitions() -> dict[str, dict[str, Any]]:
    text = resources.files("wholepose.synth").joinpath("keypoints.json").read_text(encoding="utf-8")
    definitions: dict[str, dict[str, Any]] = json.loads(text)
    return definitions
