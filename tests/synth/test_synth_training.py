"""Synthetic people in training: drawn in loader processes, mixed with partial labels, resumed to the bit."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.cli.main import main  # noqa: E402
from wholepose.data import AugmentConfig, BatchSampler, DrawnSource, PoseDataset  # noqa: E402
from wholepose.data.augment import NO_AUGMENTATION  # noqa: E402
from wholepose.errors import ConfigError  # noqa: E402
from wholepose.geometry import crop_matrices, crop_regions, transform_points  # noqa: E402
from wholepose.skeletons import HALPE136  # noqa: E402
from wholepose.synth import SynthPeople  # noqa: E402
from wholepose.synth.painter import SynthPainter, make_painter  # noqa: E402
from wholepose.training.checkpoint import CheckpointFolder  # noqa: E402
from wholepose.training.config import (  # noqa: E402
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    ScheduleConfig,
    SetConfig,
    SynthConfig,
    TrainConfig,
)
from wholepose.training.loading import batches, make_loader  # noqa: E402
from wholepose.training.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def painter(body) -> SynthPainter:
    return SynthPainter(SynthPeople(2))


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """An annotated set that labels faces alone: 6 noisy photos."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    images, rows = [], []
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        points = np.zeros((136, 3))
        points[26:94] = np.column_stack([rng.uniform(20, 70, (68, 2)), np.full(68, 2)])
        images.append({"id": number, "file_name": f"{number}.png", "height": 90, "width": 90})
        row = {"id": number, "image_id": number, "category_id": 1, "keypoints": points.ravel().tolist()}
        rows.append({**row, "bbox": [15, 15, 60, 60], "area": 3000, "num_keypoints": 68})
    category = {"id": 1, "name": "person", "keypoints": list(HALPE136.keypoint_names)}
    (folder / "faces.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": [category]}))
    return folder / "faces.json"


def test_a_turned_and_mirrored_crop_is_the_photo_seen_that_way(body):
    """The renderer draws any crop directly; pixels and points agree with the same crop of another one."""
    people = SynthPeople(4, effects=0.0, people=(1, 1))
    size = (160, 120)
    straight = crop_matrices(*crop_regions(people.subject(1).box[None], 0.75), size)[0]
    turned = crop_matrices(*crop_regions(people.subject(1).box[None], 0.75, 2.0), size, 30.0)[0]
    mirror = np.array([[-1.0, 0.0, size[1] - 1.0], [0.0, 1.0, 0.0]])
    turned = mirror[:, :2] @ turned + np.column_stack([np.zeros((2, 2)), mirror[:, 2]])
    first, second = (people.subject(1).sample(matrix, size) for matrix in (straight, turned))
    there = np.linalg.inv(np.vstack([straight, [0, 0, 1]]))
    moved = transform_points(first.keypoints[0], (np.vstack([turned, [0, 0, 1]]) @ there)[:2])
    np.testing.assert_allclose(second.keypoints[0], moved, atol=1e-2)
    # Where the person is in the one, they are in the other.
    rows, columns = np.nonzero(second.masks[0])
    back = np.vstack([straight, [0, 0, 1]]) @ np.linalg.inv(np.vstack([turned, [0, 0, 1]]))
    x, y = np.round(transform_points(np.column_stack([columns, rows]).astype(float), back[:2])).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    assert first.masks[0][y[inside], x[inside]].mean() > 0.93
    assert inside.mean() > 0.95


def test_samples_show_who_they_are_labelled_with(painter):
    """Without augmentation the crop is the padded box; the labelled points lie on somebody."""
    dataset = PoseDataset([DrawnSource(painter, 4)], (128, 96), augment=NO_AUGMENTATION)
    for index in range(4):
        sample = dataset[0, index]
        assert sample.crop.shape == (128, 96, 3)
        labelled = sample.weights > 0
        assert labelled.sum() >= 8
        assert (sample.keypoints[labelled] > -20).all()
        assert (sample.keypoints[labelled] < [116, 148]).all()
        assert (dataset[1, index].crop != sample.crop).any(), "the next epoch shows others"


def test_hidden_faces_and_hands_are_not_labelled(painter):
    for number in range(8):
        person = painter.subject(number)
        seen = painter.people.subject(number).visibility
        for part in ("face", "left_hand", "right_hand"):
            members = list(HALPE136.parts[part])
            if (seen[members] == 2).mean() < 0.25:
                assert not (person.visibility[members] == 1).any()
        assert (person.visibility[:26] == seen[:26]).all() or (seen == 2).sum() < 8


