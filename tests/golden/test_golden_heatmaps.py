"""Encode, decode and flip test against the reference's answers."""

import numpy as np
import pytest

from wholepose.heatmaps import MAX_STEP_CELLS, decode, encode, merge_flipped


def test_encode(golden):
    data = np.load(golden / "encode.npz")
    targets, weights = encode(data["keypoints"], data["visibility"], data["targets"].shape[1:], protocol="mmpose0")
    np.testing.assert_allclose(targets, data["targets"], atol=1e-6)
    np.testing.assert_allclose(weights, data["target_weights"][:, 0], atol=1e-6)


def _to_image(coordinates, data):
    sizes = data["scales_200px"] * 200
    height, width = data["heatmaps"].shape[2:]
    return coordinates * (sizes / [width, height])[:, None] + (data["centers"] - sizes / 2)[:, None]


@pytest.mark.parametrize(
    ("name", "method", "kernel"),
    [("dark17", "dark", 17), ("dark11", "dark", 11), ("quarter", "quarter", 17), ("argmax", "argmax", 17)],
)
def test_decode(golden, name, method, kernel):
    data = np.load(golden / "decode.npz")
    decoded = decode(data["heatmaps"], kernel=kernel, method=method, protocol="mmpose0")
    expected = data[name]
    error = np.linalg.norm(_to_image(decoded.coordinates, data) - expected[..., :2], axis=-1)
    # Rows 0..3 of person 0 are flat, empty or indefinite on purpose: there the Newton step has no right answer.
    error[0, :4] = 0 if method == "dark" else error[0, :4]
    assert error.max() <= 0.01
    np.testing.assert_array_equal(decoded.scores, expected[..., 2])


@pytest.mark.parametrize(("name", "kernel"), [("dark17", 17), ("dark11", 11)])
def test_default_protocol_differs_only_where_the_reference_is_wrong(golden, name, kernel):
    data = np.load(golden / "decode.npz")
    heatmaps = data["heatmaps"]
    height, width = heatmaps.shape[2:]
    plain = decode(heatmaps, method="argmax").coordinates
    reference = decode(heatmaps, kernel=kernel, protocol="mmpose0").coordinates
    default = decode(heatmaps, kernel=kernel)
    interior = ((plain > 1) & (plain < [width - 2, height - 2])).all(-1)
    definite = np.linalg.det(default.covariances) < (width**2 / 12) * (height**2 / 12) * 0.99
    short = np.linalg.norm(reference - plain, axis=-1) <= MAX_STEP_CELLS
    same = interior & definite & short
    assert same.sum() > 30
    sizes = data["scales_200px"] * 200
    step = np.abs(default.coordinates - reference) * (sizes / [width, height])[:, None]
    assert step[same].max() <= 0.01
    assert (np.linalg.norm(default.coordinates - plain, axis=-1) <= MAX_STEP_CELLS).all()


def test_flip_test(golden):
    data = np.load(golden / "flip_test.npz")
    flip = np.arange(data["heatmaps"].shape[1])
    for a, b in data["flip_pairs"]:
        flip[a], flip[b] = b, a
    merged = merge_flipped(data["heatmaps"], data["heatmaps_of_mirrored"], flip)
    np.testing.assert_allclose(merged, data["merged"], atol=1e-6)
