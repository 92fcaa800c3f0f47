"""Fixtures that find the golden files and, where they exist, the shared photos."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
