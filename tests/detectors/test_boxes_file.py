"""Boxes files: COCO results and CSV."""

import json
from pathlib import Path

import numpy as np
import pytest

from wholepose.detectors import detect_people, load_detector
from wholepose.detectors.boxes_file import BoxesFileDetector
from wholepose.errors import AnnotationError, ConfigError

IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def row(**changes: object) -> dict[str, object]:
    return {"image_id": 785, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5, **changes}


def look_up(detector: BoxesFileDetector, name: str) -> list[list[float]]:
    return detector.detect_named([name], [IMAGE])[0].boxes.tolist()


def test_coco_results_are_found_by_number_and_only_people_count(tmp_path: Path) -> None:
    path = write(
        tmp_path / "boxes.json",
        [row(), row(score=0.9, bbox=[1, 2, 3, 4]), row(category_id=2), row(image_id=7), row(score=0.2)],
    )
    detector = BoxesFileDetector(path, threshold=0.3)
    for name in ("000000000785.jpg", "photos/785.png", "COCO_val2014_000000000785.jpg"):
        (found,) = detector.detect_named([name], [IMAGE])
        assert found.boxes.tolist() == [[1, 2, 4, 6], [10, 20, 40, 60]]
        np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert [len(found) for found in detector.detect_named(["7.jpg", "8.jpg", "x785.jpg"], [IMAGE] * 3)] == [1, 0, 0]


def test_file_names_and_an_image_list_say_which_image_is_meant(tmp_path: Path) -> None:
    named = BoxesFileDetector(write(tmp_path / "named.json", [row(file_name="a/photo.jpg"), row(image_id="other.v2")]))
    assert look_up(named, "/data/a/photo.jpg") == look_up(named, "photo.jpg") == [[10, 20, 40, 60]]
    assert look_up(named, "/data/b/photo.jpg") == look_up(named, "a/photo.png") == []
    assert look_up(named, "x/other.v2.jpg") == look_up(named, "other.v2") == [[10, 20, 40, 60]]
    images = write(tmp_path / "images.json", {"images": [{"id": 785, "file_name": "cats.jpg"}]})
    listed = load_detector(str(write(tmp_path / "ids.json", [row()])), images=images)
    assert len(detect_people(listed, [IMAGE], ["cats.jpg"])[0]) == 1
    assert len(detect_people(listed, [IMAGE], ["785.jpg"])[0]) == 0


def test_a_name_that_fits_several_images_is_an_error(tmp_path: Path) -> None:
    detector = BoxesFileDetector(write(tmp_path / "b.json", [row(file_name="a/1.jpg"), row(file_name="b/1.jpg")]))
    with pytest.raises(AnnotationError, match=r"b\.json.*'1\.jpg' could be any of \['a/1\.jpg', 'b/1\.jpg'\]"):
        detector.detect_named(["1.jpg"], [IMAGE])
    assert len(detector.detect_named(["b/1.jpg"], [IMAGE])[0]) == 1


def test_equal_names_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    """As sets of several cameras have them; an image without boxes gets none of its namesake's."""
    files = {1: "0001.jpg", 2: "cam1/0001.jpg", 3: "cam2/0001.jpg"}
    listed = {"images": [{"id": key, "file_name": name} for key, name in files.items()]}
    images = write(tmp_path / "images.json", listed)
    boxes = write(tmp_path / "ids.json", [row(image_id=1), row(image_id=2, bbox=[1, 2, 3, 4])])
    for detector in (
        BoxesFileDetector(boxes, images=images),
        BoxesFileDetector(boxes, images=images, threshold=0.5),
        BoxesFileDetector(write(tmp_path / "b.csv", "file,x1,y1,x2,y2\n1.jpg,10,20,40,60\ncam1/1.jpg,1,2,4,6\n")),
    ):
        stem = "1" if detector.name == "b.csv" else "0001"
        assert look_up(detector, f"set/{stem}.jpg") == [[10, 20, 40, 60]]
        assert look_up(detector, f"set/cam1/{stem}.jpg") == [[1, 2, 4, 6]]
    assert look_up(BoxesFileDetector(boxes, images=images), "set/cam2/0001.jpg") == []
    assert look_up(BoxesFileDetector(boxes, images=images, threshold=0.6), "set/cam1/0001.jpg") == []
    mixed = BoxesFileDetector(write(tmp_path / "mixed.json", [row(image_id=1), row(file_name="cam1/0001.jpg")]))
    assert [len(look_up(mixed, name)) for name in ("set/0001.jpg", "set/cam1/0001.jpg")] == [1, 1]


