"""The body: shapes, bones, skinning and poses."""

import numpy as np
import pytest

from wholepose.errors import ConfigError
from wholepose.synth.body import BODY_VERTICES, Body, load_body
from wholepose.synth.build import FORMAT
from wholepose.synth.hands import HandShapes
from wholepose.synth.posing import KINDS, Poser
from wholepose.synth.rotations import about, between, from_vector, mirrored, to_vector
from wholepose.synth.shapes import VARIATIONS, phenotype_weights


def test_phenotype_weights_are_products_of_interpolations():
    anchors = sum(len(names) for names in VARIATIONS.values())
    mask = np.zeros((3, anchors), dtype=np.uint8)
    flat = [name for names in VARIATIONS.values() for name in names]
    mask[0, [flat.index("male"), flat.index("young")]] = 1
    mask[1, [flat.index("female"), flat.index("old")]] = 1
    mask[2, flat.index("asian")] = 1
    weights = phenotype_weights({"gender": 0.25, "age": 5 / 6, "asian": 3.0, "african": 1.0, "caucasian": 0.0}, mask)
    np.testing.assert_allclose(weights, [0.75 * 0.5, 0.25 * 0.5, 0.75], atol=1e-9)


def test_adult_has_human_measures(body: Body, adult):
    vertices, heads, _ = body.shape(adult)
    height = np.ptp(vertices[:BODY_VERTICES, 2])
    assert 1.6 < height < 1.95
    thigh = np.linalg.norm(heads[body.bone_rows["lowerleg01.L"]] - heads[body.bone_rows["upperleg01.L"]])
    assert 0.2 < thigh / height < 0.29


def test_children_are_smaller_and_men_taller(body: Body, adult):
    def height(**change: float) -> float:
        return float(np.ptp(body.shape({**adult, **change})[0][:BODY_VERTICES, 2]))

    assert height(age=0.0) < height(age=1 / 3) < height(age=0.5) < height(age=2 / 3)
    assert height(gender=0.0) > height(gender=1.0)


def test_no_rotation_leaves_the_body_at_rest(body: Body, adult):
    vertices, heads, _ = body.shape(adult)
    transforms = body.bone_transforms(heads, {})
    posed = body.skin(vertices, transforms, slice(None))
    np.testing.assert_allclose(posed, vertices, atol=2e-6)


def test_bent_knee_moves_the_foot_back_and_keeps_bone_lengths(body: Body, adult):
    _, heads, _ = body.shape(adult)
    transforms = body.bone_transforms(heads, {"lowerleg01.L": about([1, 0, 0], 90)})
    posed = np.einsum("bij,bj->bi", transforms[:, :, :3], heads) + transforms[:, :, 3]
    knee, foot = body.bone_rows["lowerleg01.L"], body.bone_rows["foot.L"]
    assert posed[foot, 1] > posed[knee, 1] + 0.3
    before, after = np.linalg.norm(heads[foot] - heads[knee]), np.linalg.norm(posed[foot] - posed[knee])
    assert after == pytest.approx(before, abs=1e-5)
    right = body.bone_rows["foot.R"]
    np.testing.assert_allclose(posed[right], heads[right], atol=1e-6)


def test_expression_moves_only_the_face(body: Body, adult):
    vertices, heads, _ = body.shape(adult)
    moved = np.linalg.norm(body.with_expression(vertices, {"jawOpen": 1.0}) - vertices, axis=1)
    assert 0.005 < moved[:BODY_VERTICES].max() < 0.06
    below = vertices[:, 2] < heads[body.bone_rows["neck01"], 2] - 0.05
    assert moved[:BODY_VERTICES][below[:BODY_VERTICES]].max() < 1e-6


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_poses_keep_joints_within_limits(body: Body, adult, kind):
    _, heads, _ = body.shape(adult)
    poser = Poser(body, HandShapes(body))
    for seed in range(6):
        pose = poser.sample(np.random.default_rng(seed), heads, kind)
        for name, rotation in pose.rotations.items():
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6, err_msg=name)
        for side in "LR":
            bend = to_vector(pose.rotations[f"lowerleg01.{side}"])[0] if f"lowerleg01.{side}" in pose.rotations else 0.0
            assert np.deg2rad(-12) < bend < np.deg2rad(150), "knees bend one way"


def test_pose_is_drawn_again_from_the_same_seed(body: Body, adult):
    _, heads, _ = body.shape(adult)
    poser = Poser(body, HandShapes(body))
    first = poser.sample(np.random.default_rng(5), heads)
    again = poser.sample(np.random.default_rng(5), heads)
    assert first.kind == again.kind
    assert all(np.array_equal(first.rotations[bone], again.rotations[bone]) for bone in first.rotations)


def test_rotations():
    generator = np.random.default_rng(0)
    for _ in range(50):
        vector = generator.normal(0, 1, 3)
        np.testing.assert_allclose(to_vector(from_vector(vector * 0.9)), vector * 0.9, atol=1e-6)
        a, b = generator.normal(0, 1, (2, 3))
        np.testing.assert_allclose(between(a, b) @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-9)
    np.testing.assert_allclose(between([1, 0, 0], [-1, 0, 0]) @ [1, 0, 0], [-1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(mirrored(about([0, 0, 1], 30)), about([0, 0, 1], -30), atol=1e-12)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not a zip"])
def test_damaged_body_file_is_named(tmp_path, content):
    (tmp_path / f"body_{FORMAT}.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged"):
        load_body(tmp_path)
