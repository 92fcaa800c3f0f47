"""The 136 points on the body at rest: sides, orders along curves, mirror symmetry, where each lies."""

import numpy as np
import pytest

from wholepose.skeletons import HALPE136
from wholepose.synth.body import BODY_VERTICES, Body
from wholepose.synth.hands import HandShapes
from wholepose.synth.keypoints import KeypointMap
from wholepose.synth.posing import Poser

NAMES = HALPE136.keypoint_names
FACE = 26


@pytest.fixture(scope="module")
def points(body: Body, adult) -> np.ndarray:
    return KeypointMap(body)(*body.shape(adult))


def at(points: np.ndarray, name: str) -> np.ndarray:
    return points[NAMES.index(name)]


def test_left_is_the_persons_left(points):
    for row, name in enumerate(NAMES):
        if name.startswith("left_"):
            assert points[row, 0] > 0.01, name
        elif name.startswith("right_"):
            assert points[row, 0] < -0.01, name


def test_mirror_symmetry_at_rest(points):
    mirrored = points[HALPE136.flip_indices] * np.array([-1, 1, 1])
    distance = np.linalg.norm(points - mirrored, axis=1)
    assert distance.max() < 0.002, NAMES[int(distance.argmax())]


@pytest.mark.parametrize(
    "phenotype",
    [
        {"gender": 0.0, "age": 1.0, "weight": 0.9, "african": 1.0, "asian": 0.0, "caucasian": 0.0},
        {"gender": 1.0, "age": 0.3, "weight": 0.2, "african": 0.0, "asian": 1.0, "caucasian": 0.0},
        {"gender": 1.0, "age": 0.7, "cupsize": 0.9, "african": 0.0, "asian": 0.0, "caucasian": 1.0},
    ],
)
def test_mirror_symmetry_of_other_shapes(body: Body, phenotype):
    points = KeypointMap(body)(*body.shape(phenotype))
    mirrored = points[HALPE136.flip_indices] * np.array([-1, 1, 1])
    assert np.linalg.norm(points - mirrored, axis=1).max() < 0.002


def test_body_from_head_to_toe(points):
    for side in ("left", "right"):
        chain = ["shoulder", "hip", "knee", "ankle", "heel"]
        heights = [at(points, f"{side}_{name}")[2] for name in chain]
        assert heights == sorted(heights, reverse=True)
        out = [abs(at(points, f"{side}_{name}")[0]) for name in ("shoulder", "elbow", "wrist")]
        assert out == sorted(out)
        assert at(points, f"{side}_big_toe")[1] < at(points, f"{side}_heel")[1] - 0.15, "toes point forward"
        assert abs(at(points, f"{side}_small_toe")[0]) > abs(at(points, f"{side}_big_toe")[0])
    assert at(points, "head")[2] > at(points, "left_eye")[2] > at(points, "nose")[2]
    assert at(points, "nose")[2] > at(points, "neck")[2] > at(points, "left_shoulder")[2] > at(points, "hip")[2]
    np.testing.assert_allclose(at(points, "hip"), (at(points, "left_hip") + at(points, "right_hip")) / 2, atol=1e-5)


def test_head_is_the_top_of_the_body(body: Body, adult, points):
    vertices, _, _ = body.shape(adult)
    assert vertices[:BODY_VERTICES, 2].max() - at(points, "head")[2] < 0.004


def test_face_curves_run_in_order(points):
    face = points[FACE : FACE + 68]
    for first, last in ((0, 16), (17, 21), (22, 26), (36, 39), (42, 45), (48, 54), (31, 35), (60, 64)):
        x = face[first : last + 1, 0]
        # The jaw and brows run from the person's right to the left; the eyes' first four points do too.
        assert (np.diff(x) > -0.0021).all(), (first, last)
        assert x[-1] > x[0] + 0.008
    jaw = face[:17]
    assert (np.diff(jaw[:9, 2]) < 0).all(), "down to the chin"
    assert (np.diff(jaw[8:, 2]) > 0).all(), "and up again"
    assert (np.diff(face[27:31, 2]) < 0).all(), "nose from above to its tip"
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert 0.004 < face[upper, 2] - face[lower, 2] < 0.018, "lids"
    for top, bottom in ((51, 62), (62, 66), (66, 57)):
        assert face[top, 2] > face[bottom, 2] - 1e-4, "lips from above to below"
    assert face[19, 2] > face[37, 2] + 0.008, "brows above eyes"


