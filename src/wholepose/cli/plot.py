"""Plots keypoints and joint angles over time, from a file of poses.

FILE is what `wholepose predict` wrote for a video, in any of its formats but `angles`. Each person is a line, each
keypoint's x and y and each angle a chart. Angles are those in the picture, 180 degrees when stretched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wholepose.cli.words import fraction
from wholepose.errors import ConfigError

_EPILOG = """\
examples:
  wholepose plot poses.jsonl --out plot.png
  wholepose plot poses.jsonl --out knees.html --keypoints none --angles left_knee,right_knee
  wholepose plot poses.csv --out wrist.png --keypoints right_wrist --angles none --people 0,3
"""

_KEYPOINTS = "left_wrist,right_wrist,left_ankle,right_ankle"
_ANGLES = "left_elbow,right_elbow,left_knee,right_knee"
_FORMATS = ("json", "jsonl", "coco", "openpose", "alphapose", "csv", "parquet", "npz", "trc")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose plot``."""
    parser.epilog = _EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="poses of a video; a folder for OpenPose's format")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="plot to write: .png or .html")
    parser.add_argument("--format", choices=_FORMATS, help="of the poses; default: by their name and contents")
    parser.add_argument(
        "--keypoints", default=_KEYPOINTS, metavar="NAMES", help=f"with commas, or 'none'; default: {_KEYPOINTS}"
    )
    parser.add_argument("--angles", default=_ANGLES, metavar="NAMES", help=f"likewise; default: {_ANGLES}")
    parser.add_argument(
        "--people", type=_numbers, metavar="IDS", help="track numbers, 8 at most; default: those seen most often"
    )
    parser.add_argument(
        "--threshold", type=fraction, default=0.3, metavar="S", help="smallest score of a keypoint; default: 0.3"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the plot.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0.

    Raises:
        ConfigError: A name is unknown, or there is nothing to plot.
        AnnotationError: The file of poses cannot be read.
        OSError: The plot cannot be written.
    """
    suffix = options.out.suffix.lower()
    if suffix not in (".png", ".html"):
        raise ConfigError(f"--out {options.out}: the name must end in .png or .html")
    from wholepose.formats import read_poses_file
    from wholepose.plots import collect_panels, html_page, png_image

    panels = collect_panels(
        read_poses_file(options.file, options.format),
        keypoints=_names(options.keypoints),
        angles=_names(options.angles),
        people=options.people,
        threshold=options.threshold,
    )
    if not panels:
        raise ConfigError("nothing to plot: both --keypoints and --angles are 'none'")
    if not panels[0].series:
        raise ConfigError(f"{options.file}: nobody is in this file; there is nothing to plot")
    title = options.file.name.encode("utf-8", "backslashreplace").decode("utf-8")
    if suffix == ".html":
        from wholepose.outputs import atomic_path

        with atomic_path(options.out) as temporary:
            temporary.write_text(html_page(panels, title), encoding="utf-8", newline="\n")
    else:
        from wholepose.images import save_image

        save_image(options.out, png_image(panels, title))
    return 0


def _names(text: str) -> list[str]:
    """Names between commas; 'none' is none."""
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers with commas are needed, not {text!r}") from None