def test_loader_processes_draw_what_this_process_draws(painter):
    augment = AugmentConfig(part_zoom_probability=0.3, colour_probability=0.5)
    dataset = PoseDataset([DrawnSource(painter, 6)], (64, 48), augment=augment, seed=1)

    def drawn(workers: int) -> list:
        sampler = BatchSampler(6, 3, seed=1)
        return [
            [tensor.numpy() for tensor in batch] for batch in batches(make_loader(dataset, sampler, workers=workers))
        ]

    for here, there in zip(drawn(0), drawn(2), strict=True):
        for ours, theirs in zip(here, there, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def config_for(faces: Path, **changes) -> TrainConfig:
    config = TrainConfig(
        model=ModelConfig(arch="hrnet_w16_slim", input_size=(64, 64), sigma=1.5, decode_kernel=5, init="kaiming"),
        optimiser=OptimiserConfig(name="adamw", lr=1e-3),
        schedule=ScheduleConfig(name="cosine", warmup_steps=2),
        data=DataConfig(train=(SetConfig(str(faces), weight=2.0),), synth=SynthConfig(people=4), workers=0),
        epochs=2,
        batch_size=8,
        seed=9,
    )
    return dataclasses.replace(config, **changes)


class Stopper:
    """Sends this process a signal after some steps."""

    def __init__(self, after: int) -> None:
        self.after, self.losses = after, []

    def started(self, config, steps, done) -> None:
        pass

    def stepped(self, epoch, loss, lr) -> None:
        self.losses.append(loss)
        if len(self.losses) == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def said(self, message) -> None:
        pass


def test_stopped_run_ends_as_one_that_was_not(body, faces, tmp_path):
    """Partly labelled faces, each twice, and four synthetic people: 16 samples an epoch, resumed with loaders."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = Trainer(config_for(faces), tmp_path / "whole", device="cpu", make_painter=make_painter)
        assert (len(whole.dataset), whole.total_steps) == (16, 4)
        whole.fit()
        config = config_for(faces)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=2))
        parts = tmp_path / "parts"
        assert not Trainer(config, parts, device="cpu", observer=Stopper(3), make_painter=make_painter).fit().finished
        assert Trainer(config, parts, device="cpu", make_painter=make_painter).fit().finished
    finally:
        torch.set_num_threads(before)
    first, second = (CheckpointFolder(run / "checkpoints").load_newest() for run in (tmp_path / "whole", parts))
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert tensor.numpy().tobytes() == second.tensors[name].numpy().tobytes(), name


def test_settings_that_cannot_work_are_named(faces, tmp_path):
    coco = config_for(faces, model=ModelConfig(arch="hrnet_w16_slim", input_size=(64, 64), skeleton="coco17"))
    with pytest.raises(ConfigError, match="136 keypoints of halpe136"):
        Trainer(coco, tmp_path / "run", device="cpu", make_painter=make_painter)
    with pytest.raises(ConfigError, match="nothing here draws them"):
        Trainer(config_for(faces), tmp_path / "run2", device="cpu")
    with pytest.raises(ConfigError, match="is not a folder"):
        make_painter(SynthConfig(people=1, backgrounds=str(tmp_path / "none")), 0)
    with pytest.raises(ConfigError, match=r"index\.json is missing"):
        make_painter(SynthConfig(people=1, assets=str(tmp_path)), 0)
    with pytest.raises(ConfigError, match="research licence"):
        SynthConfig(people=1, clean=True, hand_poses="poses.npz")
    with pytest.raises(ConfigError, match=r"data\.synth\.people"):
        SynthConfig(people=-1)


def test_train_command_needs_no_data(body, tmp_path, capsys):
    words = ["train", "small_w24_slim_256x192_synth", "--data", "synth:2", "--run", str(tmp_path / "run"), "--quiet"]
    for setting in ("model.arch=hrnet_w16_slim", "model.input_size=64,64", "epochs=1", "batch_size=2"):
        words += ["--set", setting]
    assert main([*words, "--set", "data.workers=0", "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["synth"]["people"] == 2
    assert (tmp_path / "run" / "last.safetensors").is_file()
