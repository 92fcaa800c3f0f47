"""`wholepose data check` from the outside."""

import json

import pytest
from PIL import Image

from wholepose.cli.main import main
from wholepose.skeletons import COCO17


@pytest.fixture
def annotation_file(tmp_path):
    Image.new("RGB", (60, 40), (90, 120, 60)).save(tmp_path / "a.png")
    row = {"id": 1, "image_id": 0, "category_id": 1, "keypoints": [5, 6, 2] * 17, "bbox": [1, 1, 30, 30], "area": 500}
    images = [{"id": 0, "file_name": "a.png", "height": 40, "width": 60}]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": [row], "categories": [category]}))
    return path


def test_check_prints_and_writes_a_report(annotation_file, tmp_path, capsys):
    assert main(["data", "check", str(annotation_file), "--out", str(tmp_path / "out" / "deep")]) == 0
    captured = capsys.readouterr()
    assert "1, of them 1 to train on" in captured.out
    assert captured.err == ""
    report = json.loads((tmp_path / "out" / "deep" / "report.json").read_text())
    assert report["trainable"] == 1
    assert report["problems"] == []
    with Image.open(tmp_path / "out" / "deep" / "contact_sheet.png") as sheet:
        assert sheet.size == (196, 276)


def test_check_lists_problems_on_stderr(annotation_file, tmp_path, capsys):
    """Faults 31 and 32."""
    assert main(["data", "check", str(annotation_file), "--images", str(tmp_path / "elsewhere")]) == 1
    captured = capsys.readouterr()
    assert f"{tmp_path / 'elsewhere' / 'a.png'}: missing" in captured.err
    document = json.loads(annotation_file.read_text())
    document["annotations"][0]["keypoints"].pop()
    annotation_file.write_text(json.dumps(document))
    assert main(["data", "check", str(annotation_file)]) == 1
    assert "annotation 0 (id 1): keypoints: holds 50 values, expected 51" in capsys.readouterr().err


def test_many_problems_are_cut_short(annotation_file, capsys):
    document = json.loads(annotation_file.read_text())
    image = document["images"][0]
    document["images"] += [{**image, "id": index, "file_name": f"{index}.png"} for index in range(1, 31)]
    annotation_file.write_text(json.dumps(document))
    assert main(["data", "check", str(annotation_file)]) == 1
    captured = capsys.readouterr()
    assert "... and 10 more; --out DIR writes all" in captured.err
    assert len(captured.err.splitlines()) == 22


@pytest.mark.parametrize("words", [[], ["look"], ["check"], ["prepare", "coco"], ["prepare", "mpii", "--root", "x"]])
def test_bad_usage(words):
    assert main(["data", *words]) == 2
