"""Checks annotation files, and brings the official data sets into place."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wholepose.cli.words import count

_EPILOG = """\
examples:
  wholepose data check halpe_val_v1.json --images val2017/ --out report/
  wholepose data prepare halpe --root data/halpe
  wholepose data prepare coco --root data/coco --split val --download

'wholepose data check --help' and 'wholepose data prepare --help' say more.
"""

_CHECK = """\
Reads an annotation file through: COCO keypoints in any known skeleton, Halpe, COCO-WholeBody, or MPII as a list.

Prints counts, a histogram of visibility, repeated images and boxes, what lies outside the picture, and people whose
left and right look exchanged. Problems that must be mended before training follow, and make the exit code 1: malformed
entries (the first 20), missing, unreadable or resized pictures, labelled people whose box is outside the picture.
Pictures are read through, but not decoded: damage that leaves a file's structure whole is found by training alone.
With --out, DIR gets report.json and contact_sheet.png, a sheet of labelled people to look at.
"""

_PREPARE = """\
Says which official files of a data set go where, and checks those that are there. With --download, fetches what has a
direct address, resumed and checked by size and sha256, and unpacks it. What is only on Google Drive, Baidu or OneDrive
has to be fetched in a browser; put the files where the output says and run this again.
"""

_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of ``wholepose data``."""
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(dest="data_command", metavar="check|prepare", required=True)
    form = argparse.RawDescriptionHelpFormatter
    check = commands.add_parser("check", help="examine an annotation file", description=_CHECK, formatter_class=form)
    check.add_argument("file", type=Path, metavar="FILE", help="annotation file (.json)")
    check.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures; default: the file's own")
    check.add_argument("--out", type=Path, metavar="DIR", help="folder for report.json and contact_sheet.png")
    check.add_argument("--people", type=count, default=24, metavar="N", help="people on the sheet; default: 24")
    check.add_argument("--seed", type=int, default=0, help="other people on the sheet; default: 0")
    check.add_argument("--skeleton", metavar="NAME", help="the file's skeleton, where the file does not say it")
    prepare = commands.add_parser(
        "prepare", help="fetch, unpack and check an official data set", description=_PREPARE, formatter_class=form
    )
    prepare.add_argument("data_set", choices=("halpe", "coco", "coco-wholebody"))
    prepare.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder for all of its files")
    prepare.add_argument("--split", choices=("all", "train", "val"), default="all", help="default: all")
    prepare.add_argument("--download", action="store_true", help="fetch what has a direct address")
    prepare.add_argument(
        "--mirror", metavar="URL", help="fetch COCO from here instead of http://images.cocodataset.org"
    )


def run(options: argparse.Namespace) -> int:
    """Runs ``wholepose data``.

    Returns:
        0 all is well, 1 something is wrong or missing; each is listed.
    """
    return _check(options) if options.data_command == "check" else _prepare(options)


def _check(options: argparse.Namespace) -> int:
    from wholepose.data.annotations import read_annotations
    from wholepose.data.check import check_annotations
    from wholepose.data.contact_sheet import contact_sheet
    from wholepose.images import save_image
    from wholepose.outputs import write_json
    from wholepose.skeletons import get_skeleton

    skeleton = None if options.skeleton is None else get_skeleton(options.skeleton)
    annotations = read_annotations(options.file, images=options.images, source_skeleton=skeleton)
    report = check_annotations(annotations)
    print("\n".join(report.lines()))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        sheet = contact_sheet(annotations, people=options.people, seed=options.seed)
        save_image(options.out / "contact_sheet.png", sheet)
        write_json(options.out / "report.json", report.to_dict())
    if report.problems:
        print(f"problems ({len(report.problems)}):", file=sys.stderr)
        for line in report.problems[:_SHOWN]:
            print(f"  {line}", file=sys.stderr)
        if len(report.problems) > _SHOWN:
            rest = "report.json has all" if options.out is not None else "--out DIR writes all"
            print(f"  ... and {len(report.problems) - _SHOWN} more; {rest}", file=sys.stderr)
    return 1 if report.problems else 0


def _prepare(options: argparse.Namespace) -> int:
    from wholepose.data.prepare import SPLITS, get_data_set, instructions, prepare

    data_set = get_data_set(options.data_set, options.mirror)
    splits = SPLITS[options.split]
    print("\n".join(instructions(data_set, options.root, splits)))
    wrong = 0
    for state in prepare(data_set, options.root, fetch=options.download, splits=splits):
        if state.problem:
            wrong += 1
            print(f"  {state.piece.path}: {state.problem}", file=sys.stderr)
        else:
            print(f"ready: {state.piece.path}: {state.note}", flush=True)
    if wrong:
        print(f"not ready: {wrong} of its files and folders", file=sys.stderr)
    return 1 if wrong else 0
