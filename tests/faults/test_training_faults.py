"""Processes that are killed outright while they train (FAULTS 36 and 41)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.skeletons import COCO17  # noqa: E402
from wholepose.training.checkpoint import CheckpointFolder  # noqa: E402
from wholepose.training.run_log import UNREPEATABLE  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """Twelve pictures of noise with a person each: nothing to learn, but every number depends on every other."""
    folder = tmp_path_factory.mktemp("noise")
    chance = np.random.default_rng(0)
    people, images = [], []
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), chance.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
        points = np.column_stack([chance.uniform(10, 54, (17, 2)), np.full(17, 2)]).reshape(-1).tolist()
        entry = {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 54, 54], "area": 1300}
        people.append({**entry, "iscrowd": 0, "num_keypoints": 17, "keypoints": points})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    path = folder / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return path


def start(annotations: Path, run: Path, *settings: str) -> subprocess.Popen:
    chosen = "model.arch=hrnet_w16_slim model.input_size=32,32 batch_size=2 log_every=1 flip_test=false ema_decay=0.9"
    chosen = [*chosen.split(), "evaluate_every=5", "schedule.warmup_steps=5", *settings]
    words = ["small_w24_slim_128x96", "--data", str(annotations), "--val", str(annotations), "--run", str(run)]
    words += ["--device", "cpu", *(word for setting in chosen for word in ("--set", setting))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "wholepose", "train", *words], stderr=subprocess.PIPE, text=True, env=environment
    )


def newest(run: Path) -> int:
    steps = [int(path.name[5:14]) for path in (run / "checkpoints").glob("step_*.safetensors")]
    return max(steps, default=0)


def result(run: Path):
    state = CheckpointFolder(run / "checkpoints").load_newest()
    assert state is not None
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    log = [{key: value for key, value in line.items() if key not in UNREPEATABLE} for line in lines]
    values = {name: value for name, value in state.values.items() if name != "log_bytes"}
    return {name: tensor.numpy().tobytes() for name, tensor in state.tensors.items()}, values, log


def test_killed_at_20_instants(tmp_path, noise):
    """FAULTS 36: SIGKILL at 20 random instants, some inside a save; the end equals the uninterrupted run's."""
    # Saving after every step, most of the time goes into saves.
    settings = ("data.workers=0", "epochs=60", "checkpoint_minutes=0")
    whole = start(noise, tmp_path / "whole" / "run", *settings)
    chance = random.Random(0)
    run = tmp_path / "killed" / "run"
    inside_a_save = 0
    for _ in range(20):
        process = start(noise, run, *settings)
        before, deadline = newest(run), time.monotonic() + 300
        while newest(run) <= before:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        until = time.monotonic() + chance.uniform(0, 0.5)
        wants_a_save = chance.random() < 0.5
        while time.monotonic() < until or (wants_a_save and not list((run / "checkpoints").glob(".wholepose-*"))):
            assert time.monotonic() < deadline
        process.kill()
        process.wait()
        inside_a_save += bool(list((run / "checkpoints").glob(".wholepose-*")))
    assert inside_a_save >= 3
    for process in (start(noise, run, *settings), whole):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert newest(run) == 360
    for ours, expected in zip(result(run), result(tmp_path / "whole" / "run"), strict=True):
        assert ours == expected
    assert not list((run / "checkpoints").glob(".wholepose-*"))


def descendants(pid: int) -> dict[int, str]:
    """Commands of all processes below one, by id."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, IndexError):  # it ended meanwhile
            continue
    found, waiting = {}, [pid]
    while waiting:
        parent = waiting.pop()
        for child in [child for child, its_parent in parents.items() if its_parent == parent]:
            found[child] = commands.get(child, "")
            waiting.append(child)
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize("victim", ["loader", "trainer"])
def test_loader_process_killed(tmp_path, noise, victim):
    """FAULTS 41: an error within 60 s that says what to do, and no orphans; nor any when the trainer is killed."""
    run = tmp_path / "run"
    process = start(noise, run, "data.workers=2", "epochs=100000", "evaluate_every=100000")
    try:
        deadline = time.monotonic() + 300
        while not (run / "log.jsonl").exists() or (run / "log.jsonl").stat().st_size < 1000:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        below = descendants(process.pid)
        loaders = [pid for pid in below if any(pid in descendants(other) for other in below)]
        assert len(loaders) == 2, below
        began = time.monotonic()
        os.kill(loaders[0] if victim == "loader" else process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        if victim == "loader":
            assert process.returncode == 1
            assert "a loader process died" in errors
            assert "data.workers=0" in errors
        while any(alive(pid) for pid in below):
            assert time.monotonic() - began < 60, [below[pid] for pid in below if alive(pid)]
            time.sleep(0.1)
    finally:
        process.kill()
