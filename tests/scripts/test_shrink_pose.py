"""scripts/shrink_pose.py: which modules stay."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")


@pytest.fixture(scope="module")
def large():
    """A network whose middle modules of stages 3 and 4 pass on what they get."""
    from wholepose.models.posenet import build_model

    torch.manual_seed(0)
    model = build_model("hrnet_w32_large_f96", 136).eval()
    torch.nn.init.normal_(model.head.final_layer.weight, std=0.3)
    for stage, idle in ((model.backbone.stage3, (1, 2)), (model.backbone.stage4, (0, 1))):
        for number in idle:
            for name, norm in stage[number].named_modules():
                if isinstance(norm, torch.nn.BatchNorm2d) and (name.endswith("bn2") or name.startswith("fuse")):
                    torch.nn.init.zeros_(norm.weight)
    return model


def test_the_first_modules_and_the_last_stay(large):
    from shrink_pose import shrink

    small = shrink(large, "hrnet_w32_deep_f96").eval()
    pictures = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(small(pictures), large(pictures))
    names = {
        "stage3.0.branches.0.0.conv1.weight": "stage3.0.branches.0.0.conv1.weight",
        "stage3.1.branches.2.3.conv2.weight": "stage3.3.branches.2.3.conv2.weight",
        "stage4.0.fuse_layers.0.1.0.weight": "stage4.2.fuse_layers.0.1.0.weight",
    }
    for new, old in names.items():
        assert torch.equal(small.state_dict()[f"backbone.{new}"], large.state_dict()[f"backbone.{old}"])


@pytest.mark.parametrize("arch", ["hrnet_w32_mid_f96", "hrnet_w24_slim_f96", "hrnet_w32"])
def test_other_networks_are_refused(large, arch):
    from shrink_pose import shrink

    with pytest.raises(ValueError, match=f"{arch} is not the old network with fewer exchange modules"):
        shrink(large, arch)
