"""A data set of drawn figures: small, quickly learnt, and without a licence."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from wholepose.skeletons import COCO17

# Where the 17 keypoints of a standing figure are, x to the viewer's right, in a box of one by one.
_STANDING = np.array(
    [
        *([0.50, 0.08], [0.56, 0.05], [0.44, 0.05], [0.63, 0.08], [0.37, 0.08]),
        *([0.72, 0.25], [0.28, 0.25], [0.85, 0.42], [0.15, 0.42], [0.90, 0.58], [0.10, 0.58]),
        *([0.63, 0.55], [0.37, 0.55], [0.65, 0.76], [0.35, 0.76], [0.66, 0.96], [0.34, 0.96]),
    ]
)


def draw_figures(folder: Path, people: int, seed: int = 0, *, unlabelled: tuple[int, ...] = ()) -> Path:
    """Draws one figure a picture, each keypoint a disc of its own colour, and writes COCO annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    colors = np.random.default_rng(7).integers(60, 256, (17, 3)).tolist()
    images, annotations = [], []
    for number in range(people):
        canvas = np.full((96, 96, 3), random.integers(0, 50, 3), dtype=np.uint8)
        width, height = random.uniform(34, 44), random.uniform(60, 76)
        corner = random.uniform((4, 4), (92 - width, 92 - height))
        places = corner + (_STANDING + random.normal(0, 0.025, _STANDING.shape)) * (width, height)
        for start, end in ((5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)):
            ends = [tuple(int(v) for v in np.rint(places[k])) for k in (start, end)]
            cv2.line(canvas, ends[0], ends[1], (120, 120, 120), 2, cv2.LINE_AA)
        for place, color in zip(places, colors, strict=True):
            center = tuple(int(v) for v in np.rint(place * 16))
            cv2.circle(canvas, center, 48, color, -1, cv2.LINE_AA, 4)
        cv2.imwrite(str(folder / f"{number}.png"), canvas[..., ::-1])
        visibility = np.full(17, 0 if number in unlabelled else 2)
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": 96, "width": 96})
        annotations.append(
            {
                "id": number + 1,
                "image_id": number + 1,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*corner.tolist(), width, height],
                "area": 0.53 * width * height,
                "num_keypoints": int((visibility > 0).sum()),
                "keypoints": np.column_stack([places, visibility]).reshape(-1).tolist(),
            }
        )
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}],
    }
    path = folder / "figures.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="session")
def figures(tmp_path_factory) -> Path:
    """Annotation file of 24 drawn figures."""
    return draw_figures(tmp_path_factory.mktemp("figures"), 24)
