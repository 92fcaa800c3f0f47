"""Key layouts, forward passes and checkpoints against the reference."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.models.checkpoints import load_checkpoint, read_state_dict  # noqa: E402
from wholepose.models.posenet import build_model  # noqa: E402

NAMES = ["hrnet_w48_384x288_halpe136", "hrnet_w32_256x192_halpe136"]


def our_name(name):
    return name.replace("keypoint_head.", "head.")


@pytest.fixture(scope="module")
def shapes(golden):
    return json.loads((golden / "state_dict_shapes.json").read_text())


@pytest.fixture(scope="module")
def weights(shapes, fill):
    """Weights by model, under the names of MMPose 0.x."""
    return {name: {key: torch.from_numpy(value) for key, value in fill.fill(shapes[name]).items()} for name in NAMES}


def check_heatmaps(model, golden, name):
    data = np.load(golden / f"forward_{name}.npz")
    model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        heatmaps = model(torch.from_numpy(data["crops"]).contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(heatmaps[:, data["channels"]], data["heatmaps"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_shapes(shapes, name):
    model = build_model(name[: len("hrnet_w48")], 136)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert ours == {our_name(key): shape for key, shape in shapes[name].items()}


@pytest.mark.parametrize("name", NAMES)
def test_forward(golden, weights, name):
    model = build_model(name[: len("hrnet_w48")], 136)
    model.load_state_dict({our_name(key): value for key, value in weights[name].items()})
    check_heatmaps(model, golden, name)


LAYOUTS = {
    "mmpose0": lambda key: key,
    "mmpose1": our_name,
    "hrnet": lambda key: key.removeprefix("backbone.").removeprefix("keypoint_head."),
    "data_parallel": lambda key: f"module.{key}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoint_in_any_layout_gives_the_same_heatmaps(golden, weights, tmp_path, layout):
    state = {LAYOUTS[layout](key): value for key, value in weights["hrnet_w32_256x192_halpe136"].items()}
    content = state if layout == "hrnet" else {"meta": {"epoch": 210, "best": np.float64(0.5)}, "state_dict": state}
    torch.save(content, tmp_path / "checkpoint.pth")
    model = build_model("hrnet_w32", 136)
    report = load_checkpoint(model, tmp_path / "checkpoint.pth")
    assert len(report.loaded) == len(state)
    check_heatmaps(model, golden, "hrnet_w32_256x192_halpe136")


def test_checkpoint_excerpt_of_mmpose(golden, shapes):
    state, info = read_state_dict(golden / "mmpose_checkpoint_excerpt.pth")
    assert state
    assert info.metadata == {}
    expected = {our_name(key): shape for key, shape in shapes["hrnet_w48_384x288_halpe136"].items()}
    assert all(list(value.shape) == expected[key] for key, value in state.items())

    model = build_model("hrnet_w48", 136)
    report = load_checkpoint(model, golden / "mmpose_checkpoint_excerpt.pth", strict=False)
    assert set(report.loaded) == set(state)
    assert report.missing
    assert not report.unexpected
    for name in report.loaded:
        torch.testing.assert_close(model.state_dict()[name], state[name], rtol=0, atol=0)
