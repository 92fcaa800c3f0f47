"""People who are drawn when a sample wants them: new ones each epoch, mixed with annotated sets, the same anywhere."""

from dataclasses import replace

import numpy as np
import pytest

from wholepose.data import AugmentConfig, DrawnSource, PoseDataset, read_annotations
from wholepose.geometry import transform_points
from wholepose.skeletons import COCO17, HALPE136


class Dots:
    """Somebody who is 17 bright dots on black, in a photo of 200 x 160; the last keypoint is not labelled."""

    photo_width = 160

    def __init__(self, number):
        points = np.random.default_rng(number).uniform([40, 40], [120, 160], (17, 2)).astype(np.float32)
        self.keypoints = points
        self.visibility = np.full(17, 2, dtype=np.uint8)
        self.visibility[16] = 0
        self.box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)

    def draw(self, matrix, size):
        picture = np.zeros((*size, 3), dtype=np.uint8)
        for x, y in np.round(transform_points(self.keypoints[:16], matrix)).astype(int):
            if 0 <= x < size[1] and 0 <= y < size[0]:
                picture[y, x] = 255
        return picture


class DotPainter:
    skeleton = COCO17

    def __init__(self):
        self.asked = []

    def subject(self, number):
        self.asked.append(number)
        return Dots(number)


def test_an_epoch_shows_new_people_who_are_drawn_where_they_are_cropped():
    painter = DotPainter()
    dataset = PoseDataset([DrawnSource(painter, 5)], (64, 48))
    assert len(dataset) == 5
    for epoch in range(2):
        for index in range(5):
            sample = dataset[epoch, index]
            assert (sample.source, sample.person) == (0, 5 * epoch + index)
            assert sample.crop.shape == (64, 48, 3)
            labelled = np.flatnonzero(sample.weights)
            assert len(labelled) == 16
            for x, y in np.round(sample.keypoints[labelled]).astype(int):
                if 0 <= x < 48 and 0 <= y < 64:
                    assert sample.crop[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
    assert painter.asked == list(range(10))


def test_the_key_alone_decides():
    first, again = (PoseDataset([DrawnSource(DotPainter(), 5)], (64, 48), seed=3) for _ in range(2))
    for key in ((1, 4), (0, 2)):
        assert all(np.array_equal(a, b) for a, b in zip(first[key], again[key], strict=True))
    other = PoseDataset([DrawnSource(DotPainter(), 5)], (64, 48), seed=4)
    assert not np.array_equal(first[0, 2].matrix, other[0, 2].matrix)


def test_mixed_with_annotated_people(figures_file):
    people = read_annotations(figures_file)
    still = AugmentConfig(shift_probability=0, flip_probability=0, half_body_probability=0, rotation_probability=0)
    dataset = PoseDataset([people, DrawnSource(DotPainter(), 3, augment=still)], (64, 48))
    assert len(dataset) == len(people) + 3
    dataset.preload()
    sources = [dataset.person(1, index) for index in range(len(dataset))]
    assert sources == [*((0, row) for row in range(len(people))), (1, 3), (1, 4), (1, 5)]
    assert all(dataset[0, index].crop.any() for index in range(len(dataset)))


def test_impossible_mixtures_are_refused(figures_file):
    with pytest.raises(ValueError, match="at least one person"):
        PoseDataset([DrawnSource(DotPainter(), 0)], (64, 48))
    people = read_annotations(figures_file)
    with pytest.raises(ValueError, match="different skeletons: coco17, halpe136"):
        PoseDataset([replace(people, skeleton=HALPE136), DrawnSource(DotPainter(), 1)], (64, 48))


@pytest.fixture
def figures_file(tmp_path):
    """Two grey photos with a person each."""
    import json

    from PIL import Image

    rows = []
    for number in (1, 2):
        Image.new("RGB", (100, 80), (90, 90, 90)).save(tmp_path / f"{number}.png")
        points = np.column_stack([np.linspace(20, 80, 17), np.linspace(10, 70, 17), np.full(17, 2)])
        row = {"id": number, "image_id": number, "category_id": 1, "keypoints": points.ravel().tolist()}
        rows.append({**row, "bbox": [15, 5, 70, 70], "area": 4000, "num_keypoints": 17})
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 80, "width": 100} for n in (1, 2)],
        "annotations": rows,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}],
    }
    (tmp_path / "set.json").write_text(json.dumps(document))
    return tmp_path / "set.json"
