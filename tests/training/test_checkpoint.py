"""Checkpoint files: whole or absent, whatever goes wrong."""

import os
import pathlib
import resource
import signal

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.training.checkpoint import CheckpointFolder, TrainingState  # noqa: E402


def make_state(step: int) -> TrainingState:
    random = torch.Generator().manual_seed(step)
    tensors = {
        "model.weight": torch.randn(64, 3, 3, 3, generator=random).to(memory_format=torch.channels_last),
        "model.count": torch.tensor(step),
        "model.empty": torch.zeros(0),
        "random.cpu": torch.get_rng_state(),
    }
    return TrainingState(tensors, {"step": step, "loss": 0.1 + step, "best": None})


def check(state: TrainingState | None, step: int) -> None:
    assert state is not None
    expected = make_state(step)
    assert dict(state.values) == dict(expected.values)
    assert state.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(state.tensors[name], tensor), name


def test_round_trip_keeps_the_last_ones(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep_last=2)
    assert folder.load_newest() is None
    for step in (1, 2, 10):
        folder.save(make_state(step))
    assert [path.name for path in folder.paths()] == ["step_000000002.safetensors", "step_000000010.safetensors"]
    check(folder.load_newest(), 10)
    check(folder.load(2), 2)
    assert set(make_state(1).group("model")) == {"weight", "count", "empty"}


def _fail_at(monkeypatch, target, name, nth):
    """Makes the nth call of a system function fail as a full or broken disk does."""
    real, calls = getattr(target, name), []

    def failing(*arguments, **keywords):
        calls.append(name)
        if len(calls) == nth:
            raise OSError(5, "Input/output error")
        return real(*arguments, **keywords)

    monkeypatch.setattr(target, name, failing)
    return calls


@pytest.mark.parametrize(
    ("target", "name", "times"),
    [(os, "fsync", 2), (pathlib.Path, "write_bytes", 1), (pathlib.Path, "replace", 1), (pathlib.Path, "unlink", 1)],
)
def test_fault_at_every_call_of_a_save(tmp_path, monkeypatch, target, name, times):
    """FAULTS 37: a write, fsync, rename or removal that fails: the error shows, and a whole checkpoint loads."""
    folder = CheckpointFolder(tmp_path, keep_last=1)
    folder.save(make_state(1))
    with monkeypatch.context() as patch:
        calls = _fail_at(patch, target, name, nth=10_000)
        folder.save(make_state(2))
        assert len(calls) == times
    for nth in range(1, times + 1):
        with monkeypatch.context() as patch:
            _fail_at(patch, target, name, nth)
            with pytest.raises(OSError, match="Input/output error"):
                folder.save(make_state(3))
        folder.clean()
        # After the rename the new one counts: the folder could not be synced, or the old one not removed.
        after_rename = (name, nth) in (("fsync", 2), ("unlink", 1))
        check(folder.load_newest(), 3 if after_rename else 2)
        assert not list(tmp_path.glob(".wholepose-*"))
        for path in tmp_path.glob("step_000000003*"):
            path.unlink()
        folder.save(make_state(2))


def test_disk_full_in_the_middle_of_the_file(tmp_path):
    """FAULTS 37: a real write that stops half way, by the limit of this process on file sizes."""
    folder = CheckpointFolder(tmp_path)
    path = folder.save(make_state(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, before[1]))
        with pytest.raises(OSError, match=r"step_000000002\.safetensors"):
            folder.save(make_state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    check(folder.load_newest(), 1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
