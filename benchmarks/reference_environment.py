"""Makes an environment with MMPose 0.29 from PyPI, for ``benchmarks/side_by_side.py --reference``.

    python3.11 benchmarks/reference_environment.py ~/mmpose-0.29

MMPose 0.29 is of 2022, and does not install by its name alone any more: its dependencies want an old NumPy, OpenCV and
setuptools, mmcv compiles GPU operators that a pose model does not need, and xtcocotools must be built against the NumPy
that is there. PyTorch is a current one. Needs Python 3.11 (with a C compiler and Python's headers), apart from the
project's own environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "torch==2.13.0"
OLD = (
    "numpy<1.24",
    "opencv-python-headless<4.9",
    "setuptools<80",
    "wheel",
    "cython<3",
    "scipy<1.12",
    "pillow<12",
    "yapf==0.40.1",
    *("six", "json_tricks", "munkres", "matplotlib<3.9", "addict", "pyyaml", "packaging"),
)

# MMPose asks torchvision for two functions, and torchvision for a PyTorch of exactly its own version and build.
TORCHVISION = '''\
"""Stands in for torchvision: the two functions that MMPose 0.29 calls in its test pipeline."""

__version__ = "0.28.0"

from torchvision import transforms  # noqa: F401
'''
FUNCTIONAL = '''\
"""``to_tensor`` and ``normalize`` as torchvision does them on the CPU."""

import numpy as np
import torch


def to_tensor(picture):
    """(H, W, C) uint8 to (C, H, W) float32 in [0, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return planes.to(torch.float32).div(255) if planes.dtype == torch.uint8 else planes


def normalize(tensor, mean, std, inplace=False):
    """(C, H, W) float, less the mean, over the deviation."""
    tensor = tensor if inplace else tensor.clone()
    mean = torch.as_tensor(mean, dtype=tensor.dtype).view(-1, 1, 1)
    std = torch.as_tensor(std, dtype=tensor.dtype).view(-1, 1, 1)
    return tensor.sub_(mean).div_(std)
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to make it")
    folder = parser.parse_args().folder
    if sys.version_info[:2] != (3, 11):
        sys.exit("run this with Python 3.11: no NumPy below 1.24 has wheels for later ones")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"

    def install(*words: str, **variables: str) -> None:
        subprocess.run([python, "-m", "pip", "install", *words], env={**os.environ, **variables}, check=True)

    install(TORCH, *OLD)
    install("--no-build-isolation", "--no-deps", "mmcv==1.7.0", MMCV_WITH_OPS="0")
    install("--no-build-isolation", "--no-deps", "--no-binary", "xtcocotools", "xtcocotools")
    install("--no-deps", "mmpose==0.29.0")
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    transforms = Path(packages) / "torchvision" / "transforms"
    transforms.mkdir(parents=True, exist_ok=True)
    (transforms.parent / "__init__.py").write_text(TORCHVISION)
    (transforms / "__init__.py").write_text("from torchvision.transforms import functional  # noqa: F401\n")
    (transforms / "functional.py").write_text(FUNCTIONAL)
    subprocess.run([python, "-c", "import mmpose.apis; print('MMPose', mmpose.__version__)"], check=True)


if __name__ == "__main__":
    main()
