from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholepose.angles import ANGLES, angle_deg, joint_angles
from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE26, MPII16


def pose_with(skeleton=HALPE26, **places):
    keypoints = np.random.default_rng(0).uniform(0, 100, (1, skeleton.num_keypoints, 2))
    for name, place in places.items():
        keypoints[0, skeleton.index(name)] = place
    return Poses(keypoints, np.ones((1, skeleton.num_keypoints)), [[0, 0, 1, 1]], [1], skeleton)


def test_known_angles():
    poses = pose_with(
        left_hip=(0, 0), left_knee=(0, 10), left_ankle=(0, 20), left_big_toe=(5, 20), left_shoulder=(0, -10),
        left_elbow=(10, -10), left_wrist=(10, -20),
    )  # fmt: skip
    angles = joint_angles(poses)
    assert list(angles) == list(ANGLES)
    expected = {"left_knee": 180, "left_ankle": 90, "left_hip": 180, "left_shoulder": 90, "left_elbow": 90}
    for name, degrees in expected.items():
        assert angles[name].shape == (1,)
        assert angles[name][0] == pytest.approx(degrees)


def test_a_keypoint_of_score_0_is_missing_at_any_threshold():
    scores = np.ones((1, 26))
    scores[0, HALPE26.index("left_big_toe")] = 0
    angles = joint_angles(replace(pose_with(), scores=scores), threshold=0)
    assert [name for name, degrees in angles.items() if np.isnan(degrees).any()] == ["left_ankle"]


@given(st.floats(0, 180), st.floats(0, 360), st.floats(0.1, 100), st.floats(-1000, 1000))
def test_does_not_change_with_place_turn_size_or_mirror(degrees, turn, size, shift):
    first, last = np.deg2rad(turn), np.deg2rad(turn + degrees)
    middle = np.array([shift, -shift])
    a = middle + size * np.array([np.cos(first), np.sin(first)])
    b = middle + 2 * size * np.array([np.cos(last), np.sin(last)])
    mirror = np.array([-1, 1])
    assert angle_deg(a, middle, b) == pytest.approx(degrees, abs=1e-6)
    assert angle_deg(a * mirror, middle * mirror, b * mirror) == pytest.approx(degrees, abs=1e-6)


def test_what_is_not_known_is_nan():
    poses = pose_with(left_knee=(0, 0), left_hip=(0, 0))
    assert np.isnan(joint_angles(poses)["left_knee"][0])  # no limb
    scores = poses.scores.copy()
    scores[0, HALPE26.index("right_wrist")] = 0.2
    doubtful = Poses(poses.keypoints, scores, poses.boxes, poses.box_scores, HALPE26)
    assert np.isnan(joint_angles(doubtful)["right_elbow"][0])
    assert not np.isnan(joint_angles(doubtful, threshold=0.1)["right_elbow"][0])
    assert np.isnan(joint_angles(pose_with(COCO17))["left_ankle"][0])  # no toes
    assert not np.isnan(joint_angles(pose_with(MPII16))["left_knee"][0])


def test_nobody():
    """FAULT 14."""
    assert all(values.shape == (0,) for values in joint_angles(Poses.empty(HALPE26)).values())
