"""Measures person boxes on COCO's dev photos: AP and AR by size with pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wholepose.detectors.base import Detections, make_detections, non_maximum_suppression
from wholepose.detectors.embedded import SAME_PERSON_IOU
from wholepose.detectors.letterbox import letterbox
from wholepose.models.detector import DetectorNet


@dataclass
class DevPhoto:
    """A photo with all its people: `rows` are COCO annotations."""

    image_id: int
    image: NDArray[np.uint8]
    rows: list[dict[str, Any]]


def dev_photos(data: Path) -> list[DevPhoto]:
    """The photos of coco/dev whose people are all labelled, small ones and crowds too ("official", "panoptic")."""
    from PIL import Image

    document = json.loads((data / "coco/dev.json").read_text())
    photos = []
    for entry in document["images"]:
        if entry["annotations"] in ("official", "panoptic"):
            image = np.array(Image.open(data / "coco" / entry["file_name"]).convert("RGB"))
            rows = [row for row in document["annotations"] if row["image_id"] == entry["id"]]
            photos.append(DevPhoto(entry["id"], image, rows))
    return photos


@torch.no_grad()
def find_people(net: DetectorNet, image: NDArray[np.uint8], input_size: int = 480) -> Detections:
    """What the network finds in a photo in one look, before it is exported."""
    shrunk, scale = letterbox(image, input_size)
    pixels = torch.from_numpy(shrunk).permute(2, 0, 1)[None].float() / 127.5 - 1
    logits, boxes, _, _ = net(pixels.contiguous(memory_format=torch.channels_last))
    scores, found = logits[0].sigmoid().numpy(), boxes[0].numpy() / scale
    best = np.argsort(-scores)[:1000]
    kept = best[non_maximum_suppression(found[best], scores[best], SAME_PERSON_IOU)][:300]
    return make_detections(found[kept], scores[kept], image.shape[:2], 0.005)


def average_precision(photos: list[DevPhoto], found: list[Detections]) -> dict[str, float]:
    """COCO's AP, AP50, AP and AR by size, for the category person."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = COCO(), COCO()
    truth.dataset = {
        "images": [{"id": photo.image_id} for photo in photos],
        "annotations": [
            dict(row, id=number) for number, row in enumerate((r for p in photos for r in p.rows), start=1)
        ],
        "categories": [{"id": 1}],
    }
    rows: list[dict[str, Any]] = []
    for photo, people in zip(photos, found, strict=True):
        for (x1, y1, x2, y2), score in zip(people.boxes.tolist(), people.scores.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": photo.image_id,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "score": score,
                    "iscrowd": 0,
                }
            )
    results.dataset = {**truth.dataset, "annotations": rows}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    figures = {name: round(float(value), 4) for name, value in zip(names, evaluation.stats[:6], strict=True)}
    recalls = zip(("AR", "AR_small", "AR_medium", "AR_large"), evaluation.stats[8:12], strict=True)
    return figures | {name: round(float(value), 4) for name, value in recalls}
