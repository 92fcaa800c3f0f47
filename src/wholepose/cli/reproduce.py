"""Runs a published row end to end, from the official files.

halpe: HRNet-W48 384x288 with DARK on Halpe v1 val, person boxes of a detector of 56.4 AP, flip test. Prints whole AP
and AR under the reference's protocol beside the published 0.531/0.642 (seed page) and 0.527/0.620 (later releases),
then under the default protocol. Each protocol is a run over 104,125 people: about two days on two CPU cores, so take a
GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wholepose.cli.evaluate import add_engine_options, make_settings, progress, silent, table, warn
from wholepose.errors import ConfigError

_EPILOG = """\
examples:
  wholepose data prepare halpe --root halpe/ --download
  wholepose reproduce halpe --root halpe/ --out report/
  wholepose reproduce halpe --root halpe/ --checkpoint mine.pth --allow-other-checkpoint --protocol mmpose0

below --root: annotations/halpe_val_v1.json, val2017/, person_detection_results/, checkpoints/
(what is missing is listed, with where it comes from and where it goes)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose reproduce``."""
    parser.epilog = _EPILOG
    parser.add_argument("row", choices=("halpe",), metavar="ROW", help="halpe")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the official files")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="the model, where it is elsewhere")
    parser.add_argument(
        "--allow-other-checkpoint", action="store_true", help="go on with a model that is not the official one"
    )
    parser.add_argument(
        "--protocol",
        choices=("both", "mmpose0", "default"),
        default="both",
        help="each is a run of its own; default: both",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for a report of each run; made if missing")
    add_engine_options(parser.add_argument_group("running the model"))
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no warnings")


def run(options: argparse.Namespace) -> int:
    """Reproduces.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0, or 1 where images could not be read.

    Raises:
        WholeposeError: Files are missing (each is listed) or not the right ones.
        OSError: A report cannot be written.
    """
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file, and a folder is needed")
    from wholepose.data.annotations import read_annotations
    from wholepose.detectors import load_detector
    from wholepose.evaluation.halpe_row import check_checkpoint, find_files, load_checkpoint_estimator
    from wholepose.evaluation.workflow import count_boxes, evaluate_model, write_reports

    say = silent if options.quiet else warn
    files = find_files(options.root, options.checkpoint)
    other = check_checkpoint(files.checkpoint, allow_other=options.allow_other_checkpoint)
    if other:
        warn(other)
    detector = load_detector(str(files.detections), images=files.annotations)
    options.data, options.nms, options.bootstrap, options.seed, options.flip_test, options.zoom = (
        files.annotations,
        "hard",
        1000,
        0,
        True,
        False,
    )
    rows: list[tuple[str, Mapping[str, Any]]] = []
    failures: list[str] = []
    for protocol in ("mmpose0", "default") if options.protocol == "both" else (options.protocol,):
        annotations = read_annotations(files.annotations, images=files.images, protocol=protocol)
        if not rows:
            for warning in _check(annotations, int(count_boxes(detector, annotations).sum())):
                warn(warning)
        estimator = load_checkpoint_estimator(
            files.checkpoint,
            protocol,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            batch_size=options.batch_size,
        )
        card = estimator.runtime.card
        settings = make_settings(
            options,
            protocol=protocol,
            boxes=str(files.detections),
            model=card.name,
            model_sha256=card.source_sha256,
        )
        with progress(len(annotations.image_ids), hidden=options.quiet) as advance:
            evaluation = evaluate_model(estimator, annotations, settings, detector=detector, say=say, advance=advance)
        print(f"{protocol}\n\n{table(evaluation.document)}\n", flush=True)
        rows.append((protocol, evaluation.document["parts"]["whole"]))
        if options.out is not None:
            for path in write_reports(options.out / protocol, evaluation):
                say(f"wrote {path}")
        failures = [*evaluation.failures]
    print(comparison(rows))
    for failure in failures:
        print(f"wholepose: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _check(annotations: Any, boxes: int) -> list[str]:
    from wholepose.evaluation.halpe_row import check_data

    return check_data(annotations, boxes)


def comparison(rows: list[tuple[str, Mapping[str, Any]]]) -> str:
    """The whole person's AP and AR beside the published ones, as lines of text."""
    from wholepose.evaluation.halpe_row import PUBLISHED

    lines = [f"{'whole person':32} AP     AR"]
    lines += [f"published, {name:21} {ap:.3f}  {ar:.3f}" for name, (ap, ar) in PUBLISHED.items()]
    for protocol, whole in rows:
        numbers = ("  -  " if whole[key] is None else f"{whole[key]:.3f}" for key in ("AP", "AR"))
        lines.append(f"{'here, protocol ' + protocol:32} {'  '.join(numbers)}")
    return "\n".join(lines)
