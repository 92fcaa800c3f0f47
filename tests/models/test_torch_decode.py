"""Decoding in PyTorch is decoding in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose import heatmaps as reference  # noqa: E402
from wholepose.models.decode import decode, merge_flipped, normalize  # noqa: E402


def draw_maps(seed, count, size):
    """Gaussians in and around the map, with noise; every fourth is noise alone."""
    random = np.random.default_rng(seed)
    keypoints = random.uniform(-10, np.array(size[::-1]) * 4 + 10, (1, count, 2))
    maps, _ = reference.encode(keypoints, np.ones((1, count)), size, sigma=random.uniform(1, 4))
    noise = random.normal(0, 0.05, maps.shape).astype(np.float32)
    maps[:, ::4] = 0
    return maps + noise


def check_same(maps, **options):
    expected = reference.decode(maps, **options)
    found = decode(torch.from_numpy(maps), **options)
    np.testing.assert_allclose(found.coordinates, expected.coordinates, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    kernel=st.sampled_from([3, 11, 17]),
    protocol=st.sampled_from(["default", "mmpose0"]),
)
def test_agrees_with_numpy(seed, size, kernel, protocol):
    check_same(draw_maps(seed, 12, size), kernel=kernel, protocol=protocol)


@pytest.mark.parametrize("protocol", ["default", "mmpose0"])
def test_degenerate_maps(protocol):
    maps = np.zeros((1, 6, 12, 9), np.float32)
    maps[0, 1] = -1
    maps[0, 2] = 0.5
    maps[0, 3, 0, 0] = maps[0, 4, 11, 8] = 1
    maps[0, 5, 6] = 1  # a ridge
    check_same(maps, protocol=protocol)
    assert (decode(torch.from_numpy(maps)).coordinates[0, :2] == -1).all()


def test_values_that_are_not_finite_count_as_zero():
    maps = draw_maps(3, 8, (24, 18))
    maps[0, 0, 3, 3], maps[0, 1, 4, 4], maps[0, 2, 5, 5] = np.nan, np.inf, -np.inf
    decoded = decode(torch.from_numpy(maps))
    clean = np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0)
    np.testing.assert_allclose(decoded.coordinates, reference.decode(clean).coordinates, atol=1e-3)
    assert all(torch.isfinite(part).all() for part in (decoded.coordinates, decoded.scores, decoded.covariances))


def test_nobody():
    decoded = decode(torch.zeros(0, 5, 12, 9))
    assert decoded.coordinates.shape == (0, 5, 2)
    assert decoded.scores.shape == (0, 5)
    assert decoded.covariances.shape == (0, 5, 2, 2)


def test_merge_flipped_agrees_with_numpy():
    first, second = draw_maps(1, 6, (16, 12)), draw_maps(2, 6, (16, 12))
    flip_indices = np.array([0, 2, 1, 3, 5, 4])
    found = merge_flipped(torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(flip_indices))
    np.testing.assert_array_equal(found, reference.merge_flipped(first, second, flip_indices))


def test_normalize():
    crops = torch.zeros(1, 2, 4, 3, dtype=torch.uint8)
    crops[0, 1, 3] = torch.tensor([255, 0, 128])
    found = normalize(crops)
    assert found.shape == (1, 3, 2, 4)
    expected = (torch.tensor([1, 0, 128 / 255]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(found[0, :, 1, 3], expected)
