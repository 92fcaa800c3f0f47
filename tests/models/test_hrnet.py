"""Networks: shapes, sizes, initial weights."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.errors import ConfigError  # noqa: E402
from wholepose.models.folding import fold_batch_norms  # noqa: E402
from wholepose.models.posenet import ARCHITECTURES, build_model  # noqa: E402

# Millions of parameters with 136 heatmaps: W48 as in PROTOCOL.md, w16 slim and small v2 as in TRAINING.md.
MILLIONS = {"hrnet_w48": 63.6, "hrnet_w32": 28.5, "hrnet_w18": 9.3, "hrnet_w18_small_v2": 3.6, "hrnet_w16_slim": 1.3}


@pytest.mark.parametrize("arch", MILLIONS)
def test_number_of_parameters(arch):
    with torch.device("meta"):
        model = build_model(arch, 136)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(MILLIONS[arch], abs=0.05)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_heatmaps_are_a_quarter_of_the_crop(arch):
    with torch.device("meta"):
        assert build_model(arch, 5)(torch.empty(2, 3, 64, 96)).shape == (2, 5, 16, 24)


@pytest.mark.parametrize("size", [(32, 64), (160, 64), (96, 128)])
def test_any_size_divisible_by_32(filled_model, size):
    with torch.inference_mode():
        heatmaps = filled_model("hrnet_w16_slim", 3)(torch.rand(1, 3, *size))
    assert heatmaps.shape == (1, 3, size[0] // 4, size[1] // 4)
    assert torch.isfinite(heatmaps).all()


@pytest.mark.parametrize("shape", [(1, 3, 100, 64), (1, 3, 64, 48), (1, 4, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_other_shapes_are_refused(shape):
    with torch.device("meta"), pytest.raises(ValueError, match="multiples of 32"):
        build_model("hrnet_w16_slim", 3)(torch.empty(shape))


def test_batch_neighbours_do_not_matter(filled_model):
    """FAULTS 16, in the network."""
    model = filled_model("hrnet_w18_small_v2", 4)
    crops = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(crops)[1:2], model(crops[1:2]), rtol=1e-4, atol=1e-4)


def test_channels_last_gives_the_same_heatmaps(filled_model):
    model = filled_model("hrnet_w16_slim", 4)
    crops = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = model(crops)
        model.to(memory_format=torch.channels_last)
        found = model(crops.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_initial_weights_are_those_of_the_reference():
    torch.manual_seed(0)
    model = build_model("hrnet_w16_slim", 136)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            assert parameter.std().item() == pytest.approx(0.001, rel=0.2), name
            assert abs(parameter.mean().item()) < 1e-4, name
        else:
            expected = 0.0 if name.endswith("bias") else 1.0
            assert (parameter == expected).all(), name


def test_gradients_reach_every_parameter(filled_model):
    model = filled_model("hrnet_w16_slim", 4).train()
    model(torch.rand(2, 3, 64, 64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_unknown_architecture():
    with pytest.raises(ConfigError, match="hrnet_w48"):
        build_model("hrnet_w49", 136)
    with pytest.raises(ValueError, match="num_keypoints"):
        build_model("hrnet_w48", 0)


def test_folding_keeps_the_heatmaps_and_the_model(filled_model):
    model = filled_model("hrnet_w18_small_v2", 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batch_norms(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    crops = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(folded(crops), model(crops), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
