"""A second look at faces and hands: where to look, and which answers to believe.

In a crop of a whole person a hand covers a few pixels. Cut out again by itself it fills the crop of the same model,
which must have learnt from such crops too, as the embedded one has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError
from wholepose.skeletons import Skeleton

FACE_SIZE = 1.5
"""Side of the square around a face against the extent of its keypoints."""
HAND_REACH, HAND_SIZE = 0.4, 1.0
"""How far beyond the wrist the middle of a hand lies, and the side of the square around it, by lengths of forearm."""
LEAST, MOST = 0.08, 0.24
"""Bounds of a hand's square against the extent of the body: a forearm that points at the camera looks short."""
SEEN = 0.2
"""Score from which on a keypoint counts as seen."""
BELIEVED = 0.2
"""Mean score of the second answer, against the first, from which on it takes its place: enlarged parts score lower."""
PARTS = ("face", "left_hand", "right_hand")
"""What is looked at again, where a skeleton has it."""

_Square = tuple[NDArray[np.floating], float]


class Found(NamedTuple):
    """What a look at N people, or at parts of them, gives: in pixels of their images.

    Attributes:
        keypoints: (N, K, 2).
        scores: (N, K), as the model gave them.
        covariances: (N, K, 2, 2), px^2.
    """

    keypoints: NDArray[np.floating]
    scores: NDArray[np.floating]
    covariances: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Looks:
    """Where to look again.

    Attributes:
        owners: (M,) int64, rows of the people whose parts they are.
        boxes: (M, 4) float64 xyxy, squares in pixels of the image.
        parts: M names of parts of the skeleton.
    """

    owners: NDArray[np.int64]
    boxes: NDArray[np.float64]
    parts: tuple[str, ...]


def check_zoomable(skeleton: Skeleton) -> None:
    """Raises ConfigError where a skeleton is not of bodies with a face or hands."""
    if "body" not in skeleton.parts or not set(PARTS) & set(skeleton.parts):
        raise ConfigError(f"a second look is at faces and hands of bodies, and {skeleton.name} has none")


def look_again(
    look: Callable[[NDArray[np.int64], NDArray[np.float64]], Found],
    images: NDArray[np.int64],
    first: Found,
    skeleton: Skeleton,
) -> Found:
    """Looks at faces and hands again, enlarged, and puts the answers in the place of the first ones.

    Args:
        look: Takes which image (M,) and boxes (M, 4) xyxy; gives what is found there.
        images: (N,) int64, which image each person is in.
        first: The people, as seen whole.
        skeleton: Theirs.

    Returns:
        The people; what a second look saw too little of is as it was.
    """
    looks = find_looks(first.keypoints, first.scores, skeleton)
    second = look(images[looks.owners], looks.boxes)
    taken = believed(first.scores, looks, second.scores, skeleton)
    result = Found(*(values.copy() for values in first))
    for row in np.flatnonzero(taken):
        indices = list(skeleton.parts[looks.parts[row]])
        for values, new in zip(result, second, strict=True):
            values[looks.owners[row], indices] = new[row, indices]
    return result


def find_looks(keypoints: NDArray[np.floating], scores: NDArray[np.floating], skeleton: Skeleton) -> Looks:
    """Finds the faces and hands to look at again: those whose place is known well enough.

    Args:
        keypoints: (N, K, 2) in pixels of the image.
        scores: (N, K).
        skeleton: Theirs.

    Returns:
        Squares, at most three a person.
    """
    owners, boxes, parts = [], [], []
    body = list(skeleton.parts["body"])
    for person, (points, seen) in enumerate(zip(keypoints, scores >= SEEN, strict=True)):
        trunk = points[body][seen[body]]
        extent = float(np.ptp(trunk, axis=0).max()) if len(trunk) else 0.0
        for part in PARTS:
            if part not in skeleton.parts:
                continue
            square = _face(points, seen, skeleton) if part == "face" else _hand(part, points, seen, extent, skeleton)
            if square is not None:
                middle, side = square
                owners.append(person)
                boxes.append([*(middle - side / 2), *(middle + side / 2)])
                parts.append(part)
    return Looks(np.array(owners, dtype=np.int64), np.array(boxes, dtype=np.float64).reshape(-1, 4), tuple(parts))


def _face(points: NDArray[np.floating], seen: NDArray[np.bool_], skeleton: Skeleton) -> _Square | None:
    indices = list(skeleton.parts["face"])
    if seen[indices].mean() < 0.5:
        return None
    low, high = points[indices].min(axis=0), points[indices].max(axis=0)
    return (low + high) / 2, FACE_SIZE * max(float((high - low).max()), 1.0)


def _hand(
    part: str, points: NDArray[np.floating], seen: NDArray[np.bool_], extent: float, skeleton: Skeleton
) -> _Square | None:
    side_of = part.removesuffix("_hand")
    elbow, wrist = (skeleton.index(f"{side_of}_{joint}") for joint in ("elbow", "wrist"))
    if not (seen[elbow] and seen[wrist]):
        return None
    forearm = points[wrist] - points[elbow]
    length = max(float(np.linalg.norm(forearm)), 1e-6)
    side = max(min(max(HAND_SIZE * length, LEAST * extent), MOST * extent), 1.0)
    return points[wrist] + forearm * min(HAND_REACH, HAND_REACH * side / (HAND_SIZE * length)), side


def believed(
    scores: NDArray[np.floating], looks: Looks, second_scores: NDArray[np.floating], skeleton: Skeleton
) -> NDArray[np.bool_]:
    """(M,) bool: which second looks saw enough of what they looked at.

    Args:
        scores: (N, K), of the people as first seen.
        looks: M of them.
        second_scores: (M, K), of the crops of the looks.
        skeleton: Theirs.
    """
    answers = np.zeros(len(looks.parts), dtype=bool)
    for look, (owner, part) in enumerate(zip(looks.owners, looks.parts, strict=True)):
        indices = list(skeleton.parts[part])
        answers[look] = second_scores[look, indices].mean() >= BELIEVED * scores[owner, indices].mean()
    return answers
