"""Loss and gradients against the reference's."""

import importlib.util
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.models.posenet import build_model  # noqa: E402
from wholepose.training.losses import heatmap_loss  # noqa: E402
from wholepose.training.targets import heatmap_targets  # noqa: E402


def test_loss(golden):
    data = np.load(golden / "loss.npz")
    loss = heatmap_loss(*(torch.from_numpy(data[key]) for key in ("heatmaps", "targets", "target_weights")))
    assert loss.item() == pytest.approx(float(data["loss"]), rel=1e-6)


def test_targets_on_the_device(golden):
    data = np.load(golden / "encode.npz")
    keypoints, visibility = torch.from_numpy(data["keypoints"])[None], torch.from_numpy(data["visibility"])[None]
    targets, weights = heatmap_targets(keypoints, visibility, data["targets"].shape[1:], protocol="mmpose0")
    np.testing.assert_allclose(targets[0], data["targets"], atol=2e-6)
    np.testing.assert_allclose(weights[0], data["target_weights"][:, 0], atol=1e-6)


def test_one_training_step(golden):
    spec = importlib.util.spec_from_file_location("golden_fill", golden / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    data = np.load(golden / "train_step.npz")
    expected = json.loads((golden / "train_step_grad_norms.json").read_text())
    shapes = json.loads((golden / "state_dict_shapes.json").read_text())["hrnet_w32_256x192_halpe136"]
    state = {
        key.replace("keypoint_head.", "head."): torch.from_numpy(np.asarray(value))
        for key, value in fill.fill(shapes).items()
    }
    model = build_model("hrnet_w32", 136)
    model.load_state_dict(state)
    model.train()
    targets = torch.from_numpy(data["targets"])
    loss = heatmap_loss(model(torch.from_numpy(data["crops"])), targets, torch.ones(targets.shape[:2]))
    loss.backward()
    assert loss.item() == pytest.approx(float(data["loss"]), rel=1e-4)
    for name, parameter in model.named_parameters():
        norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        reference = expected[name.replace("head.", "keypoint_head.", 1) if name.startswith("head.") else name]
        assert norm == pytest.approx(reference, rel=1e-2, abs=1e-6), name
