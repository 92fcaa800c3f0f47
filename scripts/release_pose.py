"""Turns the weights of a training run into the files that are released: a safetensors file and an ONNX file.

    python scripts/release_pose.py runs/default/average.safetensors --name hrnet_w24_slim_256x192.halpe136_v1 \\
        --out runs/release
    python benchmarks/accuracy.py --model runs/release/hrnet_w24_slim_256x192.halpe136_v1.onnx --json runs/accuracy.json
    python scripts/release_pose.py ... --metrics runs/accuracy.json        # again, with what was measured in the card

The ONNX file keeps its weights as float16, half the size; the safetensors file is what training goes on from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from wholepose.export.exporter import export_onnx
from wholepose.models.checkpoints import load_model, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="average.safetensors of a run")
    parser.add_argument("--name", required=True, help="of the released weights")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--metrics", type=Path, help="what benchmarks/accuracy.py --json wrote")
    options = parser.parse_args()
    model, card = load_model(options.weights)
    metrics = {}
    if options.metrics is not None:
        for task, report in json.loads(options.metrics.read_text(encoding="utf-8")).items():
            for name, number in report["numbers"].items():
                if number["value"] is not None:
                    metrics[f"{task}/{name}"] = round(number["value"], 4)
    card = dataclasses.replace(card, name=options.name, metrics=metrics)
    options.out.mkdir(parents=True, exist_ok=True)
    save_model(options.out / f"{options.name}.safetensors", model, card)
    report = export_onnx(model, card, options.out / f"{options.name}.onnx", half_weights=True)
    print(report)


if __name__ == "__main__":
    main()
