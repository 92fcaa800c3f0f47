"""A person whom the detector boxes twice is answered once; neighbours stay."""

import numpy as np

from wholepose.poses import Poses
from wholepose.skeletons import HALPE136
from wholepose.suppression import without_repeats


def crowd(offsets, box_scores):
    rng = np.random.default_rng(0)
    person = rng.uniform([110, 110], [190, 290], (136, 2))
    count = len(offsets)
    return Poses(
        keypoints=np.stack([person + offset for offset in offsets]).astype(np.float32),
        scores=np.full((count, 136), 0.8, dtype=np.float32),
        boxes=np.tile(np.array([100, 100, 200, 300], dtype=np.float32), (count, 1)),
        box_scores=np.array(box_scores, dtype=np.float32),
        skeleton=HALPE136,
    )


def test_the_better_scored_of_two_alike_stays_in_its_place():
    poses = crowd([0, 1, [60, 0]], [0.5, 0.9, 0.4])
    kept = without_repeats(poses)
    np.testing.assert_array_equal(kept.box_scores, np.array([0.9, 0.4], dtype=np.float32))
    np.testing.assert_array_equal(kept.keypoints, poses.keypoints[1:])


def test_neighbours_stay():
    assert len(without_repeats(crowd([0, [25, 0], [50, 10]], [0.9, 0.8, 0.7]))) == 3


def test_nobody():
    assert len(without_repeats(Poses.empty(HALPE136))) == 0