def test_ids_as_pandas_writes_them(tmp_path: Path) -> None:
    images = write(tmp_path / "images.json", {"images": [{"id": 785.0, "file_name": "cats.jpg"}]})
    boxes = write(tmp_path / "boxes.json", [row(image_id=785.0, category_id=1.0), row(category_id=2.0)])
    assert len(look_up(BoxesFileDetector(boxes), "785.jpg")) == 1
    assert len(look_up(BoxesFileDetector(boxes, images=images), "cats.jpg")) == 1


def test_boxes_on_other_images_are_left_out(tmp_path: Path) -> None:
    """A detector's results for a whole set go with annotations of a part of it."""
    images = write(tmp_path / "images.json", {"images": [{"id": 785, "file_name": "cats.jpg"}]})
    boxes = write(tmp_path / "boxes.json", [row(), row(image_id=3), row(image_id="x")])
    with pytest.warns(UserWarning, match=r"boxes\.json: 2 of 3 boxes are on images that .*images\.json does not hold"):
        detector = BoxesFileDetector(boxes, images=images)
    assert look_up(detector, "cats.jpg") == [[10, 20, 40, 60]]
    with pytest.raises(AnnotationError, match=r"boxes\.json: none of its 3 boxes is on an image of .*empty\.json"):
        BoxesFileDetector(boxes, images=write(tmp_path / "empty.json", {"images": []}))


def test_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.csv", '\ufefffile,x1,y1,x2,y2,score\n"a, b.jpg",1,2,3.5,4,.25\r\n\n"a, b.jpg",0,0,9,9,1\n'
    )
    (found,) = load_detector(path).detect_named(["/x/a, b.jpg"], [IMAGE])  # type: ignore[attr-defined]
    assert found.boxes.tolist() == [[0, 0, 9, 9], [1, 2, 3.5, 4]]
    assert found.scores.tolist() == [1, 0.25]
    short = BoxesFileDetector(write(tmp_path / "c.csv", "File, x1, y1, x2, y2\n1.jpg,-5,0,9,9\n"))
    assert look_up(short, "1.jpg") == [[-5, 0, 9, 9]]
    assert (
        len(BoxesFileDetector(write(tmp_path / "d.csv", "file,x1,y1,x2,y2\n")).detect_named(["1.jpg"], [IMAGE])[0]) == 0
    )


