"""Times synthetic people: crops of 256x192 as the trainer draws them, on one core.

python benchmarks/speed_synth.py
python benchmarks/speed_synth.py --assets ../shared/data/makehuman --backgrounds ../shared/data/negatives
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

from timing import Row, measure

CROPS = 20
"""Crops differ much; each measurement is the mean over so many."""


def synth_rows(assets: Path | None = None, backgrounds: Path | None = None) -> list[Row]:
    """A dressed person with texture, shadow and background; and the same as crops come, others standing around."""
    import cv2

    from wholepose.synth import SynthPeople

    cv2.setNumThreads(1)

    def crops(most: int) -> Callable[[], None]:
        people = SynthPeople(0, (256, 192), people=(1, most), assets=assets, backgrounds=backgrounds)
        numbers = itertools.cycle(range(5 * CROPS))  # the same crops in every run

        def draw() -> None:
            for number in itertools.islice(numbers, CROPS):
                people.sample_crop(number)

        return draw

    looks = "assets" if assets else "procedural"
    alone = measure(crops(1), seconds=0, per_call=CROPS)
    group = measure(crops(4), seconds=0, per_call=CROPS)
    return [
        Row(f"synthetic crop 256x192, one person, {looks} (budget 83)", *alone, "-"),
        Row(f"synthetic crop 256x192, up to 3 others, {looks}", *group, "-"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="folder of MakeHuman assets")
    parser.add_argument("--backgrounds", type=Path, help="folder of photos without people")
    options = parser.parse_args()
    for row in synth_rows(options.assets, options.backgrounds):
        print(f"{row.stage:<66}{row.milliseconds:>8.2f} ms, IQR {row.spread:.2f}   {1e3 / row.milliseconds:.1f}/s")
