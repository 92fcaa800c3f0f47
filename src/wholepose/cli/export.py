"""Writes a model as one ONNX file from crops to keypoints.

The graph takes crops (uint8, any number of them) and gives keypoints in crop pixels, scores and covariances;
normalisation, DARK decoding and the flip test are inside. ONNX Runtime and PyTorch are compared on drawn pictures, and
the file appears only if they agree within 0.05 px.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
examples:
  wholepose export mine.safetensors --out mine.onnx
  wholepose export mine.safetensors --out mine_flip.onnx --flip-test
  wholepose export mine.safetensors --out mine_small.onnx --half-weights
  wholepose export hrnet_w48_384x288.mmpose_halpe136 --protocol mmpose0 --out reference.onnx

inputs of the graph:   crops (batch, H, W, 3) uint8 RGB; flip_test bool, may be left out
outputs of the graph:  keypoints (batch, K, 2), scores (batch, K), covariances (batch, K, 2, 2), float32
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose export``."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="a .safetensors file, or a registered name")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--flip-test", action="store_true", help="use the flip test unless the caller says no")
    ending.add_argument("--raw", action="store_true", help="end in heatmaps (batch, K, H/4, W/4) instead of keypoints")
    parser.add_argument(
        "--half-weights",
        action="store_true",
        help="store the weights as float16: half the file, the same speed; says how far keypoints move",
    )
    parser.add_argument(
        "--protocol", choices=("default", "mmpose0"), help="numerics of the decoder; default: the model's"
    )


def run(options: argparse.Namespace) -> int:
    """Exports; a summary goes to stdout."""
    from wholepose.errors import ConfigError, require

    if options.out.suffix != ".onnx":
        raise ConfigError(f"{options.out}: give the output the ending .onnx")
    for module in ("torch", "safetensors", "onnx"):
        require(module, "train")
    from wholepose.export.exporter import export_onnx
    from wholepose.models.convert import CardOptions, open_checkpoint
    from wholepose.weights import resolve, weights_format

    path = resolve(options.model)
    if weights_format(path) == "onnx":
        raise ConfigError(f"{options.model}: is an ONNX file already; export the .safetensors that it came from")
    opened = open_checkpoint(path, CardOptions(protocol=options.protocol))
    report = export_onnx(
        opened.model,
        opened.card,
        options.out,
        flip_test=options.flip_test,
        raw=options.raw,
        half_weights=options.half_weights,
    )
    difference = report.comparison
    print(f"{report.path}: {opened.card.name}, {report.size_bytes / 1e6:.1f} MB")
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
        print(
            f"  half weights move keypoints by {report.rounding.median_px:.2g} px in the median, "
            f"{report.rounding.p95_px:.2g} px or less in 95 % (drawn pictures)"
        )
    return 0
