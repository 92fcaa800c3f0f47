"""Times each stage from a decoded photo to keypoints, and what training needs, and prints a table.

    python benchmarks/speed.py                     # stages on one core, embedded models, training samples
    python benchmarks/speed.py --network           # adds HRNet-W48 384x288: ONNX Runtime beside eager PyTorch
    python benchmarks/speed.py --alternatives      # adds the shapes that an embedded model could have
    python benchmarks/speed.py --json speed.json

The right column gives the reference, MMPose 0.29 on a similar CPU (2 cores), where it was measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from timing import Row, measure

if TYPE_CHECKING:
    from wholepose.models.posenet import PoseNet

ALTERNATIVES = (
    ("hrnet_w16_slim", (256, 192)),
    ("hrnet_w24_slim_f96", (128, 96)),
    ("hrnet_w24_slim_f96", (256, 192)),
    ("hrnet_w32_slim_f96", (256, 192)),
    ("hrnet_w32_slim_f96", (384, 288)),
    ("hrnet_w32_mid_f96", (256, 192)),
    ("hrnet_w32_deep_f96", (256, 192)),
    ("hrnet_w32_large_f96", (256, 192)),
    ("hrnet_w18_small_v2", (256, 192)),
    ("hrnet_w32", (256, 192)),
)


def normaliser(size: tuple[int, int]) -> Callable[[NDArray[np.uint8]], object]:
    """An exported model's first nodes, on one thread: to float, less the mean; the scale is in the first weights."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    mean = np.array([0.485, 0.456, 0.406], dtype=np.float32).reshape(1, 3, 1, 1) * 255
    nodes = [
        helper.make_node("Transpose", ["crops"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["normalised"]),
    ]
    crops = helper.make_tensor_value_info("crops", TensorProto.UINT8, [1, *size, 3])
    out = helper.make_tensor_value_info("normalised", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "normalise", [crops], [out], [numpy_helper.from_array(mean, "mean")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda crop: session.run(None, {"crops": crop[None]})


def stage_rows() -> list[Row]:
    """Everything but the network, for one person at 384x288, on one core."""
    import cv2

    from wholepose.draw import draw_poses
    from wholepose.geometry import crop_image, crop_matrices, crop_regions, invert_affine, transform_points
    from wholepose.heatmaps import decode, encode
    from wholepose.images import load_image
    from wholepose.poses import Poses
    from wholepose.skeletons import HALPE136

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    size = (384, 288)
    image = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    box = np.array([[200.0, 60.0, 400.0, 440.0]])
    centers, sizes = crop_regions(box, size[1] / size[0])
    matrix = crop_matrices(centers, sizes, size)[0]
    crop = crop_image(image, matrix, size)
    points = rng.uniform([20, 20], [268, 364], (1, 136, 2))
    heatmaps = encode(points, np.ones((1, 136)), (96, 72))[0]
    heatmaps += rng.normal(0, 0.01, heatmaps.shape).astype(np.float32)
    normalised = normaliser(size)

    def cut() -> object:
        regions = crop_regions(box, size[1] / size[0])
        return crop_image(image, crop_matrices(*regions, size)[0], size)

    def read() -> object:
        found = decode(heatmaps)
        return transform_points(found.coordinates[0] * 4, invert_affine(matrix))

    poses = Poses(
        keypoints=transform_points(points, invert_affine(matrix)[None]).astype(np.float32),
        scores=np.ones((1, 136), dtype=np.float32),
        boxes=box.astype(np.float32),
        box_scores=np.ones(1, dtype=np.float32),
        skeleton=HALPE136,
    )
    rows = [
        Row("decode JPEG 640x480", *measure(lambda: load_image(encoded)), "-"),
        Row("cut the crop", *measure(cut), "8.3 with normalise"),
        Row("normalise (inside the graph when exported)", *measure(lambda: normalised(crop)), ""),
        Row("decode 136 heatmaps, with covariance", *measure(read), "41 (0.29), 17 (1.3.2)"),
        Row("draw one person", *measure(lambda: draw_poses(image, poses)), "-"),
    ]
    budget = sum(row.milliseconds for row in rows[1:4])
    return [*rows, Row("crop + normalise + decode (budget 2)", budget, 0.0, "49")]


def embedded_rows(threads: int) -> list[Row]:
    """The embedded models end to end: one person in a 640x480 photo."""
    from wholepose import PoseEstimator, load_image

    picture = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"
    image = np.ascontiguousarray(np.pad(load_image(picture), ((0, 0), (64, 64), (0, 0)), mode="edge")[:480])
    estimator = PoseEstimator.from_pretrained(threads=threads)
    whole = [[0, 0, image.shape[1], image.shape[0]]]
    return [
        Row(f"embedded model, given box, {threads} threads", *measure(lambda: estimator.predict(image, whole)), "-"),
        Row(f"embedded detector and model, {threads} threads", *measure(lambda: estimator.predict(image)), "-"),
    ]


def target_rows() -> list[Row]:
    """Targets of a training batch, drawn on the device: here the CPU, all cores."""
    import torch

    from wholepose.training.targets import heatmap_targets

    torch.set_flush_denormal(True)
    keypoints, visibility = torch.rand(32, 136, 2) * 288, torch.ones(32, 136)
    timing = measure(lambda: heatmap_targets(keypoints, visibility, (96, 72)), seconds=2)
    return [Row("targets of 32 x 136 x 96 x 72 (budget 60)", *timing, "in the sample")]


def random_network(arch: str) -> PoseNet:
    """A network of that shape with random weights, of 136 keypoints."""
    import torch

    from wholepose.models.posenet import build_model

    torch.manual_seed(0)
    model = build_model(arch, 136).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


def exported_row(model: PoseNet, arch: str, size: tuple[int, int], name: str, seconds: float) -> Row:
    """One crop a call through ONNX Runtime, decode inside, on all cores."""
    from wholepose.export.exporter import export_onnx
    from wholepose.runtimes import load_runtime
    from wholepose.weights import ModelCard

    card = ModelCard(
        name="speed", arch=arch, skeleton="halpe136", input_size=size, licence="-", source="random weights"
    )
    crops = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, card, Path(folder) / "speed.onnx")
        runtime = load_runtime(Path(folder) / "speed.onnx", runtime="onnx")
        return Row(name, *measure(lambda: runtime.predict(crops), seconds=seconds), "")


def network_rows() -> list[Row]:
    """HRNet-W48 at 384x288 with random weights: ONNX Runtime (decode inside) beside eager PyTorch."""
    import torch

    model = random_network("hrnet_w48")
    normalised = torch.randn(1, 3, 384, 288)
    with torch.inference_mode():
        eager = Row("HRNet-W48 384x288, eager PyTorch", *measure(lambda: model(normalised), seconds=15), "750-980")
    ours = exported_row(model, "hrnet_w48", (384, 288), "HRNet-W48 384x288, ONNX Runtime, decode inside", seconds=15)
    return [eager, ours, Row("ratio eager / ONNX Runtime", eager.milliseconds / ours.milliseconds, 0.0, "")]


def alternative_rows() -> list[Row]:
    """Shapes that an embedded model could have, with random weights."""
    rows = []
    for arch, size in ALTERNATIVES:
        model = random_network(arch)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        rows.append(exported_row(model, arch, size, f"{arch} {size[0]}x{size[1]}, {millions:.1f} M", seconds=3))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="store_true", help="time HRNet-W48 on ONNX Runtime and PyTorch (minutes)")
    parser.add_argument("--alternatives", action="store_true", help="time other shapes of small networks")
    parser.add_argument("--json", type=Path, help="also write the table here")
    options = parser.parse_args()
    rows = stage_rows() + embedded_rows(os.cpu_count() or 1)
    if importlib.util.find_spec("torch"):
        from speed_data import sample_rows

        rows += sample_rows() + target_rows()
    if importlib.util.find_spec("warp"):
        from speed_synth import synth_rows

        rows += synth_rows()
    if options.network:
        rows += network_rows()
    if options.alternatives:
        rows += alternative_rows()
    print(f"{'stage':<52}{'median ms':>10}{'IQR':>8}   reference, ms")
    for row in rows:
        print(f"{row.stage:<52}{row.milliseconds:>10.2f}{row.spread:>8.2f}   {row.reference}")
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))


if __name__ == "__main__":
    main()
