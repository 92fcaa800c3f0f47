"""Draws the synthetic crops that scripts/train_v0.py mixes with photos, until it is stopped.

python scripts/draw_v0_crops.py --data ../shared/data --out runs/synth_v0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wholepose.synth import SynthPeople

SHARD = 250
MOST = 12_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with makehuman, negatives and hand21")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first crop, to go on from an earlier run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    people = SynthPeople(
        seed=77,
        size=(320, 240),
        assets=options.data / "makehuman",
        backgrounds=options.data / "negatives" / "images",
        hand_poses=options.data / "hand21" / "hand_poses.npz",
    )
    shard = []
    for index in range(options.first, MOST):
        sample = people.sample_crop(index, padding=1.5)
        if len(sample) == 1:
            shard.append((sample.image, sample.keypoints[0], sample.visibility[0], sample.boxes[0]))
        if len(shard) == SHARD:
            columns = [np.stack(column) for column in zip(*shard, strict=True)]
            names = ("image", "keypoints", "visibility", "boxes")
            np.savez(options.out / f"{index:06d}.npz", **dict(zip(names, columns, strict=True)))
            print(index + 1, flush=True)
            shard.clear()


if __name__ == "__main__":
    main()
