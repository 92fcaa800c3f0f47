"""Times what makes one training sample: photo from the disk, augmentation, crop, 136 keypoints; targets are apart.

python benchmarks/speed_data.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from timing import Row, measure


def sample_rows() -> list[Row]:
    """One augmented 384x288 sample of a 640x480 photo, on one core."""
    import cv2
    import numpy as np

    from wholepose.data import AugmentConfig, PhotoStore, PoseDataset, read_annotations
    from wholepose.images import load_image
    from wholepose.skeletons import HALPE136

    cv2.setNumThreads(1)
    picture = load_image(Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg")
    photo = cv2.resize(picture, (640, 640), interpolation=cv2.INTER_CUBIC)[:480]
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform([220, 60], [420, 440], (136, 2)), np.full(136, 2)])
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist(), "area": 40_000}
    document = {
        "images": [{"id": 1, "file_name": "photo.jpg", "height": 480, "width": 640}],
        "annotations": [{**person, "bbox": [200, 40, 240, 420]}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(HALPE136.keypoint_names)}],
    }
    everything = AugmentConfig(
        part_zoom_probability=0.2,
        colour_probability=0.8,
        blur_probability=0.2,
        jpeg_probability=0.2,
        occlusion_probability=0.3,
    )
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/photo.jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        size = (Path(folder) / "photo.jpg").stat().st_size
        (Path(folder) / "set.json").write_text(json.dumps(document))
        people = read_annotations(Path(folder) / "set.json")

        def sampler(**options: object) -> Row:
            dataset = PoseDataset([people], (384, 288), **options)  # type: ignore[arg-type]
            epoch = iter(range(10**9))
            return Row("", *measure(lambda: dataset[next(epoch), 0]), "")

        rows = {
            f"training sample, JPEG of {size / 1e3:.0f} kB (budget 5)": (sampler(), "19.4 with targets"),
            "training sample with colour, blur, JPEG, occlusion": (sampler(augment=everything), "-"),
            "training sample, photo kept in memory": (sampler(photos=PhotoStore("pixels")), "-"),
        }
    return [row._replace(stage=stage, reference=reference) for stage, (row, reference) in rows.items()]


if __name__ == "__main__":
    for row in sample_rows():
        print(f"{row.stage:<54}{row.milliseconds:>8.2f} ms, IQR {row.spread:.2f}   reference {row.reference}")
