"""Writes the person detector as the embedded ONNX file, measures it and stores the figures in its card.

    python scripts/export_detector.py weights/wholepose_detector_v2.safetensors --data ../shared/data \
        --name wholepose_detector_v2 --out runs/release
    python scripts/embed_weights.py runs/release/wholepose_detector_v2.onnx detector

The threshold is the lowest one with fewer than `--false-positives` boxes a picture on the photos without people that
training left out. Those and coco/dev were used for choosing, so the figures are no test of what was never looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from detector_measure import average_precision, dev_photos

from wholepose.detectors.base import Detections
from wholepose.detectors.embedded import SAME_PERSON_IOU, DetectorCard, EmbeddedDetector
from wholepose.evaluation.holdout import split_photos
from wholepose.export.stored_weights import byte_weights
from wholepose.models.detector import DetectorNet
from wholepose.outputs import atomic_path

CARD = Path(__file__).parent / "cards" / "detector.json"
MOST_PEOPLE = 300


class DetectorGraph(nn.Module):
    """The network with its preprocessing: (H, W, 3) uint8 to boxes (1, A, 4) and scores (1, 1, A)."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes, _, _ = self.net(image.permute(2, 0, 1)[None].float() / 127.5 - 1)
        return boxes, logits.sigmoid()[:, None]


def to_onnx(net: DetectorNet) -> onnx.ModelProto:
    """Exports the network and puts non-maximum suppression behind it; weights are kept as int8."""
    rows, columns = torch.export.Dim("rows", min=1, max=128), torch.export.Dim("columns", min=1, max=128)
    program = torch.onnx.export(
        DetectorGraph(net).eval(),
        (torch.zeros(320, 416, 3, dtype=torch.uint8),),
        dynamic_shapes={"image": {0: 32 * rows, 1: 32 * columns}},
        input_names=["image"],
        output_names=["all_boxes", "all_scores"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = byte_weights(program.model_proto)
    graph = model.graph
    for name, value in (("score_threshold", 0.05), ("iou_threshold", SAME_PERSON_IOU)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.float32), name))
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    constants = {
        "nms_most": np.array([MOST_PEOPLE], dtype=np.int64),
        "nms_column": np.array(2, dtype=np.int64),
        "nms_flat": np.array([-1], dtype=np.int64),
        "nms_rows": np.array([-1, 4], dtype=np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    suppress = ["all_boxes", "all_scores", "nms_most", "iou_threshold", "score_threshold"]
    graph.node.extend(
        [
            helper.make_node("NonMaxSuppression", suppress, ["nms_chosen"], "suppress"),
            helper.make_node("Gather", ["nms_chosen", "nms_column"], ["nms_cells"], "cells", axis=1),
            helper.make_node("Reshape", ["all_boxes", "nms_rows"], ["nms_boxes"], "flat_boxes"),
            helper.make_node("Reshape", ["all_scores", "nms_flat"], ["nms_scores"], "flat_scores"),
            helper.make_node("Gather", ["nms_boxes", "nms_cells"], ["boxes"], "boxes_of_cells", axis=0),
            helper.make_node("Gather", ["nms_scores", "nms_cells"], ["scores"], "scores_of_cells", axis=0),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["people", 4]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["people"]))
    for proto in (graph, *graph.node):  # traces of where the export ran
        del proto.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, card: DetectorCard, path: Path) -> None:
    """Writes the model with its card."""
    del model.metadata_props[:]
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="safetensors file of scripts/train_detector.py or import_nanodet.py")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled photos")
    parser.add_argument("--about", type=Path, default=CARD, help="texts of the card: JSON by field")
    parser.add_argument("--name", required=True, help="of the released weights")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument(
        "--input-size", type=int, default=480, help="longer side in pixels to which pictures are brought"
    )
    parser.add_argument("--false-positives", type=float, default=0.3, help="at most so many a photo without people")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.name}.onnx"
    net = DetectorNet()
    net.load_state_dict(load_file(options.weights))
    model = to_onnx(net.eval())
    texts = json.loads(options.about.read_text(encoding="utf-8"))
    texts["training_data"] = tuple(texts["training_data"])
    card = DetectorCard(name=options.name, input_size=options.input_size, threshold=0.3, **texts)
    write(model, card, path)

    detector = EmbeddedDetector(path=path, threshold=0.005, input_size=options.input_size, threads=2)
    photos = dev_photos(options.data)
    found = detector.detect([photo.image for photo in photos])
    metrics = {f"coco_dev/{name}": value for name, value in average_precision(photos, found).items()}

    _, paths = split_photos(options.data / "negatives" / "train.json")
    wrong = np.concatenate(
        [detector.detect([np.array(Image.open(path).convert("RGB"))])[0].scores for path in paths] + [np.zeros(1)]
    )
    thresholds = np.arange(0.05, 0.9, 0.01)
    rates = np.array([(wrong >= threshold).sum() / len(paths) for threshold in thresholds])
    first = int(np.argmax(rates < options.false_positives))
    threshold = round(float(thresholds[first]), 2)
    metrics["negatives_holdout/false_positives"] = round(float(rates[first]), 4)
    kept = [Detections(f.boxes[f.scores >= threshold], f.scores[f.scores >= threshold]) for f in found]
    metrics |= {
        f"coco_dev/{name}_at_threshold": value
        for name, value in average_precision(photos, kept).items()
        if name.startswith("AR")
    }
    write(model, DetectorCard(**{**card.__dict__, "threshold": threshold, "metrics": metrics}), path)

    image = np.array(Image.fromarray(photos[0].image).resize((640, 480)))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        detector.detect([image])
        times.append(time.perf_counter() - start)
    for at, rate in zip(thresholds[::5], rates[::5], strict=True):
        print(f"threshold {at:.2f}: {rate:.3f} false positives a picture")
    print(json.dumps(metrics, indent=1))
    print(f"threshold {threshold}, {path.stat().st_size / 1e6:.2f} MB, 640x480 photo on 2 threads: ", end="")
    print(f"median {statistics.median(times) * 1e3:.1f} ms, best {min(times) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
