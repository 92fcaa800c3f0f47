"""Two processes by torchrun do what one with the whole batch does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.data.sampler import BatchSampler  # noqa: E402
from wholepose.training.processes import SharedBatchNorm, synchronise_batch_norm  # noqa: E402

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def read_log(run, mode: str) -> list[dict]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["mode"] == mode]


def finish(process: subprocess.Popen, seconds: float = 240) -> str:
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return errors


def test_same_loss_curve_as_one_process(tmp_path, cli, tiny_words):
    """Within 1e-5 at every step; batch statistics too, and the validation counts every person once."""
    # A small rate: Adam divides even gradients that are nothing but rounding by their own size.
    settings = ("optimiser.lr=2e-4", "epochs=2", "ema_decay=0.5")
    one = cli(*tiny_words(tmp_path / "one", *settings))
    two = cli(*tiny_words(tmp_path / "two", *settings), launcher=TORCHRUN)
    finish(one)
    messages = finish(two)
    assert messages.count("finished, AP") == 1  # process 0 alone speaks
    curves = [[line["heatmap_loss"] for line in read_log(tmp_path / name, "train")] for name in ("one", "two")]
    assert len(curves[0]) == 6
    assert curves[0][0] > curves[0][-1] > 1e-4  # not small because nothing is left of it
    np.testing.assert_allclose(curves[0], curves[1], rtol=0, atol=1e-5)
    validations = [read_log(tmp_path / name, "val") for name in ("one", "two")]
    assert [line["epoch"] for line in validations[1]] == [2]
    for ours, whole in zip(validations[1], validations[0], strict=True):
        assert ours["AP"] == pytest.approx(whole["AP"], abs=0.05)


def test_a_photo_that_the_second_process_cannot_read_costs_no_step(tmp_path, cli, tiny_words, draw):
    """The first process, which writes checkpoints, has no part in it."""
    annotations = draw(tmp_path / "figures", 24)
    sampler = BatchSampler(24, 4, seed=0, rank=1, processes=2)
    _, person = list(sampler)[2][0]  # of its third step
    (tmp_path / "figures" / f"{person}.png").write_bytes(b"no picture")
    words = tiny_words(tmp_path / "run", "epochs=1", val=False)
    words[words.index("--data") + 1] = str(annotations)
    process = cli(*words, launcher=TORCHRUN)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"{person}.png: is a text, not an image" in errors
    assert "another process could not go on" in errors
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_000000002.safetensors"]


_BATCH_NORM = """
import os, sys, torch, torch.distributed as dist
from torch import nn
from wholepose.training import processes
torch.set_num_threads(1)
rank, count = processes.join()
torch.manual_seed(0)
data, target = torch.randn(8, 3, 5, 4, dtype=torch.float64) * 3 + 1, torch.randn(8, 6, 5, 4, dtype=torch.float64)
whole = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)).double()
shared = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)).double()
shared.load_state_dict(whole.state_dict())
processes.synchronise_batch_norm(shared, torch.device("cpu"))
(whole(data) - target).square().mean().backward()
part = slice(4 * rank, 4 * rank + 4)
(shared(data[part]) - target[part]).square().mean().backward()
for ours, theirs in zip(shared.parameters(), whole.parameters()):
    gradient = ours.grad.clone()
    dist.all_reduce(gradient)
    torch.testing.assert_close(gradient / count, theirs.grad)
for ours, theirs in zip(shared.buffers(), whole.buffers()):
    torch.testing.assert_close(ours, theirs)
assert processes.gather(rank) == [0, 1]
assert processes.totals([1.0, rank], torch.device("cpu")) == [2.0, 1.0]
processes.leave()
"""


def test_shared_batch_norm_is_that_of_the_whole_batch(tmp_path):
    """Outputs, running statistics and gradients, in double precision against PyTorch's own on one process."""
    script = tmp_path / "check.py"
    script.write_text(_BATCH_NORM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *TORCHRUN, str(script)]
    finish(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))


def test_conversion_keeps_weights_and_names():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    with torch.no_grad():
        model[1].weight.uniform_()
        model[1].running_mean.uniform_()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    synchronise_batch_norm(model, torch.device("cpu"))
    assert isinstance(model[1], SharedBatchNorm)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    crops = torch.rand(2, 3, 4, 4)
    assert torch.isfinite(model.eval()(crops)).all()
