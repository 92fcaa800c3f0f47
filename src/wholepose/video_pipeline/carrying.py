"""Where people are in the next frame, by where they were in this one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import clip_boxes
from wholepose.poses import SCORE_FLOOR, Poses

_BOX_MARGIN = 0.1  # of the keypoints' extent, on each side
_FEWEST_KEYPOINTS = 4
_LARGEST_CHANGE = 1.25  # of a carried box's side from one frame to the next


def carried_boxes(poses: Poses, image_size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where to look for people in the next frame, by where their keypoints were in this one.

    Args:
        poses: The people of a frame.
        image_size: (height, width) of the next frame in pixels.

    Returns:
        Boxes (M, 4) float32 xyxy inside the image, and their scores (M,). Each holds the keypoints with a margin, and
        its sides change by no more than a quarter, so that a stray keypoint does not blow it up. Who has too few
        keypoints keeps the old box; who has left the image has none.
    """
    seen = (poses.scores > SCORE_FLOOR)[..., None]
    low = np.where(seen, poses.keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(seen, poses.keypoints, -np.inf).max(axis=1, initial=-np.inf)
    enough = seen[..., 0].sum(axis=1) >= _FEWEST_KEYPOINTS
    old_sides = poses.boxes[:, 2:] - poses.boxes[:, :2]
    with np.errstate(invalid="ignore"):  # nobody's keypoints: infinity minus infinity, not used
        centers = (low + high) / 2
        sides = (high - low) * (1 + 2 * _BOX_MARGIN)
    sides = np.clip(sides, old_sides / _LARGEST_CHANGE, old_sides * _LARGEST_CHANGE)
    boxes = np.where(enough[:, None], np.concatenate([centers - sides / 2, centers + sides / 2], axis=1), poses.boxes)
    boxes = clip_boxes(boxes, image_size).astype(np.float32)
    inside = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
    return boxes[inside], poses.box_scores[inside]
