"""Annotation files: what is read from each format, and what is said about broken ones."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wholepose.data import read_annotations
from wholepose.data.annotations import missing_images, without_missing_images
from wholepose.errors import AnnotationError
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE26, HALPE136, MPII16


def person(**changes):
    keypoints = [value for index in range(17) for value in (10 + 5 * index, 20 + 3 * index, 2)]
    row = {"id": 7, "image_id": 1, "category_id": 1, "keypoints": keypoints, "num_keypoints": 17}
    return {**row, "bbox": [8, 18, 90, 60], "area": 2500, "iscrowd": 0, **changes}


def document(people=None, **changes):
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    images = [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 120}]
    people = [person()] if people is None else people
    return {"images": images, "annotations": people, "categories": [category], **changes}


def read(tmp_path, content, **options):
    path = tmp_path / "set.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_annotations(path, **options)


def test_coco_columns(tmp_path):
    people = [person(), person(id=9, iscrowd=1, keypoints=[0] * 51, num_keypoints=0, area=10.5)]
    found = read(tmp_path, document(people), images=tmp_path / "photos")
    assert len(found) == 2
    assert found.skeleton is COCO17
    assert found.image_files == (tmp_path / "photos" / "a.jpg",)
    assert found.image_sizes.tolist() == [[100, 120]]
    assert found.person_ids.tolist() == [7, 9]
    assert found.person_image_ids.tolist() == [1, 1]
    assert found.boxes[0].tolist() == [8, 18, 98, 78]
    assert found.keypoints[0, 3].tolist() == [25, 29]
    assert found.keypoints.dtype == found.visibility.dtype == np.float32
    assert found.areas.tolist() == [2500, 10.5]
    assert found.crowds.tolist() == [False, True]
    assert found.counts.tolist() == [17, 0]
    assert found.trainable().tolist() == [True, False]
    assert found.labelled.all()
    with pytest.raises(ValueError, match="read-only"):
        found.keypoints[0] = 0


def test_labels_convert_exactly_and_never_by_estimate(tmp_path):
    found = read(tmp_path, document(), skeleton=HALPE136)
    assert found.source_skeleton is COCO17
    assert (
        found.labelled.tolist() == [True] * 17 + [False] * 119
    )  # no neck from the shoulders, no mid hip from the hips
    assert (found.visibility[0, :17] == 2).all()
    assert not found.visibility[0, 17:].any()
    assert not found.keypoints[0, 17:].any()


def test_declared_keypoints_and_own_order_of_names(tmp_path):
    names = ["left_ankle", "face-3", "head", "right_hand_root"]
    category = {"id": 4, "name": "person", "keypoints": names}
    row = person(category_id=4, keypoints=[1, 2, 2, 3, 4, 1, 5, 6, 2, 7, 8, 2], num_keypoints=4)
    info = {"labelled_keypoints": [0, 1, 2]}
    found = read(tmp_path, document([row], categories=[category], info=info))
    places = [HALPE136.index(name) for name in names]
    assert found.skeleton is HALPE136
    assert found.category_id == 4
    assert found.keypoints[0, places].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert found.visibility[0, places].tolist() == [2, 1, 2, 0]
    assert found.labelled.sum() == 3


@pytest.mark.parametrize(("count", "skeleton"), [(17, COCO17), (26, HALPE26), (136, HALPE136)])
def test_nameless_categories_are_known_by_their_number_of_keypoints(tmp_path, count, skeleton):
    row = person(keypoints=[5, 6, 2] * count)
    found = read(tmp_path, document([row], categories=[{"id": 1, "name": "person"}]))
    assert found.skeleton is skeleton


def test_the_file_can_be_told_its_skeleton(tmp_path):
    category = {"id": 1, "name": "person", "keypoints": [f"p{index}" for index in range(16)]}
    row = person(keypoints=[5, 6, 2] * 16)
    with pytest.raises(AnnotationError, match="no known skeleton's"):
        read(tmp_path, document([row], categories=[category]))
    found = read(tmp_path, document([row], categories=[category]), source_skeleton=MPII16, skeleton=HALPE136)
    assert found.visibility[0, HALPE136.index("left_ankle")] == 2
    assert found.visibility[0, HALPE136.index("nose")] == 0


def test_coco_wholebody_fields_and_valid_flags(tmp_path):
    row = person(
        foot_kpts=[1, 2, 2] * 6, face_kpts=[3, 4, 0.3] * 68, lefthand_kpts=[5, 6, 1] * 21, righthand_kpts=[7, 8, 1] * 21
    )
    row |= {"foot_valid": True, "face_valid": True, "lefthand_valid": False, "righthand_valid": True}
    found = read(tmp_path, document([row]))
    assert found.skeleton is COCO_WHOLEBODY133
    parts = {name: found.visibility[0, list(indices)] for name, indices in found.skeleton.parts.items()}
    assert (parts["body"] == 2).all()
    assert (parts["feet"] == 2).all()
    assert (parts["face"] == 1).all()  # any visibility above 0 is reliable there, by the set's own format
    assert not parts["left_hand"].any()
    assert (parts["right_hand"] == 1).all()
    assert found.counts.tolist() == [17]
    halpe = read(tmp_path, document([row]), skeleton=HALPE136)
    assert halpe.keypoints[0, HALPE136.index("right_small_toe")].tolist() == [1, 2]
    assert halpe.keypoints[0, HALPE136.index("face-5")].tolist() == [3, 4]


def test_mpii_list(tmp_path):
    from PIL import Image

    Image.new("RGB", (320, 240)).save(tmp_path / "m.jpg")
    joints = [[11 + index, 21 + index] for index in range(16)]
    row = {"image": "m.jpg", "scale": 0.8, "center": [100, 120], "joints": joints, "joints_vis": [1] * 15 + [0]}
    found = read(tmp_path, [row, {**row, "image": "gone.jpg"}])
    assert found.skeleton is MPII16
    assert found.image_sizes.tolist() == [[240, 320], [0, 0]]
    assert found.keypoints[0, 0].tolist() == [10, 20]  # MATLAB counts from 1
    assert found.visibility[0].tolist() == [2] * 15 + [0]
    np.testing.assert_allclose(found.boxes[0], [19, 51, 179, 211])  # 160 px about (99, 119 + 12)
    assert missing_images(found).tolist() == [1]
    with pytest.raises(AnnotationError, match=r"person 0 \(m.jpg\) joint 3: joints: holds 1 values"):
        read(tmp_path, [{**row, "joints": [*joints[:3], [5], *joints[4:]]}])


@pytest.mark.parametrize(
    ("box", "default", "mmpose0"),
    [
        ([10, 10, 50, 50], [10, 10, 60, 60], [10, 10, 60, 60]),
        ([-10, -5, 50, 50], [0, 0, 40, 45], [0, 0, 50, 50]),  # the reference keeps the width
        ([100, 60, 50, 50], [100, 60, 120, 100], [100, 60, 119, 99]),  # and ends at the last pixel
    ],
)
def test_boxes_are_clipped_by_protocol(tmp_path, box, default, mmpose0):
    assert read(tmp_path, document([person(bbox=box)])).boxes[0].tolist() == default
    assert read(tmp_path, document([person(bbox=box)]), protocol="mmpose0").boxes[0].tolist() == mmpose0


def test_word_for_word_repetitions_are_read_once(tmp_path):
    """The Halpe training file repeats entries; another image or person under a taken id is a fault (31)."""
    content = document([person(), person(), person(id=8)])
    content["images"] = content["images"] * 3
    found = read(tmp_path, content)
    assert found.repeated_images == 2
    assert found.repeated_people == 1
    assert found.person_ids.tolist() == [7, 8]
    content["images"][1] = {**content["images"][1], "file_name": "b.jpg"}
    content["annotations"][1] = person(area=1)
    with pytest.raises(AnnotationError) as error:
        read(tmp_path, content)
    assert "image 1 (id 1): id: also belongs to 'a.jpg'" in str(error.value)


def test_people_without_area_or_keypoints_or_on_no_image_are_not_trained_on(tmp_path):
    people = [
        person(id=1),
        person(id=2, area=0),
        person(id=3, bbox=[200, 10, 20, 20]),
        person(id=4, bbox=[5, 5, 0, 20]),
        person(id=5, keypoints=[0] * 51, num_keypoints=0),
        {key: value for key, value in person(id=6).items() if key != "area"},
    ]
    del people[4]["keypoints"]  # nobody labelled it, so nothing is missing
    found = read(tmp_path, document(people))
    assert found.trainable().tolist() == [True, False, False, False, False, True]
    assert np.isnan(found.areas[5])
    assert found.select(found.trainable()).person_ids.tolist() == [1, 6]


def test_what_coco_annotator_exports_is_read(tmp_path):
    """Booleans for crowds, and people with an outline alone: nobody counted or placed keypoints of theirs."""
    outline = {key: value for key, value in person(id=8).items() if key not in ("keypoints", "num_keypoints")}
    found = read(tmp_path, document([person(iscrowd=False), outline, person(id=9, iscrowd=True)]))
    assert found.crowds.tolist() == [False, False, True]
    assert found.trainable().tolist() == [True, False, False]
    assert found.counts.tolist() == [17, 0, 17]


BROKEN = {
    "annotations[0]: entry": lambda d: d.update(annotations=[3]),
    "document: images: missing": lambda d: d.pop("images"),
    "document: annotations: must be a list": lambda d: d.update(annotations={}),
    "document: categories: is empty": lambda d: d.update(categories=[]),
    "document: category_id: no annotation is of category 1": lambda d: d["annotations"][0].update(category_id=2),
    "image 0 (id 1): file_name: missing": lambda d: d["images"][0].pop("file_name"),
    "image 0 (id 1): height: must be at least 1, not -5": lambda d: d["images"][0].update(height=-5),
    "image 0 (id 1): width: must be a number, not '120'": lambda d: d["images"][0].update(width="120"),
    "image 0 (id 'x'): id: must be a number": lambda d: d["images"][0].update(id="x"),
    "annotation 0 (id 7): image_id: no image has the id 99": lambda d: d["annotations"][0].update(image_id=99),
    "annotation 1 (id 8): category_id: must be a number, not [1]": lambda d: d["annotations"].append(
        person(id=8, category_id=[1])
    ),
    "annotation 0 (id None): id: missing": lambda d: d["annotations"][0].pop("id"),
    "annotation 0 (id 7): keypoints: holds 50 values, expected 51": lambda d: d["annotations"][0]["keypoints"].pop(),
    "annotation 0 (id 7): keypoints: missing": lambda d: d["annotations"][0].pop("keypoints"),
    "annotation 0 (id 7): keypoints[4]: must be a finite number, not nan": lambda d: set_keypoint(d, float("nan")),
    "annotation 0 (id 7): keypoints[4]: must be a finite number, not '3'": lambda d: set_keypoint(d, "3"),
    "annotation 0 (id 7): keypoints[4]: must be a finite number, not [1]": lambda d: set_keypoint(d, [1]),
    "annotation 0 (id 7): keypoints[4]: must be a finite number, not None": lambda d: set_keypoint(d, None),
    "annotation 0 (id 7): keypoints[4]: must be a finite number, not 1e+300": lambda d: set_keypoint(d, 1e300),
    "annotation 0 (id 7): keypoints[5]: visibility must not be negative: -1": lambda d: set_keypoint(d, -1, 5),
    "annotation 0 (id 7): bbox: width and height must not be negative": lambda d: d["annotations"][0].update(
        bbox=[1, 2, -3, 4]
    ),
    "annotation 0 (id 7): bbox: holds 3 values, expected 4": lambda d: d["annotations"][0].update(bbox=[1, 2, 3]),
    "annotation 0 (id 7): area: must be at least 0, not -2": lambda d: d["annotations"][0].update(area=-2),
    "annotation 0 (id 7): area: must be finite, not inf": lambda d: d["annotations"][0].update(area=float("inf")),
    "annotation 0 (id 7): iscrowd: must be a number": lambda d: d["annotations"][0].update(iscrowd="no"),
    "annotation 1 (id 7): id: also belongs to annotation 0": lambda d: d["annotations"].append(person(area=3)),
    "info: labelled_keypoints: must list keypoint indices below 17": lambda d: d.update(
        info={"labelled_keypoints": [17]}
    ),
}


def set_keypoint(content, value, position=4):
    content["annotations"][0]["keypoints"][position] = value


@pytest.mark.parametrize("message", BROKEN)
def test_faults_are_named_by_entry_id_and_field(tmp_path, message):
    """Fault 31."""
    content = copy.deepcopy(document())
    BROKEN[message](content)
    with pytest.raises(AnnotationError) as error:
        read(tmp_path, content)
    assert message in str(error.value)
    assert str(tmp_path / "set.json") in str(error.value)


def test_twenty_faults_are_listed_and_the_rest_counted(tmp_path):
    """Fault 31."""
    people = [person(id=index, image_id=5) for index in range(30)]
    with pytest.raises(AnnotationError) as error:
        read(tmp_path, document(people))
    lines = str(error.value).splitlines()
    assert "30 problems, the first 20" in lines[0]
    assert len(lines) == 21
    assert "annotation 19 (id 19)" in lines[-1]


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"images": [', "[[[" * 100_000, "3", '"text"', "null", '{"images": 1' + "0" * 5000 + "}", "\0"],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content):
    """Fault 31: not JSON, cut short, brackets without end, absurd numbers."""
    with pytest.raises(AnnotationError, match=r"set\.json"):
        read(tmp_path, content)


def test_every_cut_of_a_file_is_refused(tmp_path):
    """Fault 31."""
    text = json.dumps(document())
    path = tmp_path / "cut.json"
    for length in range(0, len(text), 37):
        path.write_text(text[:length])
        with pytest.raises(AnnotationError, match=r"cut\.json: is not JSON"):
            read_annotations(path)


def test_unreadable_files(tmp_path):
    """Fault 31."""
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_annotations(tmp_path / "nowhere.json")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_annotations(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(AnnotationError, match="is not JSON"):
        read_annotations(tmp_path / "latin.json")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just([]), st.just({})
)


def nodes(node, path=()):
    """The places in a document, as paths of keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from nodes(value, (*path, key))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_documents_are_read_or_refused(tmp_path, data):
    """Fault 31: whatever changes in a file, it is a set of finite numbers or an AnnotationError."""
    content = document([person(), person(id=8, foot_kpts=[1, 2, 2] * 6) if data.draw(st.booleans()) else person(id=9)])
    content["info"] = {"labelled_keypoints": [0, 1, 2]}
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(nodes(content))
        *path, last = data.draw(st.sampled_from(places))
        parent = content
        for key in path:
            parent = parent[key]
        if data.draw(st.booleans()):
            parent[last] = data.draw(VALUES)
        else:
            del parent[last]
    try:
        found = read(tmp_path, content, skeleton=HALPE136)
    except AnnotationError:
        return
    assert found.keypoints.shape == (len(found), 136, 2)
    for array in (found.keypoints, found.visibility, found.boxes, found.file_boxes):
        assert np.isfinite(array).all()
    assert (found.visibility >= 0).all()
    assert not found.keypoints[found.visibility == 0].any()
    assert found.trainable().shape == (len(found),)


