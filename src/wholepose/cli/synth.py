"""Draws pictures of synthetic people with all 136 keypoints exact.

Nobody's photo is needed: bodies, clothes, rooms and streets are made up. With --assets, people also wear MakeHuman's
clothes and hair; with --backgrounds, they stand in your own photos. One seed gives the same pictures every time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wholepose.cli.words import count, fraction, natural

_EPILOG = """\
examples:
  wholepose synth --count 1000 --out people/
  wholepose synth --count 200 --size 384x288 --people 1 --seed 7 --out single/
  wholepose synth --count 5000 --assets makehuman/ --backgrounds photos/ --out mixed/
  wholepose synth --video --frames 250 --people 2..3 --out clips/

what --out DIR gets:
  DIR/images/000000.jpg ...  the pictures
  DIR/annotations.json       Halpe format: keypoints with visibility 2 seen, 1 hidden, 0 outside; box, area, mask's size
  DIR/contact_sheet.jpg      the first pictures with their keypoints drawn
  DIR/clip_000000.mp4, .json with --video

The same command again goes on where an interrupted one stopped. The first run of all builds the body, which takes two
minutes, and keeps it in wholepose's cache folder.

exit codes: 0 all done, 1 a file could not be written, 2 bad usage, 130 or 143 interrupted
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose synth``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results; made if missing"
    )
    parser.add_argument("--count", type=count, metavar="N", help="pictures (default: 100) or clips (1)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="another seed, other people; default: 0")
    parser.add_argument("--size", type=_size, default=(480, 640), metavar="HxW", help="default: 480x640")
    parser.add_argument("--people", type=_range, default=(1, 4), metavar="A..B", help="people a picture; default: 1..4")
    looks = parser.add_argument_group("looks")
    looks.add_argument("--assets", type=Path, metavar="DIR", help="MakeHuman assets with an index.json")
    looks.add_argument("--backgrounds", type=Path, metavar="DIR", help="photos without people to stand in")
    looks.add_argument("--hand-poses", type=Path, metavar="FILE", help="hand shapes (.npz with 'poses')")
    looks.add_argument(
        "--effects",
        type=fraction,
        default=1.0,
        metavar="S",
        help="how much cameras spoil pictures, 0 to 1; default: 1",
    )
    looks.add_argument("--clean", action="store_true", help="nothing of unproven licence: no skin pictures")
    video = parser.add_argument_group("clips")
    video.add_argument("--video", action="store_true", help="write a clip of moving people instead of pictures")
    video.add_argument("--frames", type=count, metavar="N", help="frames a clip, 25 a second; default: 125")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda:0; default: cpu")


def run(options: argparse.Namespace) -> int:
    """Runs ``wholepose synth``.

    Returns:
        0 when everything is written.
    """
    from tqdm import tqdm

    from wholepose.errors import ConfigError
    from wholepose.synth.dataset import fingerprint, write_dataset
    from wholepose.synth.people import SynthPeople

    if options.frames is not None and not options.video:
        raise ConfigError("--frames is for clips: add --video")
    height, width = options.size
    if options.video and (height % 2 or width % 2):
        raise ConfigError(f"--size {height}x{width}: a clip needs even sides")
    try:
        people = SynthPeople(
            options.seed,
            options.size,
            people=options.people,
            assets=options.assets,
            backgrounds=options.backgrounds,
            hand_poses=options.hand_poses,
            clean=options.clean,
            effects=options.effects,
            device=options.device,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kept: dict[str, object] = {
        "seed": options.seed,
        "size": list(options.size),
        "people": list(options.people),
        "assets": fingerprint(options.assets),
        "backgrounds": fingerprint(options.backgrounds),
        "hand_poses": fingerprint(options.hand_poses),
        "clean": options.clean,
        "effects": options.effects,
        "device": options.device.partition(":")[0],
    }
    print("loading the body (the first time it is built, which takes two minutes)", file=sys.stderr)
    people.load()
    if options.video:
        from wholepose.synth.clips import write_clip

        frames = options.frames or 125
        for clip in range(options.count or 1):
            with tqdm(total=frames, unit=" frames", desc=f"clip {clip}", disable=None) as bar:
                write_clip(people, options.out, clip, frames, {**kept, "frames": frames}, advance=_mover(bar))
        return 0
    count = options.count or 100
    with tqdm(total=count, unit=" pictures", disable=None) as bar:
        written = write_dataset(people, options.out, count, kept, advance=_mover(bar))
    print(f"{len(written.images)} pictures with {len(written.annotations)} people in {options.out}", file=sys.stderr)
    return 0


def _mover(bar: Any) -> Callable[[int], None]:
    return lambda done: bar.update(done - bar.n)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH such as 480x640, not {text!r}")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a number or a range such as 1..4, not {text!r}")
    least = int(match[1])
    return least, int(match[2]) if match[2] is not None else least
