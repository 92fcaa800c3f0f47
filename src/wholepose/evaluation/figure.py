"""A person standing for all people, with face and hands enlarged beside: where a report draws a number a keypoint.

Convention:
    Coordinates are units of an SVG picture, x right and y down. The person looks at the reader, so that the person's
    left is on the reader's right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.skeletons import HALPE136, Skeleton, conversion

FIGURE_SIZE = (420, 640)
"""(height, width) of the picture."""

_MIDDLE_X = 320.0
# Of each pair the one on the person's right, as (x, y); the left one mirrors it.
_SIDED = {
    "eye": (312, 44),
    "ear": (301, 50),
    "shoulder": (284, 100),
    "elbow": (264, 155),
    "wrist": (251, 208),
    "hip": (299, 213),
    "knee": (295, 295),
    "ankle": (292, 368),
    "big_toe": (284, 398),
    "small_toe": (270, 392),
    "heel": (297, 386),
}
_CENTRAL = {"nose": (320, 53), "head": (320, 18), "neck": (320, 86), "hip": (320, 205)}

_FACE_CORNER, _FACE_SIDE = (15.0, 12.0), 180.0
_RIGHT_HAND_CORNER, _LEFT_HAND_CORNER, _HAND_SIDE = (30.0, 235.0), (460.0, 235.0), 150.0
LABELS = {"face": (105.0, 14.0), "right_hand": (105.0, 408.0), "left_hand": (535.0, 408.0)}
"""Where the names of the enlarged parts stand."""


def figure_points(skeleton: Skeleton) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where to draw each keypoint.

    Args:
        skeleton: Any; what Halpe's 136 keypoints do not give has no place.

    Returns:
        Places (K, 2), and (K,) bool: which of them are known.
    """
    if skeleton is HALPE136:
        return _halpe_points(), np.ones(HALPE136.num_keypoints, dtype=np.bool_)
    table = conversion(HALPE136, skeleton)
    return np.asarray(table.apply_to_keypoints(_halpe_points()), dtype=np.float64), table.present


def _halpe_points() -> NDArray[np.float64]:
    points = np.zeros((HALPE136.num_keypoints, 2))
    for name, place in _CENTRAL.items():
        points[HALPE136.index(name)] = place
    for name, (x, y) in _SIDED.items():
        points[HALPE136.index(f"right_{name}")] = x, y
        points[HALPE136.index(f"left_{name}")] = 2 * _MIDDLE_X - x, y
    points[list(HALPE136.parts["face"])] = np.array(_FACE_CORNER) + _FACE_SIDE * _face()
    hand = _hand()
    points[list(HALPE136.parts["right_hand"])] = np.array(_RIGHT_HAND_CORNER) + _HAND_SIDE * hand
    mirrored = np.stack([1 - hand[:, 0], hand[:, 1]], axis=1)
    points[list(HALPE136.parts["left_hand"])] = np.array(_LEFT_HAND_CORNER) + _HAND_SIDE * mirrored
    return points


def _face() -> NDArray[np.float64]:
    """(68, 2) points of a face in a square of side 1, in the order of iBUG."""
    jaw = _arc(17, (0.5, 0.32), (0.5, 0.68), 180, 0)
    brow = _arc(5, (0.27, 0.27), (0.17, 0.10), 170, 10, up=True)
    bridge = np.stack([np.full(4, 0.5), np.linspace(0.33, 0.55, 4)], axis=1)
    nostrils = _arc(5, (0.5, 0.59), (0.10, 0.03), 180, 0)
    eye = np.array([[0.18, 0.37], [0.24, 0.33], [0.31, 0.33], [0.37, 0.38], [0.31, 0.41], [0.24, 0.41]])
    other_eye = _mirror(eye)[[3, 2, 1, 0, 5, 4]]
    lips = _ring(12, (0.5, 0.79), (0.21, 0.12))
    inner = _ring(8, (0.5, 0.79), (0.14, 0.045))
    return np.concatenate([jaw, brow, _mirror(brow)[::-1], bridge, nostrils, eye, other_eye, lips, inner])


def _arc(
    count: int,
    center: tuple[float, float],
    radii: tuple[float, float],
    first_deg: float,
    last_deg: float,
    *,
    up: bool = False,
) -> NDArray[np.float64]:
    """Points on an ellipse from one angle to another, through the bottom, or the top."""
    angles = np.deg2rad(np.linspace(first_deg, last_deg, count))
    y = radii[1] * np.sin(angles) * (-1 if up else 1)
    return np.stack([center[0] + radii[0] * np.cos(angles), center[1] + y], axis=1)


def _ring(count: int, center: tuple[float, float], radii: tuple[float, float]) -> NDArray[np.float64]:
    """Points round an ellipse, clockwise from its left end."""
    return _arc(count + 1, center, radii, 180, -180, up=True)[:-1]


def _mirror(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - points[:, 0], points[:, 1]], axis=1)


def _hand() -> NDArray[np.float64]:
    """(21, 2) points of a right hand in a square of side 1, fingers up: root, then thumb to little finger."""
    root = np.array([0.5, 1.0])
    points = [root]
    # The thumb of a hanging right hand points to the body, on the reader's right.
    for angle_deg, base, step in (
        (38, 0.28, 0.15),
        (17, 0.46, 0.14),
        (2, 0.48, 0.155),
        (-13, 0.46, 0.145),
        (-29, 0.44, 0.115),
    ):
        direction = np.array([np.sin(np.deg2rad(angle_deg)), -np.cos(np.deg2rad(angle_deg))])
        points.extend(root + direction * (base + step * joint) for joint in range(4))
    return np.array(points)
