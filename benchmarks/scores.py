"""Mean keypoint scores on people, and on what should not score high: no people, black, upside down, 12 pixels tall.

    python benchmarks/scores.py
    python benchmarks/scores.py --model mine.safetensors --data ../shared/data

People are those of the COCO dev photos with their labelled boxes; the photos without people are the 200 that training
leaves out, each taken whole as if it were a person. Under each mean stands the share of keypoints scored 0.3 or more,
those that `--draw` shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from wholepose import PoseEstimator
from wholepose.evaluation import split_photos
from wholepose.images import load_image
from wholepose.skeletons import HALPE136

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
DRAWN = 0.3
PARTS = ("body", "feet", "face", "left_hand", "right_hand")
SMALL_PX = 12

Case = tuple[np.ndarray, np.ndarray]
"""A picture (H, W, 3) uint8 and boxes (N, 4) xyxy."""


def people(data: Path) -> Iterator[Case]:
    """COCO's dev photos with the boxes of those whose keypoints are labelled."""
    document = json.loads((data / "coco" / "dev.json").read_text(encoding="utf-8"))
    for entry in document["images"]:
        rows = [
            row["bbox"]
            for row in document["annotations"]
            if row["image_id"] == entry["id"] and any(row.get("keypoints", [])[2::3]) and not row.get("iscrowd")
        ]
        if rows:
            boxes = np.array(rows, dtype=np.float32)
            boxes[:, 2:] += boxes[:, :2]
            yield load_image(data / "coco" / entry["file_name"]), boxes


def nobody(data: Path) -> Iterator[Case]:
    """Held-out photos without people, whole."""
    for path in split_photos(data / "negatives" / "train.json")[1]:
        image = load_image(path)
        yield image, np.array([[0, 0, image.shape[1], image.shape[0]]], dtype=np.float32)


def upside_down(case: Case) -> Case:
    """The picture turned by half a circle."""
    image, boxes = case
    size = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float32)
    return np.ascontiguousarray(image[::-1, ::-1]), (size - boxes)[:, [2, 3, 0, 1]]


def small(case: Case) -> Iterator[Case]:
    """The picture once a person, shrunk until that one is 12 pixels tall."""
    image, boxes = case
    for box in boxes:
        factor = SMALL_PX / float(box[3] - box[1])
        shrunk = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        if min(shrunk.shape[:2]) >= 4:
            yield shrunk, box[None] * factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name or path; default: the embedded one")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled photos")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is not there; name the folder of the labelled photos with --data")
    estimator = PoseEstimator.from_pretrained(options.model, detector=None, threads=options.threads)
    known = list(people(options.data))
    black = np.zeros((256, 192, 3), np.uint8)
    cases = {
        "people": known,
        "no people": list(nobody(options.data)),
        "black": [(black, np.array([[0, 0, 192, 256]], np.float32))],
        "upside down": [upside_down(case) for case in known],
        f"{SMALL_PX} px tall": [shrunk for case in known for shrunk in small(case)],
    }
    print(f"{'':14}{'n':>5}" + "".join(f"{part:>12}" for part in PARTS))
    for name, pictures in cases.items():
        scores = np.concatenate([estimator.predict(image, boxes=boxes).scores for image, boxes in pictures])
        columns = [scores[:, list(HALPE136.parts[part])] for part in PARTS]
        print(f"{name:14}{len(scores):>5}" + "".join(f"{column.mean():>12.2f}" for column in columns))
        print(f"{'':19}" + "".join(f"{(column >= DRAWN).mean():>11.0%} " for column in columns))


if __name__ == "__main__":
    main()
