"""Fixtures that find the golden files and, where they exist, the shared photos."""

import os
from pathlib import Path

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