def test_images_without_names_are_refused(tmp_path: Path) -> None:
    detector = BoxesFileDetector(write(tmp_path / "boxes.json", [row()]))
    assert detector.detect([]) == []
    with pytest.raises(ConfigError, match="names of the images"):
        detect_people(detector, [IMAGE])
    with pytest.raises(ValueError, match="1 names for 2 images"):
        detect_people(detector, [IMAGE, IMAGE], ["1.jpg"])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ({"images": []}, "are a list of rows, not dict"),
        ([row(), 3], "row 1 is not an object"),
        ([row(category_id="person")], "row 0, field 'category_id'.*'person'"),
        ([row(bbox=[1, 2, 3])], "row 0, field 'bbox': four numbers"),
        ([row(bbox=[1, 2, 3, "w"])], "row 0, field 'bbox': a number .*'w'"),
        ([row(bbox=[1, 2, 3, 1e30])], "row 0, field 'bbox'.*1e"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, NaN]}]', "row 0, field 'bbox'.*nan"),
        ([row(bbox=[1, 2, 0, 4])], "row 0, field 'bbox': width and height must be above 0"),
        ([row(bbox=[1, 2, True, 4])], "row 0, field 'bbox'.*True"),
        ([row(score=1.5)], "row 0, field 'score': must be between 0 and 1"),
        ([row(score=None)], "row 0, field 'score'.*None"),
        ([row(image_id=None)], "row 0, field 'image_id'.*None"),
        ([row(image_id=1.5)], "row 0, field 'image_id'.*1.5"),
        ([row(file_name="")], "row 0, field 'file_name'"),
    ],
)
def test_malformed_json_names_file_row_and_field(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(AnnotationError, match=rf"boxes\.json: .*{message}"):
        BoxesFileDetector(write(tmp_path / "boxes.json", document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must be"),
        ("file,x,y,w,h\n", "first line must be"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,3\n", "line 2: 5 fields are needed, not 4"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,3,four\n", "line 2, field 'y2'.*four"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,nan,4\n", "line 2, field 'x2'.*nan"),
        ("file,x1,y1,x2,y2\n,1,2,3,4\n", "line 2, field 'file': is empty"),
        ("file,x1,y1,x2,y2\na.jpg,5,2,3,4\n", "line 2: x2 must be above x1"),
        ("file,x1,y1,x2,y2,score\na.jpg,1,2,3,4,-1\n", "line 2, field 'score'"),
        ('file,x1,y1,x2,y2\n"a.jpg,1,2,3,4\n', "line 2: is not CSV"),
    ],
)
def test_malformed_csv_names_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=rf"boxes\.csv: .*{message}"):
        BoxesFileDetector(write(tmp_path / "boxes.csv", text))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"missing\.json: cannot be read"):
        BoxesFileDetector(tmp_path / "missing.json")
    (tmp_path / "latin.csv").write_bytes("file,x1,y1,x2,y2\nä".encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"latin\.csv: is not UTF-8"):
        BoxesFileDetector(tmp_path / "latin.csv")
    boxes = write(tmp_path / "boxes.json", [row()])
    with pytest.raises(AnnotationError, match=r"images\.json: has no list 'images'"):
        BoxesFileDetector(boxes, images=write(tmp_path / "images.json", {"a": 1}))
    with pytest.raises(AnnotationError, match=r"images\[0\], field 'file_name'"):
        BoxesFileDetector(boxes, images=write(tmp_path / "bad.json", {"images": [{"id": 1}]}))


def test_the_fixture_of_halpe(shared: Path) -> None:
    folder = shared / "data" / "halpe_fixture"
    source = json.loads((folder / "test_coco_det_AP_H_56.json").read_text())
    detector = BoxesFileDetector(folder / "test_coco_det_AP_H_56.json")
    names = ["000000000785.jpg", "000000040083.jpg", "000000196141.jpg", "000000197388.jpg"]
    found = detector.detect_named([str(folder / name) for name in names], [IMAGE] * 4)
    assert sum(map(len, found)) == len(source) == 118
    x, y, width, height = source[0]["bbox"]
    np.testing.assert_allclose(found[0].boxes[0], [x, y, x + width, y + height], rtol=1e-6)


@pytest.mark.parametrize("spec", ["yolo", "rtdet", "boxes.txt"])
def test_unknown_detectors_are_named(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown detector '{spec}'"):
        load_detector(spec)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="threshold must be between 0 and 1, not 2"):
        load_detector("boxes.json", threshold=2)
    with pytest.raises(ConfigError, match="image list only goes with"):
        load_detector("boxes.csv", images="images.json")
    with pytest.raises(ConfigError, match="input size can only"):
        load_detector("boxes.csv", input_size=320)
