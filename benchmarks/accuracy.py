"""Measures a model on the labelled photos of ../shared/data with `wholepose evaluate`, and prints a table.

    python benchmarks/accuracy.py                              # the embedded model
    python benchmarks/accuracy.py --model mine.safetensors --flip-test --out report/ --json accuracy.json
    python benchmarks/accuracy.py --only coco --only lsp
    wholepose synth --count 100 --seed 9001 --out people/ && python benchmarks/accuracy.py --only synth --synth people/

Each row is one run of `wholepose evaluate`, whose command is printed below the table (with --out its files stay, and
it can be run again); brackets hold 95 % intervals over images. None of these photos may have been trained on: the `dev`
sets and the fixture by agreement, the 200 LSP photos because training scripts leave out what
`wholepose.evaluation.holdout_ids` names. The right column is what MediaPipe 0.10.14 (legacy solutions, full models)
gave on photos of the same kind, not the same ones: the COCO photos and those of a held-out half together, LSP test,
HELEN test, all 583 hands.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wholepose.detectors import load_detector
from wholepose.evaluation import holdout_ids

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
LIMBS = list(range(5, 17))
"""The 12 limb joints of LSP by their Halpe indices: shoulders, elbows, wrists, hips, knees, ankles."""

Numbers = list[tuple[str, float | None, list[float] | None]]


@dataclass(frozen=True)
class Task:
    """One run of `wholepose evaluate`.

    Attributes:
        name: Short name, for --only.
        title: What is measured.
        annotations: File below the folder.
        boxes: As after --boxes; {data} stands for the data folder, "jitter" for labelled boxes whose sides are moved,
            "sure" for the detector at the threshold at which `wholepose predict` uses it.
        numbers: Picks names, values and intervals out of the report.
        peer: The same of MediaPipe.
        prepare: Changes the annotations, which are then written to a file of their own.
        folder: The option that names the folder, without dashes.
    """

    name: str
    title: str
    annotations: str
    boxes: str
    numbers: Callable[[dict[str, Any]], Numbers]
    peer: str = ""
    prepare: Callable[[dict[str, Any]], None] | None = None
    folder: str = "data"


def part(*names: str) -> Callable[[dict[str, Any]], Numbers]:
    """Picks numbers of the whole person, such as AP."""

    def pick(report: dict[str, Any]) -> Numbers:
        whole = report["parts"]["whole"]
        return [(name, whole[name], whole["intervals"].get(name)) for name in names]

    return pick


def every_part(report: dict[str, Any]) -> Numbers:
    """Picks the AP of every part."""
    return [(f"{name} AP", part["AP"], part["intervals"].get("AP")) for name, part in report["parts"].items()]


def every_part_and_feet(report: dict[str, Any]) -> Numbers:
    """The AP of every part, and how far feet are off, in sigmas of their kind."""
    rows = [row for row in report["per_keypoint"] if row["part"] == "feet" and row["error_sigmas"] is not None]
    total = sum(row["n"] for row in rows)
    off = sum(row["n"] * row["error_sigmas"] for row in rows) / total if total else None
    return [*every_part(report), ("feet, mean error in sigmas", off, None)]


def metric(*names: str) -> Callable[[dict[str, Any]], Numbers]:
    """Picks metrics, such as PCK."""
    return lambda report: [(name, report["metrics"][name], report["metric_intervals"][name]) for name in names]


def keep_held_out_limbs(document: dict[str, Any]) -> None:
    """Leaves the 200 held-out photos of LSP, scored on their limb joints."""
    kept = holdout_ids(image["id"] for image in document["images"])
    document["images"] = [image for image in document["images"] if image["id"] in kept]
    document["annotations"] = [person for person in document["annotations"] if person["image_id"] in kept]
    document["info"]["labelled_keypoints"] = LIMBS


FIXTURE = "halpe_fixture/test_halpe.json"
TASKS = (
    Task("coco", "COCO dev, labelled boxes", "coco/dev.json", "gt", part("AP", "AP50", "AR"), "AP .171, AP50 .320"),
    Task("coco-jitter", "COCO dev, boxes off by 10 %", "coco/dev.json", "jitter", part("AP", "AP50", "AR")),
    Task("coco-detector", "COCO dev, end to end", "coco/dev.json", "detector", part("AP", "AP50", "AR"), "AP .123"),
    Task("coco-default", "the same, default threshold", "coco/dev.json", "sure", part("AP", "AP50", "AR"), "AP .123"),
    Task(
        "lsp",
        "LSP, 200 held out, 12 limb joints",
        "lsp/train.json",
        "gt",
        metric("pck_torso_0.2"),
        "whole image .755",
        keep_held_out_limbs,
    ),
    Task(
        "face", "HELEN and AFW dev, 68 points", "face68/dev.json", "gt", metric("nme_interocular"), "HELEN test .0489"
    ),
    Task("hand", "hands dev, 21 points", "hand21/dev.json", "gt", metric("pck_box_0.2", "pck_box_0.1"), ".984, .958"),
    Task("halpe", "Halpe fixture, labelled boxes", FIXTURE, "gt", every_part_and_feet),
    Task(
        "halpe-boxes",
        "Halpe fixture, 56.4-AP boxes",
        FIXTURE,
        "{data}/halpe_fixture/test_coco_det_AP_H_56.json",
        every_part,
    ),
    Task("synth", "synthetic people", "annotations.json", "gt", every_part_and_feet, folder="synth"),
)


def jittered_boxes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The labelled boxes with each side moved by up to a tenth of the width or height, as detections."""
    rng = np.random.default_rng(0)
    rows = []
    for person in document["annotations"]:
        if person.get("iscrowd") or not any(person.get("keypoints", [])[2::3]):
            continue
        x, y, width, height = person["bbox"]
        left, right = rng.uniform(-0.1, 0.1, 2) * width
        top, bottom = rng.uniform(-0.1, 0.1, 2) * height
        box = [x + left, y + top, width - left + right, height - top + bottom]
        rows.append({"image_id": person["image_id"], "category_id": 1, "bbox": box, "score": 1.0})
    return rows


