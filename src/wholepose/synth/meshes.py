"""Mesh arithmetic on the CPU: skinning, normals, smoothing, compiled by Warp."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import require


@functools.lru_cache(maxsize=1)
def load_warp() -> Any:
    """The ``warp`` module, told to keep its messages off stdout.

    Raises:
        ConfigError: It is not installed.
    """
    wp = require("warp", "synth")
    if hasattr(wp, "LOG_ERROR"):
        wp.config.log_level = wp.LOG_ERROR
    else:  # older Warp
        wp.config.quiet = True
    wp.init()
    return wp


@functools.lru_cache(maxsize=1)
def _tools() -> tuple[Any, Any]:
    return load_warp(), require("wholepose.synth.mesh_kernels", "synth")


def _array(values: NDArray[Any], dtype: Any) -> Any:
    wp, _ = _tools()
    return wp.array(np.ascontiguousarray(values), dtype=dtype, device="cpu", copy=False)


def skin(
    points: NDArray[np.float32],
    bones: NDArray[np.int32],
    weights: NDArray[np.float32],
    transforms: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Linear blend skinning.

    Args:
        points: (V, 3) at rest.
        bones: (V, K) bones that move each vertex.
        weights: (V, K) how much.
        transforms: (B, 3, 4) of the bones.

    Returns:
        (V, 3) float32.
    """
    wp, kernels = _tools()
    out = np.empty((len(points), 3), np.float32)
    wp.launch(
        kernels.skin,
        dim=len(points),
        inputs=[
            _array(points.astype(np.float32, copy=False), wp.vec3),
            _array(bones, wp.int32),
            _array(weights, wp.float32),
            _array(transforms[:, :, :3], wp.mat33),
            _array(transforms[:, :, 3], wp.vec3),
            _array(out, wp.vec3),
        ],
        device="cpu",
    )
    return out


def bounds(points: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Least and greatest corner (D,) of points (N, D); column by column, which is many times faster than by rows."""
    columns = [points[:, axis] for axis in range(points.shape[1])]
    return np.array([column.min() for column in columns]), np.array([column.max() for column in columns])


def any_corner(marked: NDArray[np.bool_], faces: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(F,) which triangles have a marked (V,) vertex."""
    return np.asarray(marked[faces[:, 0]] | marked[faces[:, 1]] | marked[faces[:, 2]])


def vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.integer]) -> NDArray[np.float32]:
    """Area-weighted unit normals (V, 3) of a triangle mesh; zero where a vertex has no face."""
    wp, kernels = _tools()
    out = np.zeros((len(vertices), 3), np.float32)
    normals = _array(out, wp.vec3)
    if len(faces):
        wp.launch(
            kernels.add_face_normals,
            dim=len(faces),
            inputs=[
                _array(vertices.astype(np.float32, copy=False), wp.vec3),
                _array(faces.astype(np.int32, copy=False), wp.int32),
                normals,
            ],
            device="cpu",
        )
    wp.launch(kernels.normalize, dim=len(vertices), inputs=[normals], device="cpu")
    return out


def smoothed(values: NDArray[np.float32], neighbours: NDArray[np.int32], rounds: int) -> NDArray[np.float32]:
    """Averages (V,) or (V, 3) values over (V, N) neighbours, `rounds` times."""
    wp, kernels = _tools()
    scalar = values.ndim == 1
    current = np.zeros((len(values), 3), np.float32)
    current[:, : 1 if scalar else 3] = values[:, None] if scalar else values
    spare = np.empty_like(current)
    table = _array(neighbours, wp.int32)
    first, second = _array(current, wp.vec3), _array(spare, wp.vec3)
    # Preparing a launch takes longer than averaging, so each direction is prepared once.
    there, back = (
        wp.launch(kernels.average, dim=len(values), inputs=[*ends], device="cpu", record_cmd=True)
        for ends in ((first, table, second), (second, table, first))
    )
    for number in range(rounds):
        (back if number % 2 else there).launch()
        current, spare = spare, current
    return current[:, 0].copy() if scalar else current


def hidden_by(
    vertices: NDArray[np.float32],
    faces: NDArray[np.integer],
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    reach_m: float,
) -> NDArray[np.bool_]:
    """Which points (N, 3) with normals (N, 3) lie at most `reach_m` under a mesh, or a centimetre above it."""
    wp, kernels = _tools()
    mesh = wp.Mesh(
        points=_array(vertices.astype(np.float32, copy=False), wp.vec3),
        indices=_array(faces.astype(np.int32).ravel(), wp.int32),
    )
    out = np.zeros(len(points), np.int32)
    wp.launch(
        kernels.hidden_by,
        dim=len(points),
        inputs=[mesh.id, _array(points, wp.vec3), _array(normals, wp.vec3), reach_m, _array(out, wp.int32)],
        device="cpu",
    )
    return out > 0
