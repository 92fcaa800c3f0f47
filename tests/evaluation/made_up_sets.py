"""A small annotated set with pictures, on which the centroid model of tiny_models.py is right."""

import json
from pathlib import Path

import numpy as np

from wholepose.images import save_image

CENTERS = ((60.0, 70.0), (75.5, 64.25), (90.0, 80.0))
SIZE = (160, 150)
"""(height, width) of each picture."""


def write_set(folder: Path, tiny_models, *, count: int = 136, **changes) -> Path:
    """Writes one picture a person, a white blob each, and annotations of the keypoints that the model finds there.

    A box of 76.8 x 102.4 px makes a crop of 96 x 128, in which a pixel of the picture is a pixel of the crop.
    """
    images, people = [], []
    for number, (x, y) in enumerate(CENTERS, start=1):
        save_image(folder / f"{number}.png", tiny_models.blob_image(SIZE, (x, y)))
        images.append({"id": 10 * number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
        places = np.c_[x + tiny_models.OFFSET_PX * (np.arange(count) % 8), np.full(count, y), np.full(count, 2)]
        people.append(
            {
                "id": number,
                "image_id": 10 * number,
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": count,
                "bbox": [x - 38.4, y - 51.2, 76.8, 102.4],
                "area": 4000.0,
                "keypoints": places.ravel().tolist(),
            }
        )
    document = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}], **changes}
    (folder / "set.json").write_text(json.dumps(document))
    return folder / "set.json"


def write_boxes(folder: Path, annotation_file: Path, score: float = 0.5) -> Path:
    """Writes the labelled boxes as a detector's results."""
    document = json.loads(annotation_file.read_text())
    rows = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": score}
        for person in document["annotations"]
    ]
    (folder / "boxes.json").write_text(json.dumps(rows))
    return folder / "boxes.json"
