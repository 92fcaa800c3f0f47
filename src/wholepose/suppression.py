"""One answer a person: leaves out people that were found twice."""

from __future__ import annotations

import numpy as np

from wholepose.geometry import BOX_PADDING, oks_nms
from wholepose.poses import Poses

REPEAT_OKS = 0.8
"""People more alike than this are one person; two who stand side by side seldom pass 0.6."""


def without_repeats(poses: Poses) -> Poses:
    """Leaves out people that were found twice.

    Detectors box a person who fills the picture more than once, and in videos two boxes may end up on the same person
    where people pass each other; the model then answers the same person each time. Of people whose keypoints are alike
    (object keypoint similarity over ``REPEAT_OKS``, against the area of the padded boxes) the best scored one stays.

    Args:
        poses: N people of one image.

    Returns:
        Those that stay, in the same order.
    """
    if len(poses) < 2:
        return poses
    areas = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(axis=1) * BOX_PADDING**2
    kept = oks_nms(poses.keypoints, poses.instance_scores(), areas, poses.skeleton.sigmas, REPEAT_OKS)
    return poses if len(kept) == len(poses) else poses[np.sort(kept)]
