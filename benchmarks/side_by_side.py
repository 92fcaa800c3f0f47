"""Times wholepose beside what a user would pick instead, in turns, and prints ratios.

    python benchmarks/side_by_side.py                                   # a crowd, and the embedded models
    python benchmarks/side_by_side.py --only network --reference ~/mmpose-0.29 --files /tmp/w48
    python benchmarks/side_by_side.py --only photo --mediapipe ~/mediapipe

network  HRNet-W48 384x288 with flip test, one person, image and box to keypoints: MMPose 0.29 from PyPI (in its own
         environment, see ``reference_environment.py``) and this package's runtimes, with the same weights. They are
         made up (``tests/golden/data/fill.py``), which costs as much time as trained ones; the keypoints of all are
         compared. Needs the [train] extra; --files keeps the 250 MB files for the next time.
crowd    20 people in a 1280x720 picture: one ONNX Runtime call a person, as rtmlib does it, with normalising and
         decoding in NumPy, beside one call of ``PoseEstimator``; the same network and weights in both.
photo    One person, 640x480 JPEG to poses with the embedded detector and model; beside it MediaPipe Pose (33 body
         keypoints, no fingers, no face), from an environment with ``pip install mediapipe``, on the decoded picture.

Each round times everything once, so that what else the machine does hits all alike; medians of the rounds are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from side_by_side_models import float_input, made_up_model

from wholepose import PoseEstimator, load_image
from wholepose.geometry import crop_matrices, crop_regions, invert_affine, transform_points
from wholepose.heatmaps import decode
from wholepose.runtimes import load_runtime
from wholepose.runtimes.base import available_cores

ROOT = Path(__file__).resolve().parent.parent
Call = Callable[[], tuple[float, float, Any]]
"""Seconds that a call took, CPU seconds of all its threads, and the keypoints that came out."""


def timed(run: Callable[[], Any]) -> Call:
    def call() -> tuple[float, float, Any]:
        start, cpu = time.perf_counter(), time.process_time()
        keypoints = run()
        return time.perf_counter() - start, time.process_time() - cpu, keypoints

    return call


def peer(python: Path, library: str, image: np.ndarray, boxes: np.ndarray, folder: Path, *words: str) -> Call:
    """Another library in its own environment, started and warmed up."""
    np.savez(folder / f"{library}.npz", image=image, boxes=boxes)
    script = Path(__file__).with_name("side_by_side_peers.py")
    command = [str(python / "bin" / "python"), str(script), library, str(folder / f"{library}.npz"), *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        sys.exit(f"{library} does not start; run this to see why: {' '.join(command)}")

    def call() -> tuple[float, float, Any]:
        print("run", file=process.stdin, flush=True)
        answer = json.loads(process.stdout.readline())
        return answer["seconds"], answer["cpu_seconds"], np.array(answer["keypoints"])

    return call


def compare(title: str, calls: Mapping[str, Call], rounds: int, base: str) -> dict[str, Any]:
    """Times calls in turns; prints medians, ratios to the base, and how far keypoints are from the base's.

    CPU time, unlike time, hardly depends on what else the machine does; with --threads 1 the two ratios should agree.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    keypoints: dict[str, Any] = {name: call()[2] for name, call in calls.items()}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call()[:2])
    print(f"\n{title}; ratios: how many times faster than {base}")
    print(f"{'':<40}{'median ms':>10}{'best':>9}{'ratio':>8}{'CPU ms':>10}{'ratio':>8}{'px off, 90 %':>14}")
    rows = {}
    base_times = np.array(times[base])
    for name, pairs in times.items():
        seconds = np.array(pairs)
        median, cpu = np.median(seconds, axis=0).tolist()
        ratio, cpu_ratio = np.median(base_times / seconds, axis=0).tolist()
        off = float("nan")
        if np.shape(keypoints[name]) == np.shape(keypoints[base]):
            off = float(np.quantile(np.linalg.norm(np.asarray(keypoints[name]) - keypoints[base], axis=-1), 0.9))
        best = float(seconds[:, 0].min())
        print(
            f"{name:<40}{median * 1e3:>10.1f}{best * 1e3:>9.1f}{ratio:>7.2f}x{cpu * 1e3:>10.1f}{cpu_ratio:>7.2f}x"
            f"{off:>14.3f}",
            flush=True,
        )
        rows[name] = {"median_s": median, "best_s": best, "ratio": ratio, "cpu_s": cpu, "cpu_ratio": cpu_ratio}
        rows[name]["px_off_90"] = off
    return {"title": title, "base": base, "rounds": rounds, "rows": rows}