def test_jaw_opens_and_eyes_shut(body: Body, adult):
    keypoints = KeypointMap(body)
    vertices, heads, tails = body.shape(adult)

    def face(**actions: float) -> np.ndarray:
        return keypoints(body.with_expression(vertices, actions), heads, tails)[FACE : FACE + 68]

    calm, open_ = face(), face(jawOpen=1.0)
    assert (calm[66, 2] - open_[66, 2]) > 0.012, "the lower lip goes down"
    assert abs(calm[62, 2] - open_[62, 2]) < 0.006, "the upper lip stays"
    assert (calm[8, 2] - open_[8, 2]) > 0.01, "the chin goes down"
    shut = face(eyeBlinkLeft=0.6)
    assert np.linalg.norm(shut[43] - shut[47]) < 0.3 * np.linalg.norm(calm[43] - calm[47]), "the left eye is 42 to 47"
    np.testing.assert_allclose(shut[37], calm[37], atol=5e-4)
    smile = face(mouthSmileLeft=1.0)
    assert np.linalg.norm(smile[54] - calm[54]) > 0.004, "the mouth's left corner is 54"
    assert np.linalg.norm(smile[48] - calm[48]) < 0.001


@pytest.mark.parametrize("first", [94, 115])
def test_hands_run_from_base_to_tip(points, first):
    hand = points[first : first + 21]
    wrist = points[9 if first == 94 else 10]
    assert np.linalg.norm(hand[0] - wrist) < 0.03
    for finger in range(5):
        joints = hand[1 + 4 * finger : 5 + 4 * finger]
        lengths = np.linalg.norm(np.diff(joints, axis=0), axis=1)
        assert (lengths > 0.012).all()
        assert (lengths < 0.06).all()
        away = np.linalg.norm(joints - hand[0], axis=1)
        assert (np.diff(away) > 0).all()
    knuckles = hand[[5, 9, 13, 17]]
    gaps = np.linalg.norm(knuckles - hand[2], axis=1)
    assert (np.diff(gaps) > 0).all(), "the thumb lies next to the index finger"


def test_points_lie_on_or_in_the_skin(body: Body, adult, points):
    """Each point is close to the skin: face, toes and finger tips on it, joints inside the flesh."""
    skin = body.shape(adult)[0][:BODY_VERTICES]
    distance = np.array([np.linalg.norm(skin - point, axis=1).min() for point in points])
    assert distance[FACE : FACE + 68].max() < 0.006
    tips = [row for row, name in enumerate(NAMES) if name.endswith(("thumb4", "finger4"))]
    assert distance[tips].max() < 0.009
    assert distance.max() < 0.12


def test_points_follow_the_pose(body: Body, adult):
    """Bone lengths of the hands survive any pose, and left stays left of right across the hips."""
    vertices, heads, tails = body.shape(adult)
    keypoints = KeypointMap(body)
    rest = keypoints(vertices, heads, tails)
    poser = Poser(body, HandShapes(body))
    for seed in range(5):
        pose = poser.sample(np.random.default_rng(seed), heads)
        transforms = body.bone_transforms(heads, pose.rotations)
        posed = body.skin(vertices, transforms, slice(None))
        ends = [np.einsum("bij,bj->bi", transforms[:, :, :3], end) + transforms[:, :, 3] for end in (heads, tails)]
        points = keypoints(posed, *ends)
        for start, end in ((96, 97), (99, 100), (100, 101), (120, 121), (7, 9), (13, 15)):
            before = np.linalg.norm(rest[start] - rest[end])
            assert np.linalg.norm(points[start] - points[end]) == pytest.approx(before, rel=0.15)
