"""Joint angles of people, from their keypoints in the image.

Convention:
    An angle lies between two limbs that meet in a joint, in degrees from 0 (folded up) to 180 (stretched). It is the
    angle that the picture shows: limbs that point towards the camera look shorter and their angles differ from those
    in space. Flexion as biomechanics counts it, 0 when stretched, is 180 minus the angle at knee and elbow.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses

_JOINTS = {
    "elbow": ("shoulder", "elbow", "wrist"),
    "shoulder": ("hip", "shoulder", "elbow"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
    "ankle": ("knee", "ankle", "big_toe"),
}

ANGLES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        f"{side}_{joint}": (f"{side}_{first}", f"{side}_{middle}", f"{side}_{last}")
        for joint, (first, middle, last) in _JOINTS.items()
        for side in ("left", "right")
    }
)
"""Name of each angle, and the keypoints of which the second is where the limbs to the first and third meet."""


def joint_angles(poses: Poses, *, threshold: float = 0.3) -> dict[str, NDArray[np.float64]]:
    """The angles of both elbows, shoulders, hips, knees and ankles.

    Args:
        poses: N people of any skeleton.
        threshold: Keypoints that score below this, or 0, are not known.

    Returns:
        (N,) float64 degrees for each name of ``ANGLES``, in that order; NaN where one of the three keypoints is not
        known, is not in the skeleton, or lies on the joint itself.
    """
    places = {name: index for index, name in enumerate(poses.skeleton.keypoint_names)}
    known = poses.known(threshold)
    angles = {}
    for name, keypoints in ANGLES.items():
        if all(keypoint in places for keypoint in keypoints):
            indices = [places[keypoint] for keypoint in keypoints]
            degrees = angle_deg(*(poses.keypoints[:, index] for index in indices))
            angles[name] = np.where(known[:, indices].all(axis=1), degrees, np.nan)
        else:
            angles[name] = np.full(len(poses), np.nan)
    return angles


def angle_deg(
    first: NDArray[np.floating], middle: NDArray[np.floating], last: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Angles at ``middle`` between the lines to ``first`` and to ``last``.

    Args:
        first: (..., 2) points.
        middle: (..., 2) points.
        last: (..., 2) points.

    Returns:
        (...) float64 degrees in [0, 180]; NaN where two of the points are one.
    """
    a = first.astype(np.float64) - middle
    b = last.astype(np.float64) - middle
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    degrees = np.degrees(np.arctan2(np.abs(cross), (a * b).sum(-1)))  # exact near 0 and 180, where arccos is not
    lengths = np.minimum(np.square(a).sum(-1), np.square(b).sum(-1))
    return np.asarray(np.where(lengths > 0, degrees, np.nan))
