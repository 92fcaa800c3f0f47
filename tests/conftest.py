"""Fixtures that find the golden files and, where they exist, the shared photos."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def plain_arithmetic() -> Iterator[None]:
    """Training switches denormal numbers off for its process; the next test has them again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of golden files: `WHOLEPOSE_GOLDEN`, else the copy that a clone carries."""
    return Path(os.environ.get("WHOLEPOSE_GOLDEN", ROOT / "tests" / "golden" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of shared photos beside the checkout; a clone elsewhere has none, and its tests skip."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the photos of ../shared/data, which a clone does not carry")
    return folder


@pytest.fixture(scope="session")
def tiny_models() -> ModuleType:
    """The module tests/tiny_models.py: ONNX files whose answers can be worked out by hand."""
    pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("tiny_models", ROOT / "tests" / "tiny_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault("tiny_models", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_videos() -> ModuleType:
    """The module tests/tiny_videos.py: small videos whose frames can be told apart."""
    spec = importlib.util.spec_from_file_location("tiny_videos", ROOT / "tests" / "tiny_videos.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault("tiny_videos", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fill(golden: Path) -> ModuleType:
    """The golden files' fill.py: deterministic weights for any {key: shape}."""
    spec = importlib.util.spec_from_file_location("golden_fill", golden / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def filled_model(fill: ModuleType) -> Callable[[str, int], Any]:
    """filled_model(arch, num_keypoints) is a PoseNet in evaluation mode with those weights."""
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    from wholepose.models.posenet import build_model

    def build(arch: str, num_keypoints: int) -> Any:
        model = build_model(arch, num_keypoints)
        weights = fill.fill({key: tuple(value.shape) for key, value in model.state_dict().items()})
        model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        return model.eval()

    return build
