"""The second look at faces and hands: where it looks, and what it changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholepose.cli.main import main
from wholepose.errors import ConfigError
from wholepose.estimator import PoseEstimator
from wholepose.images import load_image
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE136, OPENPOSE_FACE70
from wholepose.zoom import FACE_SIZE, Found, check_zoomable, find_looks, look_again

ROOT = Path(__file__).resolve().parents[1]
FACE, LEFT, RIGHT = (list(HALPE136.parts[part]) for part in ("face", "left_hand", "right_hand"))


def standing(turn: float = 0.0, scale: float = 1.0):
    """Somebody 400 px tall with stretched arms: left elbow at (260, 100), wrist at (340, 100)."""
    keypoints = np.zeros((1, 136, 2))
    keypoints[0] = (200, 100)
    keypoints[0, 15:17] = (200, 400)
    keypoints[0, [7, 9]] = (260, 100), (340, 100)
    keypoints[0, [8, 10]] = (140, 100), (60, 100)
    keypoints[0, FACE] = np.random.default_rng(0).uniform((180, 20), (220, 60), (68, 2))
    keypoints[0, FACE[:2]] = (180, 20), (220, 60)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * keypoints @ rotation.T, np.full((1, 136), 0.8)


def test_squares_around_the_face_and_beyond_the_wrists():
    looks = find_looks(*standing(), HALPE136)
    assert looks.parts == ("face", "left_hand", "right_hand")
    assert looks.owners.tolist() == [0, 0, 0]
    middles, sides = (looks.boxes[:, :2] + looks.boxes[:, 2:]) / 2, looks.boxes[:, 2:] - looks.boxes[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    np.testing.assert_allclose(middles[0], (200, 40))
    np.testing.assert_allclose(sides[0], FACE_SIZE * 40)
    assert (middles[1:, 1] == 100).all()
    for middle, side, wrist, away in ((middles[1], sides[1], 340, 1), (middles[2], sides[2], 60, -1)):
        assert away * (middle[0] - wrist) > 0
        assert away * (middle[0] - wrist) < side[0] / 2  # the wrist is in the picture


@given(turn=st.floats(-np.pi, np.pi), scale=st.floats(0.01, 100))
def test_hand_squares_turn_and_grow_with_the_person(turn, scale):
    keypoints, scores = standing(turn, scale)
    keypoints[:, 15:17] = keypoints[:, 0:1]  # so that only the arms give the extent
    looks = find_looks(keypoints, scores, HALPE136)
    forearm = keypoints[0, 9] - keypoints[0, 7]
    left = looks.boxes[looks.parts.index("left_hand")]
    beyond = (left[:2] + left[2:]) / 2 - keypoints[0, 9]
    assert abs(beyond[0] * forearm[1] - beyond[1] * forearm[0]) <= 1e-6 * (forearm @ forearm)
    assert beyond @ forearm > 0


def test_a_forearm_that_points_at_the_camera_does_not_hide_the_hand():
    keypoints, scores = standing()
    keypoints[0, 7] = keypoints[0, 9]
    looks = find_looks(keypoints, scores, HALPE136)
    left = looks.boxes[looks.parts.index("left_hand")]
    np.testing.assert_allclose((left[:2] + left[2:]) / 2, keypoints[0, 9], atol=1e-3)
    assert left[2] - left[0] > 20


def test_what_is_not_seen_is_not_looked_for():
    keypoints, scores = standing()
    scores[0, FACE] = 0.1
    scores[0, 8] = 0.1
    assert find_looks(keypoints, scores, HALPE136).parts == ("left_hand",)
    scores[0, 9] = 0.1
    looks = find_looks(keypoints, scores, HALPE136)
    assert looks.boxes.shape == (0, 4)
    assert find_looks(np.zeros((0, 136, 2)), np.zeros((0, 136)), HALPE136).boxes.shape == (0, 4)


def test_only_faces_and_hands_change_and_only_where_the_second_look_sees():
    keypoints, scores = (np.repeat(values, 2, 0) for values in standing())
    first = Found(keypoints, scores, np.ones((2, 136, 2, 2)))
    asked = []

    def look(owners, boxes):
        """Everything at the middle of the box; the second person's face is not there."""
        asked.append(owners.tolist())
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        sure = np.where((owners == 7) & (np.arange(len(owners)) == 3), 0.01, 0.9)
        count = len(boxes)
        return Found(
            np.repeat(middles[:, None], 136, 1),
            np.repeat(sure[:, None], 136, 1),
            np.full((count, 136, 2, 2), 0.25),
        )

    found = look_again(look, np.array([4, 7]), first, HALPE136)
    assert asked == [[4, 4, 4, 7, 7, 7]]
    others = [index for index in range(136) if index not in {*FACE, *LEFT, *RIGHT}]
    for before, after in zip(first, found, strict=True):
        np.testing.assert_array_equal(after[:, others], before[:, others])
        np.testing.assert_array_equal(after[1, FACE], before[1, FACE])
    assert (found.scores[0, FACE] == 0.9).all()
    assert (found.scores[:, [*LEFT, *RIGHT]] == 0.9).all()
    assert (found.covariances[:, LEFT] == 0.25).all()
    np.testing.assert_allclose(found.keypoints[0, FACE], np.tile((200, 40), (68, 1)))
    assert (first.scores == 0.8).all()


def test_skeletons_without_faces_and_hands_are_refused():
    check_zoomable(HALPE136)
    check_zoomable(COCO_WHOLEBODY133)
    for skeleton in (COCO17, OPENPOSE_FACE70):
        with pytest.raises(ConfigError, match=f"{skeleton.name} has none"):
            check_zoomable(skeleton)


@pytest.fixture(scope="module")
def astronaut():
    return load_image(ROOT / "examples" / "astronaut.jpg")


def test_the_embedded_model_looks_again(astronaut):
    """The body stays, the face is found about where it was, and an image among others is answered as alone."""
    box = [[80, 20, 460, 500]]
    plain = PoseEstimator.from_pretrained(detector=None, threads=1)
    zooming = PoseEstimator.from_pretrained(detector=None, threads=1, zoom=True)
    before, after = plain.predict(astronaut, box), zooming.predict(astronaut, box)
    body = [*HALPE136.parts["body"], *HALPE136.parts["feet"]]
    np.testing.assert_array_equal(after.keypoints[:, body], before.keypoints[:, body])
    moved = np.linalg.norm(after.keypoints[0, FACE] - before.keypoints[0, FACE], axis=1)
    assert (moved > 0).all()
    assert np.median(moved) < 6
    assert after.scores[0, FACE].mean() > 0.5
    together = zooming.predict_batch([np.zeros((50, 60, 3), np.uint8), astronaut], [[], box])
    assert len(together[0]) == 0
    np.testing.assert_allclose(together[1].keypoints, after.keypoints, atol=1e-3)
    _, shared = zooming.shared(2)
    assert shared.zoom


def test_zoom_on_the_command_line(tmp_path):
    for name, words in (("plain", []), ("zoomed", ["--zoom"])):
        picture = str(ROOT / "examples" / "astronaut.jpg")
        assert main(["predict", picture, "--whole-image", "--out", str(tmp_path / name), "--quiet", *words]) == 0
    plain, zoomed = (
        np.array(json.loads((tmp_path / name / "astronaut.json").read_text())["people"][0]["keypoints"])
        for name in ("plain", "zoomed")
    )
    assert (plain[FACE] != zoomed[FACE]).any()
    np.testing.assert_array_equal(plain[:26], zoomed[:26])
