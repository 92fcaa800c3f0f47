"""Steps of no use are skipped and counted, and too many end the run."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.errors import TrainingError  # noqa: E402
from wholepose.training.learner import Learner  # noqa: E402
from wholepose.training.loading import TensorBatch  # noqa: E402
from wholepose.training.network import build_network  # noqa: E402
from wholepose.training.trainer import Trainer  # noqa: E402


def make_batch(labelled: bool = True, seed: int = 0) -> TensorBatch:
    random = np.random.default_rng(seed)
    crops = torch.from_numpy(random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
    keypoints = torch.from_numpy(random.uniform(0, 64, (8, 17, 2)).astype(np.float32))
    weights = torch.full((8, 17), float(labelled))
    return TensorBatch(crops, keypoints, weights, torch.zeros(8, 2, 3), torch.arange(8))


@pytest.fixture
def learner(figures, tiny):
    config = tiny(figures)
    return Learner(build_network(config), config, torch.device("cpu"))


def snapshot(learner: Learner) -> dict:
    return {name: tensor.clone() for name, tensor in learner.tensors().items()}


def assert_same(before: dict, after: dict) -> None:
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_a_batch_with_nothing_labelled_changes_nothing(learner):
    """FAULTS 40: no weight, no moment of the optimiser, no batch statistic moves."""
    assert learner.step(make_batch(), 1e-3).useful
    before = snapshot(learner)
    step = learner.step(make_batch(labelled=False), 1e-3)
    assert not step.useful
    assert step.loss == 0
    assert_same(before, learner.tensors())
    assert learner.step(make_batch(), 1e-3).useful


def test_a_loss_that_is_not_finite_changes_nothing(learner):
    """FAULTS 40: weights so large that activations overflow, as at a far too high learning rate."""
    learner.step(make_batch(), 1e-3)
    with torch.no_grad():
        weight = learner.network.head.final_layer.weight
        kept = weight.clone()
        weight.fill_(3e38)
    before = snapshot(learner)
    assert not learner.step(make_batch(seed=1), 1e-3).useful
    assert_same(before, learner.tensors())
    with torch.no_grad():
        weight.copy_(kept)
    assert learner.step(make_batch(), 1e-3).useful


def test_run_stops_after_ten_in_a_row(tmp_path, figures, tiny, watcher):
    """FAULTS 40: a learning rate that sends the weights to infinity; the last line of the error says what to do."""
    config = tiny(figures, epochs=20)
    config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, name="adam", lr=1e30))
    observer = watcher()
    trainer = Trainer(config, tmp_path / "run", device="cpu", observer=observer)
    with pytest.raises(TrainingError, match=r"10 steps in a row .* lower optimiser\.lr"):
        trainer.fit()
    assert trainer.progress.skipped_in_a_row == 10
    assert trainer.progress.step < 20
    assert sum("skipped" in line for line in observer.lines) == trainer.progress.skipped
    for name, tensor in trainer.learner.network.state_dict().items():
        assert name.endswith(("weight", "bias")) or tensor.isfinite().all(), name  # batch statistics stay clean


def test_skipped_steps_are_counted_in_the_log(tmp_path, draw, tiny):
    """FAULTS 40: people whose labels all lie outside their crops; their steps are skipped, the others are not."""
    annotations = draw(tmp_path / "figures", 24)
    document = json.loads(annotations.read_text())
    for entry in document["annotations"][:16]:
        points = np.array(entry["keypoints"]).reshape(17, 3)
        points[:, :2] = 5000
        entry["keypoints"] = points.reshape(-1).tolist()
    annotations.write_text(json.dumps(document))
    trainer = Trainer(tiny(annotations, batch_size=2, epochs=1, log_every=12), tmp_path / "run", device="cpu")
    assert trainer.fit().finished
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < line["skipped"] == trainer.progress.skipped < 12
    assert trainer.progress.updates + trainer.progress.skipped == trainer.progress.step == 12
    assert line["heatmap_loss"] > 0


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision(figures, tiny, amp):
    """One step on the processor, on small crops: half precision is slow there."""
    batch = TensorBatch(*(tensor[:2] for tensor in make_batch()))._replace(crops=make_batch().crops[:2, :32, :32])
    losses = []
    for mode in (amp, "off"):
        config = tiny(figures, amp=mode)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, input_size=(32, 32)))
        learner = Learner(build_network(config), config, torch.device("cpu"))
        before = snapshot(learner)["model.backbone.conv1.weight"]
        step = learner.step(batch, 1e-3)
        assert step.useful
        assert learner.scaler.is_enabled() == (mode == "fp16")
        assert not torch.equal(before, learner.network.backbone.conv1.weight)
        losses.append(step.loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_accumulated_parts_give_the_same_mean(figures, tiny):
    """Two parts of four: gradients differ from one of eight by the batch statistics alone, so these are frozen here."""
    losses, norms = [], []
    for accumulate in (1, 2):
        config = tiny(figures, accumulate=accumulate)
        learner = Learner(build_network(config), config, torch.device("cpu"))
        learner.model.eval()
        learner.optimiser.step = lambda *_, learner=learner: norms.append(
            [float(p.grad.norm()) for p in learner.network.parameters()]
        )
        losses.append(learner.step(make_batch(), 1e-3).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-3, atol=1e-7)