def evaluate(task: Task, options: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Runs one task; gives its command and its report."""
    annotations = getattr(options, task.folder) / task.annotations
    images = annotations.parent
    if task.prepare is not None:
        document = json.loads(annotations.read_text(encoding="utf-8"))
        task.prepare(document)
        annotations = folder / f"{task.name}.json"
        annotations.write_text(json.dumps(document), encoding="utf-8")
    boxes = task.boxes.format(data=options.data)
    if boxes == "jitter":
        boxes = str(folder / f"{task.name}-boxes.json")
        rows = jittered_boxes(json.loads(annotations.read_text(encoding="utf-8")))
        Path(boxes).write_text(json.dumps(rows), encoding="utf-8")
    words = ["evaluate", "--model", options.model, "--data", str(annotations), "--images", str(images)]
    if boxes == "sure":
        boxes, words = "detector", [*words, "--threshold", str(load_detector().threshold)]
    words += ["--boxes", boxes, "--out", str(folder / task.name), "--quiet"]
    words += ["--flip-test"] * options.flip_test + ["--zoom"] * options.zoom
    if options.threads is not None:
        words += ["--threads", str(options.threads)]
    subprocess.run([sys.executable, "-m", "wholepose", *words], check=True, stdout=subprocess.DEVNULL)
    return ["wholepose", *words], json.loads((folder / task.name / "report.json").read_text(encoding="utf-8"))


def show(numbers: Numbers) -> list[str]:
    """Numbers with their intervals, one text each."""
    lines = []
    for name, value, bounds in numbers:
        text = "-" if value is None else f"{value:.4f}" if name == "nme_interocular" else f"{value:.3f}"
        lines.append(f"{name} {text}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name or path; default: the embedded one")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of the labelled photos")
    parser.add_argument("--synth", type=Path, help="folder that `wholepose synth` filled, to measure on that too")
    parser.add_argument(
        "--only", action="append", choices=[task.name for task in TASKS], help="repeatable; default: all"
    )
    parser.add_argument("--flip-test", action="store_true")
    parser.add_argument("--zoom", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="keep the reports here (they show the photos: do not publish them)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"{options.data} is not there; name the folder of the labelled photos with --data")
    tasks = [task for task in TASKS if options.only is None or task.name in options.only]
    without = [task for task in tasks if getattr(options, task.folder) is None]
    if options.only and without:
        parser.error(f"{without[0].name} is measured on the folder of --{without[0].folder}")
    measured = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            if task in without:
                continue
            command, report = evaluate(task, options, folder)
            numbers = task.numbers(report)
            measured.append((task, command, report, numbers))
            lines = show(numbers)
            peer = f"   MediaPipe: {task.peer}" if task.peer else ""
            print(f"{task.title:36} {lines[0]:44} n {report['parts']['whole']['n']:<5}{peer}", flush=True)
            for line in lines[1:]:
                print(f"{'':36} {line}", flush=True)
    print()
    for task, command, _, _ in measured:
        print(f"{task.name}: {shlex.join(command)}")
    if options.json is not None:
        document = {
            task.name: {
                "command": shlex.join(command),
                "model_sha256": report["model_sha256"],
                "protocol": report["protocol"],
                "n": report["parts"]["whole"]["n"],
                "numbers": {name: {"value": value, "interval": bounds} for name, value, bounds in numbers},
            }
            for task, command, report, numbers in measured
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
