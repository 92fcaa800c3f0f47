"""Writes a model as one ONNX file from crops to keypoints, also in int8 or with half weights.

The graph takes crops (uint8, any number of them) and gives keypoints in crop pixels, scores and covariances;
normalisation, DARK decoding and the flip test are inside. ONNX Runtime and PyTorch are compared on drawn pictures, and
the file appears only if they agree within 0.05 px. In int8, keypoints are compared with the float model's on crops that
were not calibrated with; where half of them move by more than --max-change the file is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholepose.cli.words import count, pixels
from wholepose.errors import ConfigError

if TYPE_CHECKING:
    from wholepose.export.exporter import ExportReport

EPILOG = """\
examples:
  wholepose export mine.safetensors --out mine.onnx
  wholepose export mine.safetensors --out mine_flip.onnx --flip-test
  wholepose export mine.safetensors --out mine_small.onnx --half-weights
  wholepose export mine.onnx --out mine_int8.onnx --int8 --calibration photos/
  wholepose export mine.onnx --out mine_int8.onnx --int8 --calibration photos/ --labels val.json --images val/
  wholepose export hrnet_w48_384x288.mmpose_halpe136 --protocol mmpose0 --out reference.onnx

inputs of the graph:   crops (batch, H, W, 3) uint8 RGB; flip_test bool, may be left out
outputs of the graph:  keypoints (batch, K, 2), scores (batch, K), covariances (batch, K, 2, 2), float32
"""

_MAX_CHANGE_PX = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose export``."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .safetensors file, or a registered name; for --int8 and --half-weights also .onnx",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--flip-test", action="store_true", help="use the flip test unless the caller says no")
    ending.add_argument("--raw", action="store_true", help="end in heatmaps (batch, K, H/4, W/4) instead of keypoints")
    parser.add_argument(
        "--protocol", choices=("default", "mmpose0"), help="numerics of the decoder; default: the model's"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--half-weights",
        action="store_true",
        help="store the weights as float16: half the file, the same speed; says how far keypoints move",
    )
    size.add_argument(
        "--int8",
        action="store_true",
        help="quantise: a quarter of the size of full weights, two to three times as fast",
    )
    int8 = parser.add_argument_group("int8")
    int8.add_argument(
        "--calibration",
        nargs="+",
        metavar="PATH",
        help="pictures, or folders of them, of people such as the model will see; they are only read",
    )
    int8.add_argument("--crops", type=count, default=128, metavar="N", help="most people to take; default: 128")
    int8.add_argument(
        "--max-change",
        type=pixels,
        default=_MAX_CHANGE_PX,
        metavar="PX",
        help=f"refuse a larger median change of keypoints, crop pixels; default: {_MAX_CHANGE_PX}",
    )
    int8.add_argument(
        "--labels", type=Path, metavar="ANN", help="annotations by which to compare AP, in labelled boxes"
    )
    int8.add_argument("--images", type=Path, metavar="DIR", help="where their images are; default: beside ANN")


def run(options: argparse.Namespace) -> int:
    """Exports; a summary goes to stdout."""
    from wholepose.errors import require

    _check_options(options)
    for module in ("torch", "safetensors", "onnx"):
        require(module, "train")
    from wholepose.weights import resolve, weights_format

    path = resolve(options.model)
    if options.out.exists() and options.out.samefile(path):
        raise ConfigError(f"--out {options.out}: is the model itself; give another name")
    if weights_format(path) == "onnx":
        if not (options.int8 or options.half_weights):
            raise ConfigError(f"{options.model}: is an ONNX file already; export the .safetensors that it came from")
        if options.raw or options.flip_test or options.protocol:
            raise ConfigError(
                f"{options.model}: is an ONNX file, whose ending, flip test and protocol are fixed; give the "
                ".safetensors that it came from"
            )
        if options.int8:
            return _quantize(path, options)
        from wholepose.export.exporter import halve_onnx

        change = halve_onnx(path, options.out)
        print(f"{options.out}: {path.stat().st_size / 1e6:.1f} MB are now {options.out.stat().st_size / 1e6:.1f} MB")
        _print_rounding(change)
        return 0
    if not options.int8:
        _print_export(_export(path, options, options.out), options.out)
        return 0
    with tempfile.TemporaryDirectory(prefix="wholepose-export-") as folder:
        full = Path(folder) / "full.onnx"
        _print_export(_export(path, options, full), path)
        return _quantize(full, options)


def _check_options(options: argparse.Namespace) -> None:
    if options.out.suffix != ".onnx":
        raise ConfigError(f"{options.out}: give the output the ending .onnx")
    if options.int8 and not options.calibration:
        raise ConfigError("--int8 needs pictures to calibrate by: --calibration FOLDER")
    if not options.int8 and (options.calibration or options.labels):
        raise ConfigError("--calibration and --labels are for --int8")
    if options.images is not None and options.labels is None:
        raise ConfigError("--images is about --labels")


def _export(path: Path, options: argparse.Namespace, out: Path) -> ExportReport:
    from wholepose.export.exporter import export_onnx
    from wholepose.models.convert import CardOptions, open_checkpoint

    opened = open_checkpoint(path, CardOptions(protocol=options.protocol))
    return export_onnx(
        opened.model,
        opened.card,
        out,
        flip_test=options.flip_test,
        raw=options.raw,
        weights="half" if options.half_weights else "full",
    )


def _print_export(report: ExportReport, shown: Path) -> None:
    from wholepose.weights import read_card

    difference = report.comparison
    print(f"{shown}: {read_card(report.path).name}, {report.size_bytes / 1e6:.1f} MB")
    print(
        f"  largest difference between ONNX Runtime and PyTorch: {difference.max_difference_px:.2g} px over "
        f"{difference.keypoints} keypoints, {difference.max_score_difference:.2g} in score"
    )
    if difference.undetermined:
        print(
            f"  {difference.undetermined} more keypoints, which rounding alone can move in their heatmaps, were "
            "compared by score only"
        )
    if report.rounding is not None:
        _print_rounding(report.rounding)


def _print_rounding(change: Any) -> None:
    print(
        f"  half weights move keypoints by {change.median_px:.2g} px in the median, {change.p95_px:.2g} px or less in "
        "95 % (drawn pictures)"
    )


def _quantize(source: Path, options: argparse.Namespace) -> int:
    """Writes the int8 file; returns 1 where a picture could not be read."""
    from wholepose.detectors import load_detector
    from wholepose.export.people_crops import cut_people
    from wholepose.export.quantization import quantize_onnx
    from wholepose.weights import read_card

    people = cut_people(options.calibration, read_card(source), load_detector("default"), options.crops)
    report = quantize_onnx(source, options.out, people.crops, max_change_px=options.max_change)
    change = report.change
    print(f"{report.path}: {source.stat().st_size / 1e6:.1f} MB are now {report.size_bytes / 1e6:.1f} MB")
    print(
        f"  calibrated by {report.calibration_crops} crops from {len(people.pictures)} pictures; on "
        f"{len(people.crops) - report.calibration_crops} others keypoints move by {change.median_px:.2g} px in the "
        f"median, {change.p95_px:.2g} px or less in 95 %; scores by {change.median_score:.2g}"
    )
    if options.labels is not None:
        before, after = (_average_precision(path, options) for path in (source, report.path))
        print(f"  AP of {options.labels.name}: {before:.4f} in float, {after:.4f} in int8 ({after - before:+.4f})")
    for message in people.unread:
        print(f"wholepose: {message}", file=sys.stderr)
    return 1 if people.unread else 0


def _average_precision(model: Path, options: argparse.Namespace) -> float:
    """AP of the whole person in the labelled boxes."""
    from wholepose.data.annotations import read_annotations
    from wholepose.evaluation.prediction import load_estimator
    from wholepose.evaluation.report import Settings
    from wholepose.evaluation.workflow import evaluate_model

    estimator = load_estimator(model, device="cpu")
    protocol: Any = estimator.runtime.card.protocol
    annotations = read_annotations(options.labels, images=options.images, protocol=protocol)
    settings = Settings(command="", protocol=protocol, annotations=str(options.labels), boxes="gt", suppression="hard")
    evaluation = evaluate_model(estimator, annotations, settings)
    return float(evaluation.document["parts"]["whole"]["AP"])
