"""PoseFrame: the people of one frame, with its place in time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses
from wholepose.skeletons import SKELETONS, Skeleton

LARGEST = float(np.finfo(np.float32).max)
"""Of what a file may hold for a number, which `Poses` keeps as float32."""


@dataclass(frozen=True, eq=False)
class PoseFrame:
    """The people of one frame of a video, or of one picture.

    Attributes:
        frame_index: The frame's place in the video, from 0; rising in a file.
        time_s: Seconds since the start of the video; None for pictures and where a file does not say.
        poses: The people.
        image: Name of the picture or video; "" where a file does not say.
        size: (height, width) in pixels; None where a file does not say.
        model: Name of the model; "" where a file does not say.
        filled: (N, K) bool, keypoints that were not seen but put into a gap (see ``smoothing``); None: none was.
    """

    frame_index: int
    time_s: float | None
    poses: Poses
    image: str = ""
    size: tuple[int, int] | None = None
    model: str = ""
    filled: NDArray[np.bool_] | None = None


def boxes_around(keypoints: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Boxes for people of whom a file holds only keypoints.

    Args:
        keypoints: (N, K, 2) pixels.
        scores: (N, K); a keypoint of score 0 is missing.

    Returns:
        (N, 4) float32 xyxy: the extent of each person's keypoints, 0 where there are none.
    """
    known = (scores > 0)[..., None]
    low = np.where(known, keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known, keypoints, -np.inf).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0).astype(np.float32)


def poses_of_keypoints(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    skeleton: Skeleton,
    *,
    boxes: NDArray[np.floating] | None = None,
    box_scores: NDArray[np.floating] | None = None,
    track_ids: NDArray[np.int64] | None = None,
) -> Poses:
    """People of whom a file holds little more than keypoints.

    Args:
        keypoints: (N, K, 2) pixels.
        scores: (N, K); those outside [0, 1] are clipped, and kept as raw scores.
        skeleton: What the keypoints are.
        boxes: (N, 4) xyxy; ``boxes_around`` the keypoints if None.
        box_scores: (N,); 1 if None.
        track_ids: (N,), or None.

    Raises:
        ValueError: A shape does not fit or a number is not finite.
    """
    found = boxes_around(keypoints, scores) if boxes is None else boxes
    clipped = np.clip(scores, 0, 1)
    return Poses(
        keypoints=keypoints.astype(np.float32),
        scores=clipped.astype(np.float32),
        boxes=found.astype(np.float32),
        box_scores=np.ones(len(keypoints), np.float32) if box_scores is None else box_scores.astype(np.float32),
        skeleton=skeleton,
        raw_scores=None if (clipped == scores).all() else scores.astype(np.float32),
        track_ids=track_ids,
    )


def skeleton_of_names(names: tuple[str, ...]) -> Skeleton | None:
    """The skeleton with exactly these keypoints, or the part of one, if there is one."""
    wholes = SKELETONS.values()
    parts = (whole.part(name) for whole in wholes for name in whole.parts)
    return next((skeleton for skeleton in chain(wholes, parts) if skeleton.keypoint_names == names), None)


def skeleton_of_count(count: int) -> Skeleton | None:
    """The person skeleton with so many keypoints, if there is one."""
    people = ("halpe136", "halpe26", "coco17", "coco_wholebody133", "openpose_body25", "mpii16", "lsp14")
    return next((SKELETONS[name] for name in people if SKELETONS[name].num_keypoints == count), None)
