"""The human body: one mesh that takes a shape, an expression and a pose.

Convention:
    Metres; z up, x towards the person's left, the person faces -y. A pose gives every bone a rotation about its head,
    in the axes of the world at rest, applied on top of its parent's.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError
from wholepose.synth import meshes
from wholepose.synth.build import FORMAT, build_body
from wholepose.synth.shapes import phenotype_weights
from wholepose.weights.locks import exclusive

BODY_VERTICES = 13380
"""The first vertices of the mesh are the skin; helpers for garments, eyes, teeth and hair follow."""


class Body:
    """Mesh, bones and shapes, loaded from a body file.

    Args:
        path: The ``.npz`` that :func:`wholepose.synth.build.build_body` wrote.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
        self.mean: NDArray[np.float32] = arrays["mean"]
        basis = arrays["basis"].astype(np.float32) * arrays["basis_scale"][:, None, None]
        self._basis = basis.reshape(len(basis), -1)
        self._phenotype_mask = arrays["phenotype_mask"]
        self._phenotype_matrix = arrays["phenotype_to_components"]
        self._local_matrix = arrays["local_to_components"]
        self._offset = arrays["component_offset"]
        self._local_rows = {str(name): row for row, name in enumerate(arrays["local_names"])}
        self.bone_names = [str(name) for name in arrays["bone_names"]]
        self.bone_parents: NDArray[np.int32] = arrays["bone_parents"]
        self.bone_rows = {name: row for row, name in enumerate(self.bone_names)}
        self.num_vertices = len(arrays["skin_indices"])
        weights = np.zeros((self.num_vertices, len(self.bone_names)), dtype=np.float32)
        np.put_along_axis(weights, arrays["skin_indices"].astype(np.int64), arrays["skin_weights"], axis=1)
        self.skin_weights = weights
        """(V, B) how much each bone moves each vertex."""
        self.skin_bones: NDArray[np.int32] = arrays["skin_indices"].astype(np.int32)
        self.skin_amounts: NDArray[np.float32] = arrays["skin_weights"]
        """(V, 5) bones and amounts, most moving first."""
        self._action_rows = {str(name): row for row, name in enumerate(arrays["action_names"])}
        self._action_vertices = arrays["action_vertices"]
        self._actions = arrays["actions"].astype(np.float32)
        self.faces: NDArray[np.int32] = arrays["faces"]
        self.face_uv: NDArray[np.int32] = arrays["face_uv"]
        self.face_groups: NDArray[np.uint8] = arrays["face_groups"]
        self.group_names = [str(name) for name in arrays["group_names"]]
        self.uv: NDArray[np.float32] = arrays["uv"]
        self.masks = {
            name.removeprefix("mask_"): value.astype(np.float32) / 255
            for name, value in arrays.items()
            if name.startswith("mask_")
        }
        self.regressors = {
            str(name): (
                arrays["regressor_vertices"][arrays["regressor_rows"] == row],
                arrays["regressor_weights"][arrays["regressor_rows"] == row],
            )
            for row, name in enumerate(arrays["regressor_names"])
        }

    @property
    def action_names(self) -> list[str]:
        """Names of the facial actions, such as ``"jawOpen"``."""
        return list(self._action_rows)

    @property
    def local_names(self) -> list[str]:
        """Names of the local changes of shape; those of the face are the ones that the body file keeps well."""
        return list(self._local_rows)

    def group_faces(self, *names: str) -> NDArray[np.int64]:
        """Rows of :attr:`faces` that belong to any of the named groups."""
        numbers = [self.group_names.index(name) for name in names]
        return np.flatnonzero(np.isin(self.face_groups, numbers))

    def shape(
        self, phenotype: Mapping[str, float], local_changes: Mapping[str, float] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The body at rest.

        Args:
            phenotype: See :func:`wholepose.synth.shapes.phenotype_weights`.
            local_changes: Name to amount in [0, 1].

        Returns:
            Vertices (V, 3), bone heads (B, 3) and bone tails (B, 3), float32 metres.
        """
        coefficients = phenotype_weights(phenotype, self._phenotype_mask) @ self._phenotype_matrix + self._offset
        for name, amount in (local_changes or {}).items():
            coefficients = coefficients + amount * self._local_matrix[self._local_rows[name]]
        # Not a matrix product: BLAS rounds by how many threads it takes, and one seed shall give one picture.
        offsets = np.einsum("k,kv->v", coefficients.astype(np.float32), self._basis)
        points = self.mean + offsets.reshape(-1, 3)
        count = len(self.bone_names)
        vertices = points[: self.num_vertices]
        return vertices, points[self.num_vertices : self.num_vertices + count], points[self.num_vertices + count :]

    def with_expression(self, vertices: NDArray[np.float32], actions: Mapping[str, float]) -> NDArray[np.float32]:
        """Rest vertices (V, 3) with facial actions, name to amount in [0, 1], on top."""
        amounts = np.zeros(len(self._actions), dtype=np.float32)
        for name, amount in actions.items():
            amounts[self._action_rows[name]] = amount
        used = np.flatnonzero(amounts)
        moved = np.tensordot(amounts[used], self._actions[used], axes=1)
        # Expressions are made for an adult's head; a child's is smaller.
        result = vertices.copy()
        result[self._action_vertices] += moved * self.head_size(vertices) / self.head_size(self.mean)
        return np.asarray(result, dtype=np.float32)

    def head_size(self, vertices: NDArray[np.float32]) -> float:
        """Distance from the chin's tip to the crown at rest, metres."""
        return float(np.linalg.norm(vertices[_CROWN] - vertices[_CHIN]))

    def bone_transforms(
        self, heads: NDArray[np.float32], rotations: Mapping[str, NDArray[np.floating]]
    ) -> NDArray[np.float32]:
        """Forward kinematics.

        Args:
            heads: (B, 3) bone heads at rest.
            rotations: Bone name to (3, 3) rotation in world axes at rest; bones left out are straight.

        Returns:
            (B, 3, 4) maps from rest to pose.
        """
        transforms = np.zeros((len(heads), 3, 4))
        eye = np.eye(3)
        for bone, name in enumerate(self.bone_names):
            parent = self.bone_parents[bone]
            rotation = rotations.get(name)
            if parent < 0:
                linear, origin = (eye if rotation is None else rotation), heads[bone].astype(np.float64)
            else:
                if rotation is None:
                    transforms[bone] = transforms[parent]
                    continue
                linear = transforms[parent, :, :3] @ rotation
                origin = transforms[parent, :, :3] @ heads[bone] + transforms[parent, :, 3]
            transforms[bone, :, :3] = linear
            transforms[bone, :, 3] = origin - linear @ heads[bone]
        return transforms.astype(np.float32)

    def skin(
        self, vertices: NDArray[np.float32], transforms: NDArray[np.float32], rows: NDArray[np.integer] | slice
    ) -> NDArray[np.float32]:
        """Poses rest `vertices` (v, 3), which are those `rows` of the body's, by bone `transforms` (B, 3, 4)."""
        return meshes.skin(vertices, self.skin_bones[rows], self.skin_amounts[rows], transforms)


_CROWN, _CHIN = 881, 747
"""Body vertices on the midline: the top of the head and the tip of the chin."""


@functools.lru_cache(maxsize=1)
def load_body(folder: Path) -> Body:
    """Loads the body from a cache folder; the first use builds it there, which takes two minutes.

    Of several processes that come first, one builds and the others wait for it.

    Raises:
        ConfigError: It has to be built and anny is not installed, or the file is damaged.
        OSError: The folder cannot be written.
    """
    path = folder / f"body_{FORMAT}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")):
            if not path.is_file():
                build_body(path)
    try:
        return Body(path)
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it and it is built anew") from error
