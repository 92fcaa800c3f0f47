"""Properties of encoding and decoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.heatmaps import decode, encode, gaussian_kernel, merge_flipped

inside = st.tuples(st.floats(10, 61), st.floats(10, 85))


@given(st.lists(inside, min_size=1, max_size=6), st.sampled_from([11, 17]))
@settings(max_examples=30, deadline=None)
def test_encode_then_decode_returns_the_point(cells, kernel):
    """FAULTS 34: an interior point survives the round trip to a thousandth of a cell."""
    points = np.array(cells)[None]
    targets, weights = encode(points * 4, np.ones(points.shape[:2]), (96, 72))
    decoded = decode(targets, kernel=kernel)
    assert (weights == 1).all()
    np.testing.assert_allclose(decoded.coordinates, points, atol=2e-3)
    assert (decoded.scores > 0.95).all()


@given(st.floats(0, 71), st.floats(0, 95))
@settings(max_examples=60, deadline=None)
def test_border_points_stay_within_a_cell(x, y):
    targets, _ = encode(np.array([[[x * 4, y * 4]]]), np.ones((1, 1)), (96, 72))
    assert np.abs(decode(targets).coordinates[0, 0] - [x, y]).max() <= 1.0


def test_covariance_is_that_of_target_and_blur():
    targets, _ = encode(np.array([[[120.0, 200.0]]]), np.ones((1, 1)), (96, 72), sigma=3)
    expected = 3**2 + (0.3 * (8 - 1) + 0.8) ** 2
    covariance = decode(targets, kernel=17).covariances[0, 0]
    np.testing.assert_allclose(covariance, np.eye(2) * expected, atol=0.1)


def test_covariance_follows_an_elongated_peak():
    y, x = np.mgrid[0:96, 0:72]
    along, across = (x - 36) + (y - 48), (x - 36) - (y - 48)
    heatmap = np.exp(-(along**2) / 200 - across**2 / 40).astype(np.float32)[None, None]
    covariance = decode(heatmap).covariances[0, 0]
    assert covariance[0, 1] > 5
    assert np.linalg.eigvalsh(covariance).min() > 0


@pytest.mark.parametrize("protocol", ["default", "mmpose0"])
@pytest.mark.parametrize("method", ["dark", "quarter", "argmax"])
def test_degenerate_maps_have_finite_answers(method, protocol):
    maps = np.zeros((1, 6, 16, 12), dtype=np.float32)
    maps[0, 1] = -1
    maps[0, 2] = 0.5  # flat
    maps[0, 3, 0, 0] = 1  # a lone corner
    maps[0, 4, ::2, ::2] = 1  # a saddle in places
    maps[0, 5] = np.nan
    decoded = decode(maps, method=method, protocol=protocol)
    for values in (decoded.coordinates, decoded.scores, decoded.covariances):
        assert np.isfinite(values).all()
    np.testing.assert_array_equal(decoded.coordinates[0, [0, 1, 5]], -1)
    assert (np.linalg.eigvalsh(decoded.covariances) > 0).all()


def test_neighbours_do_not_change_an_answer():
    """FAULTS 16."""
    maps = np.random.default_rng(0).random((5, 7, 32, 24), dtype=np.float32)
    together = decode(maps)
    for index in range(5):
        alone = decode(maps[index : index + 1])
        np.testing.assert_array_equal(alone.coordinates[0], together.coordinates[index])
        np.testing.assert_array_equal(alone.covariances[0], together.covariances[index])


def test_nobody():
    decoded = decode(np.zeros((0, 136, 96, 72), dtype=np.float32))
    assert decoded.coordinates.shape == (0, 136, 2)
    assert decoded.scores.shape == (0, 136)
    assert decoded.covariances.shape == (0, 136, 2, 2)


def test_far_and_unlabelled_points_weigh_nothing():
    points = np.array([[[-60.0, 50.0], [100.0, 100.0], [100.0, 100.0], [np.nan, 0.0], [1e9, -1e9]]])
    visibility = np.array([[2.0, 0.0, 0.34, 2.0, 2.0]])
    targets, weights = encode(points, visibility, (96, 72))
    assert not weights.any()
    assert not targets.any()


def test_merging_a_mirrored_pair_is_symmetric():
    maps = np.random.default_rng(0).random((2, 4, 8, 6), dtype=np.float32)
    flip = np.array([1, 0, 2, 3])
    merged = merge_flipped(maps, maps[:, flip, :, ::-1], flip)
    np.testing.assert_allclose(merged[..., 1:], (maps[..., 1:] + maps[..., :-1]) / 2, atol=1e-6)


def test_kernel_must_be_odd():
    with pytest.raises(ValueError, match="odd"):
        gaussian_kernel(16)
