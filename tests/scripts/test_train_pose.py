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


@pytest.fixture
def teacher(tmp_path):
    """A network that sees every keypoint in the middle of the crop, rather surely."""
    from wholepose.models.checkpoints import save_model
    from wholepose.models.posenet import build_model
    from wholepose.weights import ModelCard

    torch.manual_seed(0)
    model = build_model("hrnet_w16_slim", 136)
    torch.nn.init.zeros_(model.head.final_layer.weight)
    torch.nn.init.constant_(model.head.final_layer.bias, 0.8)
    card = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(64, 64), decode_kernel=11)
    save_model(tmp_path / "teacher.safetensors", model, card)
    return tmp_path / "teacher.safetensors"


def test_plain_crops_are_the_varied_ones_before_they_were_varied(material):
    from pose_samples import one_batch

    for strength in (0.0, 1.0):
        batch = one_batch(material, {"body": 1.0}, (64, 64), 64, strength)
        assert batch.crops.shape == batch.plain.shape == (64, 64, 64, 3)
        apart = (batch.crops.float() - batch.plain.float()).abs().mean((1, 2, 3))
        if strength:
            assert (apart > 5).float().mean() > 0.5
            outlines = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(batch.crops, batch.plain, strict=True)]
            assert np.median(outlines) > 0.7  # mirrored together, too
        else:
            assert not apart.any()


def test_crops_are_the_same_whether_plain_ones_are_wanted_or_not(material):
    from pose_samples import Samples

    batches = []
    for plain in (True, False):
        samples = Samples(material, {"body": 0.5, "lspet": 0.5}, 3, plain)
        samples.want((64, 48), 32)
        batches.append(next(iter(samples)))
    with_plain, without = batches
    assert without.plain.numel() == 0
    for name in ("crops", "keypoints", "weights"):
        assert torch.equal(getattr(with_plain, name), getattr(without, name))


def test_noise_is_normal():
    from pose_samples import NORMAL

    assert abs(NORMAL.mean()) < 1e-6
    assert abs(NORMAL.std() - 1) < 0.02
    assert abs((np.abs(NORMAL) < 1).mean() - 0.683) < 0.005


def test_heatmaps_of_mirrored_crops_are_mirrored_cell_by_cell(material):
    from pose_samples import one_batch
    from teaching import mirror_crops, mirror_heatmaps
    from train_pose import targets_of

    from wholepose.skeletons import HALPE136

    batch = one_batch(material, {"body": 1.0}, (64, 64), 4, 0.0)
    targets, _ = targets_of(batch.keypoints, batch.weights, (64, 64), 2.0)
    dots = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    dots[0, 20, [0, 12, 60]] = 255
    assert mirror_crops(dots)[0, 20, :61, 0].nonzero().flatten().tolist() == [0, 48, 60]
    turned = batch.keypoints[:, HALPE136.flip_indices.copy()]
    turned[..., 0] = 60 - turned[..., 0]
    expected, _ = targets_of(turned, batch.weights, (64, 64), 2.0)
    torch.testing.assert_close(mirror_heatmaps(targets), expected)


