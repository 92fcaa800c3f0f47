"""Writes figures measured anew, or other texts, into the card of a released model file; its weights stay as they are.

    python benchmarks/accuracy.py --only coco-detector --only coco-default --json runs/accuracy.json
    python scripts/update_card.py src/wholepose/weights/embedded/default.onnx --metrics runs/accuracy.json
    python scripts/embed_weights.py --refresh

For when what a model is measured with has changed, such as the person detector. A file of the registry needs its new
hash there, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import onnx
from release_pose import measured

from wholepose.models.checkpoints import load_model, save_model
from wholepose.outputs import atomic_path
from wholepose.weights import ModelCard, read_card, sha256_of, weights_format


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a released .onnx or .safetensors file")
    parser.add_argument("--metrics", type=Path, help="written by benchmarks/accuracy.py --json; others stay")
    parser.add_argument("--about", type=Path, help="texts of the card: JSON by field; others stay")
    options = parser.parse_args()
    card = read_card(options.file)
    if options.metrics:
        metrics, intervals = measured(options.metrics)
        card = dataclasses.replace(card, metrics={**card.metrics, **metrics}, intervals={**card.intervals, **intervals})
    if options.about:
        card = dataclasses.replace(card, **json.loads(options.about.read_text(encoding="utf-8")))
    write_card(options.file, card)
    print(f"{options.file}: {sha256_of(options.file)}")


def write_card(path: Path, card: ModelCard) -> None:
    """Puts the card in the place of the file's own."""
    if weights_format(path) != "onnx":
        save_model(path, load_model(path)[0], card, half=True)
        return
    model = onnx.load(path)
    new = card.to_metadata()
    for entry in model.metadata_props:
        entry.value = new.get(entry.key, entry.value)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


if __name__ == "__main__":
    main()
