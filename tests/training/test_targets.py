"""Targets drawn on the device equal those of the NumPy encoder."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.heatmaps import encode  # noqa: E402
from wholepose.training.targets import heatmap_targets  # noqa: E402


@pytest.mark.parametrize("protocol", ["default", "mmpose0"])
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_same_as_numpy(protocol, sigma):
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(-80, 360, (4, 136, 2)).astype(np.float32)
    keypoints[0, 0] = np.nan
    keypoints[0, 1] = 1e9
    visibility = rng.choice(np.array([0, 0.3, 0.5, 0.6, 1, 2], dtype=np.float32), (4, 136))
    expected, expected_weights = encode(keypoints, visibility, (64, 48), sigma=sigma, protocol=protocol)
    targets, weights = heatmap_targets(
        torch.from_numpy(keypoints), torch.from_numpy(visibility), (64, 48), sigma=sigma, protocol=protocol
    )
    np.testing.assert_allclose(targets, expected, atol=2e-5)
    np.testing.assert_array_equal(weights, expected_weights)
    assert (weights > 0).any()
    assert not weights.isnan().any()
