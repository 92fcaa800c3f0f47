"""Writing pictures."""

from pathlib import Path

import numpy as np
import pytest

from wholepose.errors import ImageError
from wholepose.images import load_image, save_image

PICTURE = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
def test_lossless_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    save_image(tmp_path / f"a{suffix}", PICTURE[:, ::-1])
    assert np.array_equal(load_image(tmp_path / f"a{suffix}"), PICTURE[:, ::-1])
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_quality_sets_the_size(tmp_path: Path, suffix: str) -> None:
    sizes = []
    for quality in (20, 95):
        save_image(tmp_path / f"a{suffix}", PICTURE, quality=quality)
        assert load_image(tmp_path / f"a{suffix}").shape == PICTURE.shape
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
    assert sizes[0] < sizes[1]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the ending must be one of .jpg"):
        save_image(tmp_path / "a.eps", PICTURE)
    with pytest.raises(ValueError, match="quality"):
        save_image(tmp_path / "a.jpg", PICTURE, quality=0)
    with pytest.raises(ValueError, match="uint8"):
        save_image(tmp_path / "a.jpg", PICTURE / 255)
    with pytest.raises(ImageError, match=r"missing.*cannot be written \(No such file"):
        save_image(tmp_path / "missing" / "a.jpg", PICTURE)
    with pytest.raises(ImageError, match=r"JPEG holds at most 65500 pixels a side.*write .png"):
        save_image(tmp_path / "a.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    """FAULTS 35: old file whole or absent."""
    save_image(tmp_path / "a.png", PICTURE)
    with pytest.raises(ImageError):
        save_image(tmp_path / "a.jpg", np.zeros((70_000, 1, 3), np.uint8))
    assert np.array_equal(load_image(tmp_path / "a.png"), PICTURE)