def test_a_teacher_is_believed_where_labels_are_silent(material, teacher):
    from pose_samples import one_batch
    from teaching import LABELS, WAITING, Teacher, mirror_crops, mirror_heatmaps
    from train_pose import targets_of

    asked = Teacher(teacher, torch.device("cpu"))
    batch = one_batch(material, {"lspet": 1.0}, (64, 64), 3)
    targets, weight = targets_of(batch.keypoints, batch.weights, (64, 64), 2.0)
    for step in range(WAITING + 2):
        crops, told = asked.lesson(batch.crops, batch.plain, targets, weight)
        assert len(crops) == len(told) == (3 if step < WAITING else 6)
    torch.testing.assert_close(told[:3, 17:], torch.full_like(told[:3, 17:], 0.8), rtol=0, atol=1e-2)
    both = LABELS * targets[:, :17] + (1 - LABELS) * 0.8
    torch.testing.assert_close(told[:3, :17], both, rtol=0, atol=1e-2)
    assert torch.equal(crops[3:], mirror_crops(batch.crops))
    assert torch.equal(told[3:], mirror_heatmaps(told[:3]))
    larger = one_batch(material, {"lspet": 1.0}, (128, 64), 3)
    targets, weight = targets_of(larger.keypoints, larger.weights, (128, 64), 2.0)
    assert len(asked.lesson(larger.crops, larger.plain, targets, weight)[0]) == 3
    empty = one_batch(material, {"nobody": 1.0}, (64, 64), 2)
    targets, weight = targets_of(empty.keypoints, empty.weights, (64, 64), 2.0)
    assert not asked.lesson(empty.crops, empty.plain, targets, weight)[1].any()


def test_a_run_with_a_teacher_and_fixed_norms(packs, teacher, tmp_path):
    from wholepose.models.checkpoints import load_model

    run = tmp_path / "run"
    more = ("--minutes", "0.05", "--init", str(teacher), "--teacher", str(teacher), "--fixed-norms")
    subprocess.run(command(packs, run, *more), check=True, timeout=200)
    assert lines_of(run)[-1]["step"] >= 1
    before, after = (load_model(path)[0].state_dict() for path in (teacher, run / "average.safetensors"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "backbone.stage3.0.branches.0.0.conv1.weight" in changed
    assert not {name for name in changed if "running" in name or "num_batches" in name}


@pytest.mark.parametrize(
    ("stage", "option", "complaint"),
    [
        ("default", ["--fixed-norms"], "--fixed-norms needs --init"),
        ("clean", ["--teacher", "large.safetensors"], "the clean stage takes no --teacher"),
    ],
)
def test_options_that_do_not_go_together(packs, tmp_path, stage, option, complaint):
    words = command(packs, tmp_path / "run", "--minutes", "1", *option)
    words[2] = stage
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_fixed_norms_answer_and_learn_as_norms_in_evaluation_mode():
    import copy

    from fixed_norms import fix_norms

    from wholepose.models.posenet import build_model

    torch.manual_seed(0)
    usual = build_model("hrnet_w16_slim", 136).eval()
    for module in usual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    fixed = copy.deepcopy(usual)
    fix_norms(fixed)
    fixed.train()
    assert fixed.state_dict().keys() == usual.state_dict().keys()
    pictures = torch.randn(2, 3, 64, 64)
    answers = [network(pictures) for network in (usual, fixed)]
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-3, atol=1e-4)
    for answer in answers:
        answer.square().mean().backward()
    for (name, one), other in zip(usual.named_parameters(), fixed.parameters(), strict=True):
        scale = one.grad.abs().max()
        assert (one.grad - other.grad).abs().max() <= 1e-3 * scale + 1e-9, name


def test_eyes_and_nose_of_the_face_set_are_those_of_its_points(tmp_path):
    import cv2
    from pose_photos import read_photos

    from wholepose.skeletons import HALPE136

    folder = tmp_path / "face68"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), np.full((200, 200, 3), 90, np.uint8))
    keypoints = np.zeros((136, 3))
    keypoints[26:94] = np.column_stack([50 + np.arange(68), 150 - np.arange(68), np.full(68, 2)])
    person = {"id": 1, "image_id": 1, "bbox": [40, 70, 90, 90], "keypoints": keypoints.ravel().tolist()}
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [person],
        "categories": [{"keypoints": list(HALPE136.keypoint_names)}],
    }
    (folder / "train.json").write_text(json.dumps(document))
    (face,), _ = read_photos(folder, {})
    np.testing.assert_allclose(face.keypoints[[0, 1, 2]], [[80, 120], [94.5, 105.5], [88.5, 111.5]])
    assert face.labelled[:3].all()
    assert not face.labelled[3:7].any()