def network(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    image = load_image(ROOT / "examples" / "astronaut.jpg")
    box = np.array([[20.0, 5.0, 420.0, 500.0]])
    model = made_up_model(options.files or folder, "hrnet_w48", (384, 288), protocol="mmpose0", int8=options.int8)
    calls: dict[str, Call] = {}
    if options.reference:
        words = ("--checkpoint", str(model.checkpoint), "--threads", str(options.threads))
        calls["MMPose 0.29"] = peer(options.reference, "mmpose", image, box, folder, *words)
    ways = [("ONNX Runtime fp32", model.onnx, "onnx", "fp32")]
    if importlib.util.find_spec("openvino"):
        ways += [("OpenVINO fp32", model.onnx, "openvino", "fp32"), ("OpenVINO bf16", model.onnx, "openvino", "bf16")]
    if model.int8 is not None:
        ways.append(("ONNX Runtime int8", model.int8, "onnx", "fp32"))
        if importlib.util.find_spec("openvino"):
            ways.append(("OpenVINO int8", model.int8, "openvino", "fp32"))
    for name, path, runtime, precision in ways:
        engine = load_runtime(path, runtime=runtime, precision=precision, device="cpu", threads=options.threads)  # type: ignore[arg-type]
        estimator = PoseEstimator(engine)
        calls[f"wholepose, {name}"] = timed(lambda e=estimator: e.predict(image, box, flip_test=True).keypoints)
    title = f"HRNet-W48 384x288 with flip test, one person, {options.threads} threads"
    return compare(title, calls, options.rounds, next(iter(calls)))


def rtmlib_style(path: Path, size: tuple[int, int], image: np.ndarray, boxes: np.ndarray) -> Callable[[], np.ndarray]:
    """A loop over people: warp, normalise in NumPy, run, decode in NumPy."""
    import onnxruntime

    session = onnxruntime.InferenceSession(float_input(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean = np.array([123.675, 116.28, 103.53])

    def run() -> np.ndarray:
        people = []
        for box in boxes:
            matrix = crop_matrices(*crop_regions(box[None], size[1] / size[0]), size)[0]
            crop = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
            pixels = np.ascontiguousarray((crop - mean).transpose(2, 0, 1), dtype=np.float32)
            heatmaps = session.run(None, {name: pixels[None]})[0]
            places = decode(heatmaps).coordinates[0] * 4
            people.append(transform_points(places, invert_affine(matrix)))
        return np.stack(people)

    return run


def crowd(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    card = PoseEstimator.from_pretrained(detector=None, threads=1).runtime.card
    model = made_up_model(options.files or folder, card.arch, card.input_size, raw=True)
    assert model.raw is not None
    noise = np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    image = cv2.resize(noise, (1280, 720), interpolation=cv2.INTER_CUBIC)
    corners = np.array(
        [(10 + 125 * column, 20 + 340 * row) for row in range(2) for column in range(10)], dtype=np.float64
    )
    boxes = np.concatenate([corners, corners + np.array([115.0, 310.0])], axis=1)
    estimator = PoseEstimator(load_runtime(model.onnx, runtime="onnx", device="cpu", threads=options.threads))
    loop = rtmlib_style(model.raw, card.input_size, image, boxes)
    calls = {
        "rtmlib-style loop": timed(loop),
        "wholepose": timed(lambda: estimator.predict(image, boxes).keypoints),
    }
    title = f"20 people in 1280x720, {card.arch} {card.input_size[0]}x{card.input_size[1]}, ONNX Runtime fp32"
    return compare(title, calls, options.rounds, "rtmlib-style loop")


def photo(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    picture = load_image(ROOT / "examples" / "astronaut.jpg")
    image = np.ascontiguousarray(np.pad(picture, ((0, 0), (64, 64), (0, 0)), mode="edge")[:480])
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    estimator = PoseEstimator.from_pretrained(threads=options.threads)
    box = [[100, 0, 540, 480]]
    calls = {
        "wholepose, JPEG to poses": timed(lambda: estimator.predict(load_image(encoded)).keypoints),
        "wholepose, image and box to poses": timed(lambda: estimator.predict(image, box).keypoints),
    }
    if options.mediapipe:
        calls["MediaPipe Pose, image to 33 keypoints"] = peer(
            options.mediapipe, "mediapipe", image, np.array(box, dtype=np.float64), folder
        )
    title = f"One person, 640x480, embedded models, {options.threads} threads"
    return compare(title, calls, max(options.rounds, 20), next(iter(calls)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("network", "crowd", "photo"), action="append", help="repeatable")
    parser.add_argument("--reference", type=Path, metavar="ENV", help="environment with MMPose 0.29")
    parser.add_argument("--mediapipe", type=Path, metavar="ENV", help="environment with MediaPipe")
    parser.add_argument("--files", type=Path, metavar="DIR", help="keep the made-up models here")
    parser.add_argument("--int8", action="store_true", help="network: make an int8 file too (minutes)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = {"network": network, "crowd": crowd, "photo": photo}
    chosen = options.only or ["crowd", "photo", *(["network"] if options.reference else [])]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            results.append(parts[name](options, Path(folder)))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
