"""Parts of the body's mesh on their own: local vertices, faces, neighbours, and where on the body each vertex lies."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wholepose.synth import meshes
from wholepose.synth.body import BODY_VERTICES, Body


@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
    """A piece of the base mesh with vertices counted from zero."""

    vertices: NDArray[np.int64]
    """(v,) rows of the body's vertices."""
    faces: NDArray[np.int64]
    """(f, 3) those that garments show."""
    whole_faces: NDArray[np.int64]
    """(w, 3) all, also those cut away."""
    neighbours: NDArray[np.int32]
    """(v, n) local neighbours, padded with the vertex itself."""

    def smoothed(self, values: NDArray[np.float32], rounds: int) -> NDArray[np.float32]:
        """Averages (v, ...) values over neighbours, repeatedly."""
        return meshes.smoothed(values, self.neighbours, rounds)


class Atlas:
    """Where every vertex lies on a standard adult, for all garments to be cut by.

    Args:
        body: The body.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        rest, heads, _ = body.shape({"age": 2 / 3, "african": 1.0, "asian": 1.0, "caucasian": 1.0})
        self.rest: NDArray[np.float32] = rest
        """(V, 3) positions on the standard adult, metres."""
        weights = body.skin_weights
        rows = body.bone_rows

        def share(*prefixes: str) -> NDArray[np.float32]:
            columns = [row for name, row in rows.items() if name.startswith(prefixes)]
            return np.asarray(weights[:, columns].sum(axis=1), dtype=np.float32)

        side = np.where(rest[:, :1] >= 0, 1.0, -1.0) * np.array([[1.0, 0, 0]]) + np.array([[0, 1.0, 1.0]])
        left = rest * side  # every vertex as if on the left
        self.arm: NDArray[np.float32] = share("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
        """(V,) how much each vertex belongs to an arm, 0 to 1."""
        self.leg: NDArray[np.float32] = share("upperleg", "lowerleg", "foot", "toe")
        self.foot: NDArray[np.float32] = share("foot", "toe")
        self.hand: NDArray[np.float32] = share("wrist", "finger", "metacarpal")
        self.head: NDArray[np.float32] = share("head", "eye")
        joints = [heads[rows[name]] for name in ("upperarm01.L", "lowerarm01.L", "wrist.L")]
        self.along_arm: NDArray[np.float32] = _along(left, joints)
        """(V,) 0 at the shoulder, 1 at the elbow, 2 at the wrist; below 0 on the trunk's side."""
        joints = [heads[rows[name]] for name in ("upperleg01.L", "lowerleg01.L", "foot.L")]
        self.along_leg: NDArray[np.float32] = _along(left, joints)
        """(V,) 0 at the hip, 1 at the knee, 2 at the ankle."""
        self.heads = heads
        self.normals: NDArray[np.float32] = meshes.vertex_normals(rest, body.faces)
        self._patches: dict[tuple[str, ...], Patch] = {}

    def patch(self, *groups: str) -> Patch:
        """All faces of the named groups of the base mesh."""
        if groups not in self._patches:
            self._patches[groups] = self.cut(self.body.group_faces(*groups))
        return self._patches[groups]

    def cut(self, face_rows: NDArray[np.int64]) -> Patch:
        """The given faces of the body as a patch."""
        faces = self.body.faces[face_rows]
        vertices, local = np.unique(faces, return_inverse=True)
        local_faces = local.reshape(faces.shape).astype(np.int64)
        return Patch(
            vertices=vertices.astype(np.int64),
            faces=local_faces,
            whole_faces=local_faces,
            neighbours=_neighbours(local_faces, len(vertices)),
        )

    def skin_faces(self) -> NDArray[np.int64]:
        """Rows of the faces that are skin."""
        return np.flatnonzero((self.body.faces < BODY_VERTICES).all(axis=1) & (self.body.face_groups == 0))


def _along(points: NDArray[np.floating], joints: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """How many bones along a chain of three joints each point lies."""
    first, middle, last = (joint.astype(np.float64) for joint in joints)
    upper, lower = middle - first, last - middle
    on_upper = (points - first) @ upper / (upper @ upper)
    on_lower = (points - middle) @ lower / (lower @ lower)
    # Beyond the plane that halves the bend, the second bone counts.
    split = (points - middle) @ (upper / np.linalg.norm(upper) + lower / np.linalg.norm(lower)) > 0
    return np.asarray(np.where(split, 1 + np.maximum(on_lower, 0), np.minimum(on_upper, 1)), dtype=np.float32)


def _neighbours(faces: NDArray[np.int64], count: int, most: int = 8) -> NDArray[np.int32]:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    table = np.tile(np.arange(count)[:, None], (1, most + 1))
    order = np.arange(len(edges)) - np.searchsorted(edges[:, 0], edges[:, 0])
    fits = order < most
    table[edges[fits, 0], order[fits] + 1] = edges[fits, 1]
    return table.astype(np.int32)