def test_missing_images_are_listed_and_stop_above_one_percent(tmp_path):
    """Fault 32."""
    images = [{"id": index, "file_name": f"{index}.jpg", "height": 100, "width": 120} for index in range(200)]
    people = [person(id=1000 + index, image_id=index) for index in range(200)]
    found = read(tmp_path, document(people, images=images))
    for index in range(198):
        (tmp_path / f"{index}.jpg").touch()
    assert missing_images(found).tolist() == [198, 199]
    assert without_missing_images(found).person_ids.tolist() == list(range(1000, 1198))
    for index in range(30):
        (tmp_path / f"{index}.jpg").unlink()
    with pytest.raises(AnnotationError) as error:
        without_missing_images(found)
    lines = str(error.value).splitlines()
    assert "32 of 200 images are missing" in lines[0]
    assert len(lines) == 22
    assert str(tmp_path / "0.jpg") in lines[1]
    assert lines[-1].strip() == "... and 12 more"


def test_names_too_long_for_the_disk_are_missing(tmp_path):
    images = [{"id": 1, "file_name": "data:image/jpeg;base64," + "A" * 5000, "height": 100, "width": 120}]
    assert missing_images(read(tmp_path, document(images=images))).tolist() == [0]


def test_golden_ground_truth(golden):
    found = read_annotations(golden / "evaluate_fixture_gt.json")
    assert found.skeleton is HALPE136
    assert len(found) == 14
    assert found.trainable().sum() == 12
    assert not found.labelled[[18, 19]].any()  # the fixture labels neither neck nor mid hip
    assert read_annotations(golden / "evaluate_random_gt.json").skeleton is HALPE136


def test_boxes_only(tmp_path):
    """A detector's labels, of several categories and without keypoints, are read where boxes are asked for."""
    document = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 700, "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 9, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError):
        read_annotations(path)
    found = read_annotations(path, boxes_only=True)
    np.testing.assert_array_equal(found.file_boxes, [[1, 2, 31, 42]])
    assert not found.labelled.any()
