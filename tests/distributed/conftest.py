"""Pictures and an estimator for tests of distributed prediction."""

import functools
from pathlib import Path

import numpy as np
import pytest

from wholepose import PoseEstimator, save_image


@pytest.fixture(scope="session")
def model_path(tiny_models, tmp_path_factory) -> Path:
    return tiny_models.save_centroid_model(tmp_path_factory.mktemp("model") / "centroid.onnx")


@pytest.fixture(scope="session")
def make_estimator(model_path):
    """Makes an estimator whose keypoints are where the picture is bright; it has no detector."""
    return functools.partial(PoseEstimator.from_pretrained, model_path, detector=None, threads=1)


@pytest.fixture
def write_pictures(tiny_models):
    """write_pictures(folder, n) draws n pictures, each with its blob elsewhere; gives their names, sorted."""

    def write(folder: Path, count: int) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = tiny_models.blob_image((128, 96), (30 + index % 36, 60))
            save_image(folder / f"p{index:03}.png", image)
        return [str(folder / f"p{index:03}.png") for index in range(count)]

    return write


@pytest.fixture(scope="session")
def black_picture():
    return np.zeros((77, 60, 3), np.uint8)


@pytest.fixture
def place(tmp_path):
    """place(kind) gives the address of tmp_path; of "memory" that of a copy on another file system."""

    def give(kind: str) -> str:
        if kind == "here":
            return str(tmp_path)
        memory = pytest.importorskip("fsspec").filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        for path in tmp_path.rglob("*"):
            if path.is_file():
                memory.pipe(f"/bucket/{path.relative_to(tmp_path)}", path.read_bytes())
        return "memory:///bucket"

    return give
