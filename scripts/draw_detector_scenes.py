"""Draws synthetic scenes of several people, over photos without people, for the detector and for poses in company.

    python scripts/draw_detector_scenes.py --assets ../shared/data/makehuman --backgrounds ../shared/data/negatives \\
        --out runs/scenes

A shard holds pictures (N, S, S, 3) uint8 and a map (N, S, S) uint8 that says whose each pixel is, 0 for nobody's; then,
a row for each person, the number of the picture within the shard, keypoints (P, 136, 2), visibility (P, 136) and boxes
(P, 4) xyxy. What a scene shows depends on its number alone; a run that is started again goes on behind the shards that
are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wholepose.evaluation.holdout import split_photos
from wholepose.outputs import atomic_path
from wholepose.synth import SynthPeople

SHARD = 100
SIDE = 320
PEOPLE = ((1, 2), (1, 4), (3, 7))
"""Least and most people of every third scene."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="folder of MakeHuman assets; without it, procedural looks alone")
    parser.add_argument("--backgrounds", type=Path, required=True, help="a set of photos without people")
    parser.add_argument("--out", type=Path, required=True, help="folder of shards")
    parser.add_argument("--seed", type=int, default=202)
    parser.add_argument("--first", type=int, default=0, help="which of the --step processes this is, from 0")
    parser.add_argument("--step", type=int, default=1, help="how many processes draw")
    parser.add_argument("--count", type=int, default=2000, help="most scenes of all processes together")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    photos = link_backgrounds(options.backgrounds, options.out / "backgrounds")
    painters = [
        SynthPeople(options.seed, (SIDE, SIDE), people=people, assets=options.assets, backgrounds=photos)
        for people in PEOPLE
    ]
    for shard in range(options.first, options.count // SHARD, options.step):
        path = options.out / f"{shard:05d}.npz"
        if path.exists():
            continue
        images, owners = [], []
        people: dict[str, list[np.ndarray]] = {"of": [], "keypoints": [], "visibility": [], "boxes": []}
        for number_in_shard, index in enumerate(range(shard * SHARD, (shard + 1) * SHARD)):
            sample = painters[index % len(painters)].sample(index)
            people["of"].append(np.full(len(sample), number_in_shard))
            for name in ("keypoints", "visibility", "boxes"):
                people[name].append(getattr(sample, name))
            owner = np.zeros((SIDE, SIDE), dtype=np.uint8)
            for number, mask in enumerate(sample.masks, start=1):
                owner[mask] = number
            images.append(sample.image)
            owners.append(owner)
        joined = {name: np.concatenate(values) for name, values in people.items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, image=np.stack(images), owner=np.stack(owners), **joined)
        print(path, flush=True)


def link_backgrounds(source: Path, folder: Path) -> Path:
    """A folder of links to the photos that are not held out for counting false positives."""
    folder.mkdir(exist_ok=True)
    for photo in split_photos(source / "train.json")[0]:
        link = folder / photo.name
        if not link.exists():
            link.symlink_to(photo.resolve())
    return folder


if __name__ == "__main__":
    main()
