"""Turns a checkpoint into a safetensors file with a model card.

Reads checkpoints of MMPose 0.x and 1.x, of the original HRNet and DarkPose releases (.pth), and safetensors. Nothing in
such a file is run. Architecture and skeleton are told from the weights; files that MMPose published are recognised by
their hash.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EPILOG = """\
examples:
  wholepose convert hrnet_w48_halpe_384x288_dark_plus-d13c2588_20211021.pth --out hrnet_w48.safetensors
  wholepose convert epoch_210.pth --arch hrnet_w32 --input-size 256x192 --decode-kernel 11 --out mine.safetensors

then:
  wholepose export mine.safetensors --out mine.onnx
  wholepose predict photo.jpg --model mine.safetensors
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose convert``."""
    parser.epilog = EPILOG
    parser.add_argument("checkpoint", metavar="CKPT", help="a .pth, .pt or .safetensors file, or a registered name")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    card = parser.add_argument_group("model card (what is left out is taken from the file, its hash or its name)")
    card.add_argument("--arch", metavar="NAME", help="such as hrnet_w48; refused where the weights are another's")
    card.add_argument("--skeleton", metavar="NAME", help="such as halpe136 or coco17")
    card.add_argument("--input-size", type=_size, metavar="HxW", help="crop height and width in pixels, as in 384x288")
    card.add_argument("--decode-kernel", type=int, metavar="CELLS", help="blur of the DARK decoder, as in 17 or 11")
    card.add_argument("--protocol", choices=("default", "mmpose0"), help="numerics of the decoder; default: default")
    card.add_argument("--licence", metavar="TEXT", help="SPDX identifier, or a short sentence")
    card.add_argument("--name", metavar="TEXT", help="what the weights are called, as in hrnet_w48_384x288.mine_v1")
    card.add_argument("--description", metavar="TEXT", help="one or two plain sentences")


def run(options: argparse.Namespace) -> int:
    """Converts; a summary goes to stdout."""
    from wholepose.errors import require

    for module in ("torch", "safetensors"):
        require(module, "train")
    from wholepose.models.convert import CardOptions, convert_checkpoint
    from wholepose.weights import resolve

    said = CardOptions(
        arch=options.arch,
        skeleton=options.skeleton,
        input_size=options.input_size,
        decode_kernel=options.decode_kernel,
        protocol=options.protocol,
        licence=options.licence,
        name=options.name,
        description=options.description,
    )
    opened = convert_checkpoint(resolve(options.checkpoint), options.out, said)
    card = opened.card
    millions = sum(parameter.numel() for parameter in opened.model.parameters()) / 1e6
    print(f"{options.out}: {card.name}")
    print(
        f"  weights   {card.arch}, {millions:.1f} M parameters; {opened.model.num_keypoints} keypoints, {card.skeleton}"
    )
    print(f"  input     {card.input_size[0]}x{card.input_size[1]}, decode kernel {card.decode_kernel}, {card.protocol}")
    print(f"  licence   {card.licence}")
    print(f"  from      {card.source} ({opened.layout} names), sha256 {card.source_sha256}")
    for guess in opened.guesses:
        print(f"wholepose: assumed {guess}", file=sys.stderr)
    return 0


def _size(text: str) -> tuple[int, int]:
    """Reads ``384x288``, height first."""
    height, _, width = text.partition("x")
    if not (text.isascii() and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"HEIGHTxWIDTH is needed, as in 384x288, not {text!r}")
    return int(height), int(width)
