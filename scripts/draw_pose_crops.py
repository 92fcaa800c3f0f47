"""Draws the synthetic crops that scripts/train_pose.py learns from: whole people, faces and hands.

    python scripts/draw_pose_crops.py --assets ../shared/data/makehuman --out runs/crops --first 0 --step 2
    python scripts/draw_pose_crops.py --assets ../shared/data/makehuman --out runs/crops --first 1 --step 2

Two processes draw every other crop each. A crop's number alone decides what is on it; a run that is started again goes
on behind the shards that are there. All looks are clean; with --hand-poses, skin pictures and hand shapes of other
terms come in, for the default stage alone:

    python scripts/draw_pose_crops.py --assets ../shared/data/makehuman --out runs/hands --parts left_hand right_hand \\
        --seed 102 --hand-poses ../shared/data/hand21/hand_poses.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wholepose.outputs import atomic_path
from wholepose.skeletons import HALPE136
from wholepose.synth import SynthPeople

SHARD = 100
PARTS = (None,) * 6 + ("face", "face", "left_hand", "right_hand")
"""What crop number n shows: entry n modulo 10, None for the whole person."""
SIZES = {None: (256, 192), "face": (160, 120), "left_hand": (160, 120), "right_hand": (160, 120)}
PADDINGS = {None: 1.45, "face": 2.0, "left_hand": 2.2, "right_hand": 2.2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="folder of MakeHuman assets; without it, procedural looks alone")
    parser.add_argument("--out", type=Path, required=True, help="folder of shards")
    parser.add_argument("--parts", nargs="+", choices=[part for part in SIZES if part], help="draw these alone")
    parser.add_argument("--hand-poses", type=Path, help=".npz of hand shapes; looks are then not clean")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--first", type=int, default=0, help="which of the --step processes this is, from 0")
    parser.add_argument("--step", type=int, default=1, help="how many processes draw")
    parser.add_argument("--count", type=int, default=60_000, help="most crops of all processes together")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    parts, clean = tuple(options.parts or PARTS), options.hand_poses is None
    painters = {
        size: SynthPeople(options.seed, size, assets=options.assets, hand_poses=options.hand_poses, clean=clean)
        for size in sorted({SIZES[part] for part in parts})
    }
    for shard in range(options.first, options.count // SHARD, options.step):
        path = options.out / f"{shard:05d}.npz"
        if not path.exists():
            draw(shard, parts, painters, path)
            print(path, flush=True)


def draw(shard: int, parts: tuple[str | None, ...], painters: dict[tuple[int, int], SynthPeople], path: Path) -> None:
    """Draws the crops of one shard, numbers shard * SHARD and following, and leaves out those that show too little."""
    columns: dict[str, list] = {}
    for index in range(shard * SHARD, (shard + 1) * SHARD):
        part = parts[index % len(parts)]
        sample = painters[SIZES[part]].sample_crop(index, padding=PADDINGS[part], part=part)
        kind = "body" if part is None else part
        if len(sample) == 1 and (sample.visibility[0, list(HALPE136.parts[kind])] == 2).mean() > 0.3:
            for name, value in (
                ("image", sample.image),
                ("keypoints", sample.keypoints[0]),
                ("visibility", sample.visibility[0]),
                ("box", sample.boxes[0]),
            ):
                columns.setdefault(f"{kind}_{name}", []).append(value)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: np.stack(values) for name, values in columns.items()})


if __name__ == "__main__":
    main()
