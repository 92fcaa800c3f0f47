"""Reports on annotation files, and contact sheets."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wholepose.data import read_annotations
from wholepose.data.check import check_annotations, suspect_left_right
from wholepose.data.contact_sheet import contact_sheet
from wholepose.skeletons import COCO17


def body(**moved):
    """17 keypoints of somebody who faces the camera: left is on the right of the picture."""
    places = {"nose": (50, 20), "left_shoulder": (65, 35), "right_shoulder": (35, 35)}
    places |= {"left_hip": (60, 60), "right_hip": (40, 60), "left_eye": (54, 16), "right_eye": (46, 16)}
    places |= {"left_ear": (58, 18), "right_ear": (42, 18)} | moved
    flat = []
    for name in COCO17.keypoint_names:
        flat += [*places[name], 2] if name in places else [0, 0, 0]
    return flat


def make_set(folder, people, photos=("a.png",)):
    for name in photos:
        Image.new("RGB", (100, 90), (90, 120, 60)).save(folder / name)
    images = [{"id": index, "file_name": f"{name}.png", "height": 90, "width": 100} for index, name in enumerate("abc")]
    rows = []
    for index, changes in enumerate(people):
        row = {"id": index, "image_id": 0, "category_id": 1, "keypoints": body(), "bbox": [30, 10, 40, 70], "area": 900}
        rows.append({**row, **changes})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    path = folder / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [category]}))
    return read_annotations(path)


def test_report(tmp_path):
    swapped = body(left_hip=(40, 60), right_hip=(60, 60))
    far = body(nose=(50, -20))
    people = [
        {},
        {"keypoints": swapped, "bbox": [1, 1, 5, 5]},
        {"keypoints": far},
        {"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0, "bbox": [0, 0, 9, 9]},
        {"image_id": 1, "bbox": [200, 10, 20, 20]},
    ]
    folder = tmp_path
    annotations = make_set(folder, people, photos=("a.png", "b.png"))
    Image.new("RGB", (10, 10)).save(folder / "b.png")
    report = check_annotations(annotations)
    assert (report.images, report.images_with_people, report.people, report.crowds) == (3, 2, 5, 1)
    assert (report.trainable, report.without_keypoints) == (3, 1)
    assert report.labelled_keypoints == 9
    assert report.mean_labelled == 9
    assert report.visibility["2 visible"] == 4 * 9
    assert sum(report.visibility.values()) == 5 * 17
    assert report.repeated_boxes == 1
    assert report.boxes_outside == 1
    assert report.keypoints_outside == 1
    assert report.suspect_left_right == 1
    assert (report.missing_images, report.wrong_images) == (1, 1)
    assert report.problems == (
        f"{folder / 'c.png'}: missing",
        f"{folder / 'b.png'}: is 10 high and 10 wide, annotated as 90 and 100",
        "annotation id 4: labelled, but its box [200.0, 10.0, 220.0, 30.0] is outside the image",
    )
    assert any(line.startswith("repeated boxes") and line.endswith("1") for line in report.lines())
    assert json.loads(json.dumps(report.to_dict()))["people"] == 5


def test_what_training_refuses_is_found(tmp_path):
    """Kinds that are not read, a JPEG that is cut short; but pictures up to the limit of pixels are fine."""
    people = [{"image_id": index} for index in range(3)]
    annotations = make_set(tmp_path, people)
    Image.new("RGB", (100, 90)).save(tmp_path / "b.png", "JPEG2000")
    noise = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "c.png", "JPEG")
    content = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(content[: len(content) // 2])
    assert check_annotations(annotations).problems == (
        f"{tmp_path / 'b.png'}: is a JPEG 2000 picture, which is not read; convert it to one of JPEG, PNG, WebP, GIF, "
        "TIFF, BMP, PPM",
        f"{tmp_path / 'c.png'}: this JPEG file is cut short (its end marker is missing)",
    )
    for name in "abc":
        Image.new("1", (13500, 13500)).save(tmp_path / f"{name}.png", compress_level=1)
    large = replace(annotations, image_sizes=np.full((3, 2), 13500))
    assert check_annotations(large).wrong_images == 0


def test_a_count_of_0_beside_labels_is_told(tmp_path):
    report = check_annotations(make_set(tmp_path, [{"num_keypoints": 0}, {"num_keypoints": 9}, {}]))
    assert report.miscounted == 1
    assert any(line.startswith("labelled, but num_keypoints is 0") and line.endswith("1") for line in report.lines())


@pytest.mark.parametrize(
    ("moved", "suspicious"),
    [
        ({}, False),
        ({"left_shoulder": (35, 35), "right_shoulder": (65, 35)}, True),
        ({"left_ear": (42, 18), "right_ear": (58, 18)}, True),
        ({"left_shoulder": (50, 50), "right_shoulder": (50, 20)}, False),  # turned by a right angle
    ],
)
def test_left_and_right(tmp_path, moved, suspicious):
    assert suspect_left_right(make_set(tmp_path, [{"keypoints": body(**moved)}])).tolist() == [suspicious]


def test_the_files_own_doubts_count(tmp_path):
    assert suspect_left_right(make_set(tmp_path, [{"suspect_left_right": 1}, {}])).tolist() == [True, False]


def test_contact_sheet(tmp_path):
    annotations = make_set(tmp_path, [{"bbox": [30, 10, 40 + index, 70]} for index in range(7)])
    sheet = contact_sheet(annotations, people=5, columns=3, tile_size=(64, 48))
    assert sheet.shape == (2 * (64 + 16 + 4), 3 * (48 + 4), 3)
    colors = np.unique(sheet.reshape(-1, 3), axis=0)
    assert any((color == [90, 120, 60]).all() for color in colors)  # the photo
    assert any(color[1] > 180 and color[0] < 80 for color in colors)  # the left arm
    np.testing.assert_array_equal(sheet, contact_sheet(annotations, people=5, columns=3, tile_size=(64, 48)))
    (tmp_path / "a.png").unlink()
    assert not contact_sheet(annotations).any()
