"""Turns the weights of a training run into the files that are released: a safetensors file and an ONNX file.

    python scripts/release_pose.py runs/default/average.safetensors --name hrnet_w24_slim_256x192.halpe136_v1 \\
        --out runs/release
    python benchmarks/accuracy.py --model runs/release/hrnet_w24_slim_256x192.halpe136_v1.onnx --out runs/reports
    python scripts/release_pose.py ... --reports runs/reports             # again, with scores that mean what they say
    python benchmarks/accuracy.py ... --json runs/accuracy.json
    python scripts/release_pose.py ... --reports runs/reports --metrics runs/accuracy.json   # and figures in the card

The file of --about (scripts/cards/default.json, scripts/cards/clean.json) says in the card how the weights were
trained, what they are for and where they go wrong.

A heatmap's height says how sure the network is, on a scale that differs from part to part. With reports of the weights
as trained, each part's heatmaps are multiplied by one number, so that a keypoint scored s is near enough to its label
(similarity above 0.5) about s of the time on those photos. Where a keypoint lies does not change.

Both files keep the filters as float16, half the size, with --stored byte the ONNX file as int8, a quarter; the
safetensors file is what training goes on from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from wholepose.export.exporter import export_onnx
from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.posenet import PoseNet
from wholepose.skeletons import HALPE136

PARTS = {"coco": ("body", "feet"), "face": ("face",), "hand": ("left_hand", "right_hand")}
"""By report of benchmarks/accuracy.py: which parts of a person it tells of."""
MEASURED_BY = "python benchmarks/accuracy.py: names are those of its rows and their numbers, intervals are over images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="average.safetensors of a run")
    parser.add_argument("--name", required=True, help="of the released weights")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--reports", type=Path, help="of the weights as trained, by benchmarks/accuracy.py --out")
    parser.add_argument("--metrics", type=Path, help="of the released weights, by benchmarks/accuracy.py --json")
    parser.add_argument("--kernel", type=int, help="of the DARK decoder, in cells; default: the run's")
    parser.add_argument("--stored", choices=("half", "byte"), default="half", help="how weights lie in the ONNX file")
    parser.add_argument("--about", type=Path, help="more of the card: JSON with its texts by field")
    options = parser.parse_args()
    model, card = load_model(options.weights)
    if options.reports is not None:
        for task, parts in PARTS.items():
            report = json.loads((options.reports / task / "report.json").read_text(encoding="utf-8"))
            factor = score_factor(report["calibration"]["bins"])
            scale_scores(model, parts, factor)
            print(f"scores of {' and '.join(parts)} times {factor:.3f}")
    metrics, intervals = measured(options.metrics) if options.metrics else ({}, {})
    if options.kernel:
        card = dataclasses.replace(card, decode_kernel=options.kernel)
    texts = json.loads(options.about.read_text(encoding="utf-8")) if options.about else {}
    measured_by = MEASURED_BY if metrics else ""
    card = dataclasses.replace(
        card, name=options.name, metrics=metrics, intervals=intervals, measured_by=measured_by, **texts
    )
    options.out.mkdir(parents=True, exist_ok=True)
    save_model(options.out / f"{options.name}.safetensors", model, card, half=True)
    report = export_onnx(model, card, options.out / f"{options.name}.onnx", weights=options.stored)
    print(report)


def measured(path: Path) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Numbers and 95 % intervals by name, of what benchmarks/accuracy.py --json has written."""
    metrics, intervals = {}, {}
    for task, report in json.loads(path.read_text(encoding="utf-8")).items():
        for name, number in report["numbers"].items():
            if number["value"] is not None:
                metrics[f"{task}/{name}"] = round(number["value"], 4)
            if number["interval"]:
                low, high = (round(end, 4) for end in number["interval"])
                intervals[f"{task}/{name}"] = low, high
    return metrics, intervals


def score_factor(bins: list[dict[str, float]]) -> float:
    """The number that, multiplied with the scores, brings them nearest to the shares of right keypoints."""
    filled = [row for row in bins if row["n"]]
    together = sum(row["n"] * row["score"] * row["right"] for row in filled)
    return together / sum(row["n"] * row["score"] ** 2 for row in filled)


@torch.no_grad()
def scale_scores(model: PoseNet, parts: tuple[str, ...], factor: float) -> None:
    """Multiplies the heatmaps of some parts."""
    chosen = [keypoint for part in parts for keypoint in HALPE136.parts[part]]
    layer = model.head.final_layer
    layer.weight[chosen] *= factor
    assert layer.bias is not None
    layer.bias[chosen] *= factor


if __name__ == "__main__":
    main()
