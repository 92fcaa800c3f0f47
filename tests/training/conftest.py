"""A data set of drawn figures: small, quickly learnt, and without a licence."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from wholepose.skeletons import COCO17

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.data.augment import AugmentConfig  # noqa: E402
from wholepose.models.checkpoints import load_model  # noqa: E402
from wholepose.training.checkpoint import CheckpointFolder  # noqa: E402
from wholepose.training.config import (  # noqa: E402
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    ScheduleConfig,
    SetConfig,
    TrainConfig,
)
from wholepose.training.run_log import UNREPEATABLE  # noqa: E402

# Where the 17 keypoints of a standing figure are, x to the viewer's right, in a box of one by one.
_STANDING = np.array(
    [
        *([0.50, 0.08], [0.56, 0.05], [0.44, 0.05], [0.63, 0.08], [0.37, 0.08]),
        *([0.72, 0.25], [0.28, 0.25], [0.85, 0.42], [0.15, 0.42], [0.90, 0.58], [0.10, 0.58]),
        *([0.63, 0.55], [0.37, 0.55], [0.65, 0.76], [0.35, 0.76], [0.66, 0.96], [0.34, 0.96]),
    ]
)


def draw_figures(folder: Path, people: int, seed: int = 0, *, unlabelled: tuple[int, ...] = ()) -> Path:
    """Draws one figure a picture, each keypoint a disc of its own colour, and writes COCO annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    colors = np.random.default_rng(7).integers(60, 256, (17, 3)).tolist()
    images, annotations = [], []
    for number in range(people):
        canvas = np.full((96, 96, 3), random.integers(0, 50, 3), dtype=np.uint8)
        width, height = random.uniform(34, 44), random.uniform(60, 76)
        corner = random.uniform((4, 4), (92 - width, 92 - height))
        places = corner + (_STANDING + random.normal(0, 0.025, _STANDING.shape)) * (width, height)
        for start, end in ((5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)):
            ends = [tuple(int(v) for v in np.rint(places[k])) for k in (start, end)]
            cv2.line(canvas, ends[0], ends[1], (120, 120, 120), 2, cv2.LINE_AA)
        for place, color in zip(places, colors, strict=True):
            center = tuple(int(v) for v in np.rint(place * 16))
            cv2.circle(canvas, center, 48, color, -1, cv2.LINE_AA, 4)
        cv2.imwrite(str(folder / f"{number}.png"), canvas[..., ::-1])
        visibility = np.full(17, 0 if number in unlabelled else 2)
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": 96, "width": 96})
        annotations.append(
            {
                "id": number + 1,
                "image_id": number + 1,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*corner.tolist(), width, height],
                "area": 0.53 * width * height,
                "num_keypoints": int((visibility > 0).sum()),
                "keypoints": np.column_stack([places, visibility]).reshape(-1).tolist(),
            }
        )
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}],
    }
    path = folder / "figures.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="session")
def figures(tmp_path_factory) -> Path:
    """Annotation file of 24 drawn figures."""
    return draw_figures(tmp_path_factory.mktemp("figures"), 24)


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """The function that draws a set."""
    return draw_figures


@pytest.fixture(scope="module", autouse=True)  # before fixtures of a module, which train too
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_config(annotations: Path, val: Path | None = None, **changes) -> TrainConfig:
    """Three steps an epoch of the smallest network on small crops, with every kind of chance at work."""
    config = TrainConfig(
        model=ModelConfig(
            arch="hrnet_w16_slim", input_size=(64, 64), skeleton="coco17", sigma=1.5, decode_kernel=5, init="kaiming"
        ),
        optimiser=OptimiserConfig(name="adamw", lr=2e-3, weight_decay=0.01, clip_norm=1.0),
        schedule=ScheduleConfig(name="cosine", warmup_steps=2),
        data=DataConfig(
            train=(SetConfig(str(annotations)),), val=None if val is None else SetConfig(str(val)), workers=0
        ),
        augment=AugmentConfig(colour_probability=0.5, jpeg_probability=0.3, occlusion_probability=0.3),
        epochs=3,
        batch_size=8,
        ema_decay=0.9,
        log_every=2,
        evaluate_every=2,
        flip_test=False,
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrainConfig]:
    """The function that makes a tiny configuration."""
    return tiny_config


class Watcher:
    """Hears what a run says, and can send this process a signal after some steps."""

    def __init__(self, stop_after: int | None = None, number: int = signal.SIGTERM) -> None:
        self.stop_after, self.number = stop_after, number
        self.losses: list[float] = []
        self.lines: list[str] = []

    def started(self, config: TrainConfig, steps: int, done: int) -> None:
        self.steps, self.done = steps, done

    def stepped(self, epoch: int, loss: float, lr: float) -> None:
        self.losses.append(loss)
        if len(self.losses) == self.stop_after:
            os.kill(os.getpid(), self.number)

    def said(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="session")
def watcher() -> type[Watcher]:
    return Watcher


def state_of(run: Path):
    """Everything of a run that must not depend on where it was interrupted."""
    state = CheckpointFolder(run / "checkpoints").load_newest()
    assert state is not None
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key not in UNREPEATABLE} for line in lines]
    weights = {}
    for path in run.glob("*.safetensors"):  # the format puts its metadata in an order of chance
        model, card = load_model(path)
        weights[path.name] = (card, {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()})
    values = {name: value for name, value in state.values.items() if name != "log_bytes"}  # times have lengths too
    return {name: tensor.numpy().tobytes() for name, tensor in state.tensors.items()}, values, log, weights


@pytest.fixture(scope="session")
def state() -> Callable[[Path], object]:
    """The function that reads what two runs are compared by."""
    return state_of


def start_cli(*words: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts `wholepose train` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, "-m", *(("--",) if launcher else ()), "wholepose", "train", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.Popen[str]]:
    """The function that starts the command."""
    return start_cli


TINY_SETTINGS = (
    "model.arch=hrnet_w16_slim model.input_size=64,64 model.skeleton=coco17 model.sigma=1.5 model.decode_kernel=5 "
    "epochs=3 batch_size=8 ema_decay=0.9 log_every=1 evaluate_every=2 flip_test=false data.workers=0 "
    "schedule.warmup_steps=2"
)


@pytest.fixture(scope="session")
def tiny_words(figures) -> Callable[..., list[str]]:
    """The words of a tiny training on the command line."""

    def words(run: Path, *more: str, val: bool = True) -> list[str]:
        settings = [*TINY_SETTINGS.split(), *more]
        start = ["small_w24_slim_128x96", "--data", str(figures), "--run", str(run), "--device", "cpu"]
        return [*start, *(["--val", str(figures)] if val else []), *(w for s in settings for w in ("--set", s))]

    return words
