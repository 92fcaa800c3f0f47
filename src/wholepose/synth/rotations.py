"""Small rotations: axis and angle, one direction onto another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def cross(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cross product of two vectors (3,), several times faster than NumPy's."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def about(axis: ArrayLike, angle_deg: float) -> Matrix:
    """Rotation (3, 3) about an axis of any length."""
    vector = np.asarray(axis, dtype=np.float64)
    return from_vector(vector * (math.radians(angle_deg) / math.sqrt(vector @ vector)))


def from_vector(vector: ArrayLike) -> Matrix:
    """Rotation (3, 3) from axis times angle in radians."""
    array = np.asarray(vector, dtype=np.float64)
    angle = math.sqrt(array @ array)
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = (array / angle).tolist()
    c, s = math.cos(angle), math.sin(angle)
    t = 1 - c
    return np.array(
        [
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ]
    )


def to_vector(matrix: Matrix) -> NDArray[np.float64]:
    """Axis times angle in radians of a rotation below half a turn."""
    angle = float(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))
    if angle < 1e-6:
        return np.zeros(3)
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    length = float(np.linalg.norm(axis))
    if length < 1e-9:  # half a turn: the axis is the direction that stays
        _, vectors = np.linalg.eigh(matrix + np.eye(3))
        return np.asarray(vectors[:, -1] * angle)
    return np.asarray(axis / length * angle)


def between(first: ArrayLike, second: ArrayLike) -> Matrix:
    """The smallest rotation (3, 3) that takes one direction to another."""
    a = np.asarray(first, dtype=np.float64)
    b = np.asarray(second, dtype=np.float64)
    a = a / math.sqrt(a @ a)
    b = b / math.sqrt(b @ b)
    axis = cross(a, b)
    sine = math.sqrt(axis @ axis)
    if sine < 1e-9:
        if a @ b > 0:
            return np.eye(3)
        other = np.array([1.0, 0, 0]) if abs(a[0]) < 0.9 else np.array([0, 1.0, 0])
        return about(cross(a, other), 180)
    return from_vector(axis * (math.atan2(sine, float(a @ b)) / sine))


def mirrored(matrix: Matrix) -> Matrix:
    """The rotation that a mirror at the body's middle plane (x to -x) makes of this one."""
    flip = np.diag([-1.0, 1.0, 1.0])
    return np.asarray(flip @ matrix @ flip)
