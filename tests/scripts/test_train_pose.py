"""scripts/train_pose.py from packed people to weights, stopped and gone on with; what a teacher adds."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts_to_import(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])


def smooth_picture(rng, height, width, channels=3):
    import cv2

    small = rng.integers(0, 256, (6, 5, channels)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def material():
    from pose_photos import Labelled, Material

    rng = np.random.default_rng(0)
    people = {"body": [], "lspet": [], "coco": []}
    for name in ("body", "lspet"):
        for _ in range(6):
            keypoints = rng.uniform((60, 40), (140, 220), (136, 2)).astype(np.float32)
            labelled = np.arange(136) < (136 if name == "body" else 17)
            box = np.array([50, 30, 150, 230.0])
            people[name].append(Labelled(smooth_picture(rng, 256, 192), keypoints, labelled, box))
    photo = smooth_picture(rng, 300, 700)
    for x in (100, 400):  # two people in one photo; the feet of one are known to be nowhere
        keypoints = rng.uniform((x, 100), (x + 60, 180), (136, 2)).astype(np.float32)
        keypoints[20:26] = np.inf
        people["coco"].append(Labelled(photo, keypoints, np.arange(136) < 26, np.array([x, 90, x + 60, 190.0])))
    return Material(
        people=people,
        held_out=people["lspet"][:1],
        backgrounds=[smooth_picture(rng, 256, 256) for _ in range(3)],
        figures=[smooth_picture(rng, 200, 80, 4)],
    )


@pytest.fixture
def packs(material, tmp_path):
    from pack_pose import write_packs

    clean = {id(person) for person in material.people["body"]}
    paths = write_packs(material, clean, tmp_path / "packs", 12_000)
    assert len(paths) > 1
    return tmp_path / "packs"


def by_position(people):
    return sorted(people, key=lambda person: tuple(np.nan_to_num(person.keypoints[3] - person.box[:2], posinf=0)))


def test_packs_hold_everybody_with_their_pictures(material, packs):
    from pack_pose import read_packs

    read = read_packs("default", packs)
    assert {name: len(people) for name, people in read.people.items()} == {"body": 6, "lspet": 6, "coco": 2}
    assert [len(read.held_out), len(read.backgrounds), len(read.figures)] == [1, 3, 1]
    assert read.figures[0].shape == (200, 80, 4)
    for name, people in material.people.items():
        for before, after in zip(by_position(people), by_position(read.people[name]), strict=True):
            move = before.box[:2] - after.box[:2]
            np.testing.assert_allclose(before.box, after.box + np.tile(move, 2), atol=1e-3)
            np.testing.assert_array_equal(before.labelled, after.labelled)
            known = before.labelled & np.isfinite(before.keypoints).all(1)
            np.testing.assert_allclose(before.keypoints[known], after.keypoints[known] + move, atol=0.07)
            assert np.isinf(after.keypoints[before.labelled & ~known]).all()
            x, y = move.astype(int)
            height, width = after.photo.shape[:2]
            same = before.photo[y : y + height, x : x + width].astype(int) - after.photo
            assert np.abs(same).mean() < 6
    first, second = read.people["coco"]
    assert first.photo is second.photo
    assert first.photo.shape[1] < 700  # cut around the two


def test_the_clean_stage_takes_clean_people_alone_from_packs(material, packs):
    from pack_pose import read_packs

    read = read_packs("clean", packs)
    assert {name: len(people) for name, people in read.people.items()} == {"body": 6}
    assert not read.figures
    assert not read.held_out
    photos = {picture.tobytes() for picture in read_packs("default", packs).backgrounds}
    assert not photos & {picture.tobytes() for picture in read.backgrounds}


def test_no_packs_are_complained_of(tmp_path):
    from pack_pose import read_packs

    with pytest.raises(SystemExit, match=r"holds no packs; scripts/pack_pose.py writes them"):
        read_packs("default", tmp_path)


def command(packs, run, *more):
    fixed = ("--arch", "hrnet_w16_slim", "--batch", "2", "--threads", "1", "--packs", str(packs), "--run", str(run))
    return [sys.executable, str(SCRIPTS / "train_pose.py"), "default", *fixed, *more]


def lines_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_is_stopped_goes_on_where_it_was(packs, tmp_path, workers):
    from wholepose.models.checkpoints import load_model

    run = tmp_path / "run"
    with subprocess.Popen(command(packs, run, "--minutes", "60", "--workers", workers)) as process:
        until = time.monotonic() + 100
        while not (run / "log.jsonl").exists() or len(lines_of(run)) < 2:  # the second comes after a step
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    first = lines_of(run)
    assert first[-1]["end"]
    assert first[-1]["step"] >= 1
    subprocess.run(command(packs, run, "--minutes", "0.1", "--workers", workers), check=True, timeout=100)
    second = lines_of(run)[len(first) :]
    assert second[0]["step"] == first[-1]["step"]
    assert second[-1]["seen"] == 2 * second[-1]["step"]
    model, card = load_model(run / "average.safetensors")
    assert (card.arch, model.num_keypoints) == ("hrnet_w16_slim", 136)


def test_a_teacher_is_heeded_where_labels_are_silent(packs, tmp_path):
    """A crop without labels teaches nothing without a teacher, and with one what the teacher says."""
    import argparse

    from together import Together
    from train_pose import Run

    taught = []
    for number in range(2):
        torch.manual_seed(number)
        options = argparse.Namespace(run=tmp_path / str(number), stage="default", arch="hrnet_w16_slim", init=None)
        options.run.mkdir()
        options.teacher = None
        if number:
            torch.nn.init.constant_(taught[0].model.head.final_layer.bias, 3.0)
            taught[0].average.load_state_dict(taught[0].model.state_dict())
            taught[0].save()
            options.teacher = tmp_path / "0" / "average.safetensors"
        taught.append(Run(options, torch.device("cpu"), Together()))
    batch = (torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.zeros(2, 136, 2), torch.zeros(2, 136))
    losses = []
    for run in taught:
        run.model.train()
        losses.append([run.learn(batch, 1.5, 1.0).item() for _ in range(5)])
    assert losses[0] == [0.0] * 5
    assert losses[1][4] < losses[1][0]
    assert taught[1].model.head.final_layer.bias.min() > 0
