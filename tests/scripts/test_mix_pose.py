"""scripts/mix_pose.py: means of two networks."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")


def test_weights_and_statistics_lie_between(filled_model):
    from mix_pose import mix

    from wholepose.models.posenet import build_model

    one, other = filled_model("hrnet_w16_slim", 136), build_model("hrnet_w16_slim", 136)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    mix(one, other, 0.25)
    for name, value in one.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * other.state_dict()[name] if value.is_floating_point() else before[name]
        torch.testing.assert_close(value, expected)


def test_networks_of_other_shapes_are_refused():
    from mix_pose import mix

    from wholepose.models.posenet import build_model

    with pytest.raises(ValueError, match="the networks differ in shape"):
        mix(build_model("hrnet_w16_slim", 136), build_model("hrnet_w16_slim", 17), 0.5)
