"""Measures trained weights on the held-out LSP people made smaller, and packed tightly at that size.

python scripts/coarse_photos.py runs/default/average.safetensors --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pose_photos import Labelled, read_photos, shrunk
from pose_samples import packed
from train_pose import pck

from wholepose.models.checkpoints import load_model

CASES = ((None, None), (100, None), (70, None), (50, None), (35, None), (70, 50), (50, 50))
"""Longer side of a person's box in pixels, None as it is; JPEG quality, None unpacked."""


def coarser(person: Labelled, longest: int, quality: int | None) -> Labelled:
    """The person in a smaller photo."""
    factor = min(1.0, longest / (person.box[2:] - person.box[:2]).max())
    photo = shrunk(person.photo, factor)
    if quality is not None:
        photo = packed(photo, quality)
    return Labelled(photo, person.keypoints * factor, person.labelled, person.box * factor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="safetensors file of a pose model of 136 keypoints")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled photos")
    options = parser.parse_args()
    model, card = load_model(options.weights)
    _, people = read_photos(options.data / "lsp", {})
    for longest, quality in CASES:
        shown = people if longest is None else [coarser(person, longest, quality) for person in people]
        right = pck(model, shown, card.input_size, torch.device("cpu"))
        print(f"{longest or 'as it is':>8} px  JPEG {quality or '-':>2}  PCK 0.2 torso {right:.3f}", flush=True)


if __name__ == "__main__":
    main()
