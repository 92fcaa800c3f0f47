"""Boxes are scored as pycocotools scores them, and the reports say what was found (fault 33)."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wholepose.cli.main import main
from wholepose.data.annotations import read_annotations
from wholepose.evaluation.arrangement import arrange
from wholepose.evaluation.bootstrap import average_precision_samples
from wholepose.evaluation.boxes import BOX_STATISTICS, MAX_DETECTIONS, FoundBoxes, _overlaps, score_boxes
from wholepose.evaluation.coco_ap import RECALLS, THRESHOLDS
from wholepose.evaluation.matching import match
from wholepose.images import save_image

pytest.importorskip("faster_coco_eval", reason="needs the extra: pip install 'wholepose[train]'")


def random_boxes(random, count):
    corner = random.uniform(-20, 500, (count, 2))
    return np.concatenate([corner, corner + np.exp(random.uniform(2, 5.5, (count, 2)))], axis=1)


def made_up(seed, *, crowds, empty, found):
    """A COCO document, and detections: some near the labels, some anywhere, many of one score."""
    random = np.random.default_rng(seed)
    images = [{"id": 7 * row + 3, "file_name": f"{row}.jpg", "height": 600, "width": 800} for row in range(6)]
    people, rows, boxes = [], [], []
    for row, image in enumerate(images):
        labelled = random_boxes(random, 0 if random.random() < empty else random.integers(1, 9))
        for box in labelled:
            x1, y1, x2, y2 = box.tolist()
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float((x2 - x1) * (y2 - y1) * random.uniform(0.4, 0.9)),
                    "iscrowd": int(random.random() < crowds),
                }
            )
        near = labelled + random.normal(scale=6, size=labelled.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        both = np.concatenate([near, near + 1, random_boxes(random, 4)])
        both = both[random.random(len(both)) < found]
        boxes.append(both)
        rows.append(np.full(len(both), row))
    boxes = np.concatenate(boxes)
    document = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    scores = random.permutation(len(boxes)) / max(len(boxes), 1)
    return document, FoundBoxes(np.concatenate(rows).astype(np.int64), boxes, scores, [])


def pycocotools_statistics(document, found):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = COCO(), COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        entries = [
            {
                "id": number,
                "image_id": document["images"][row]["id"],
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "score": score,
            }
            for number, (row, (x1, y1, x2, y2), score) in enumerate(
                zip(found.image_rows, found.boxes.tolist(), found.scores.tolist(), strict=True), 1
            )
        ]
        results.dataset = document | {"annotations": entries}
        results.createIndex()
        evaluator = COCOeval(truth, results, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: None if value < 0 else value for name, value in zip(BOX_STATISTICS, evaluator.stats, strict=True)}


def read(document, folder):
    path = folder / "truth.json"
    path.write_text(json.dumps(document))
    return read_annotations(path, boxes_only=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    crowds=st.sampled_from([0.0, 0.3, 1.0]),
    empty=st.sampled_from([0.0, 0.4]),
    found=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_equals_pycocotools(tmp_path, seed, crowds, empty, found):
    """Crowds, images without people, nothing found; and what the intervals draw from is the same assignment."""
    document, boxes = made_up(seed, crowds=crowds, empty=empty, found=found)
    if not document["annotations"]:
        return
    annotations = read(document, tmp_path)
    scores = score_boxes(annotations, boxes, replicates=0)
    actual = {name: figure.value for name, figure in scores.statistics.items()}
    assert actual == pytest.approx(pycocotools_statistics(document, boxes), abs=1e-6)
    if scores.people:
        arrangement = arrange(6, annotations.image_rows, boxes.image_rows, boxes.scores, max_detections=MAX_DETECTIONS)
        overlap = _overlaps(arrangement, boxes.boxes, annotations.file_boxes, annotations.crowds)
        matches = match(arrangement, overlap, annotations.crowds, annotations.crowds, THRESHOLDS)
        once = np.ones((1, 6), np.uint16)
        precision, recall = average_precision_samples(
            arrangement, matches, boxes.scores, annotations.crowds, RECALLS, once
        )
        assert precision.mean() == pytest.approx(actual["AP"], abs=1e-6)
        assert recall.mean() == pytest.approx(actual["AR"], abs=1e-6)


def test_at_a_threshold(tmp_path):
    """Counted by hand: one found, one found twice, one missed, one in a crowd; two where nobody is."""
    people = [[0, 0, 100, 100], [200, 0, 100, 100], [400, 0, 100, 100], [600, 0, 200, 600]]
    document = {
        "images": [{"id": row, "file_name": f"{row}.jpg", "height": 600, "width": 800} for row in (1, 2, 3)],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(number == 4),
            }
            for number, box in enumerate(people, 1)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    boxes = np.array(
        [[0, 0, 100, 90], [200, 0, 300, 100], [201, 0, 300, 99], [400, 0, 500, 100], [610, 0, 700, 100]]
        + [[0, 0, 50, 50]] * 3,
        dtype=float,
    )
    rows, values = np.array([0, 0, 0, 0, 0, 1, 1, 2]), np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.9, 0.5, 0.4])
    scores = score_boxes(read(document, tmp_path), FoundBoxes(rows, boxes, values, []), threshold=0.5)
    found = {name: figure.value for name, figure in scores.at_threshold.items()}
    assert found == pytest.approx({"recall": 2 / 3, "precision": 2 / 5, "false_positives": 2 / 2})
    low, high = scores.at_threshold["false_positives"].interval
    assert low == 0
    assert high == 2
    assert scores.statistics["AP"].interval is not None
    assert (scores.people, scores.empty_images, scores.detections) == (3, 2, 8)
    nobody = score_boxes(
        read(document | {"annotations": []}, tmp_path), FoundBoxes(rows, boxes, values, []), threshold=0
    )
    assert {name: figure.value for name, figure in nobody.at_threshold.items()} == {
        "recall": None,
        "precision": None,
        "false_positives": pytest.approx(8 / 3),
    }
    assert all(figure.value is None for figure in nobody.statistics.values())


@pytest.fixture
def photos(tmp_path):
    document, found = made_up(4, crowds=0.0, empty=0.4, found=1.0)
    for image in document["images"]:
        save_image(tmp_path / image["file_name"], np.full((600, 800, 3), 90, np.uint8))
    (tmp_path / "truth.json").write_text(json.dumps(document))
    entries = [
        {
            "image_id": document["images"][row]["id"],
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for row, (x1, y1, x2, y2), score in zip(
            found.image_rows, found.boxes.tolist(), found.scores.tolist(), strict=True
        )
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    return tmp_path, document, found


def test_command_with_a_file(photos, capsys):
    folder, document, found = photos
    words = ["evaluate", "--task", "boxes", "--data", str(folder / "truth.json"), "--bootstrap", "50"]
    code = main([*words, "--boxes", str(folder / "boxes.json"), "--threshold", "0.5", "--out", str(folder / "report")])
    out, err = capsys.readouterr()
    assert code == 0, err
    report = json.loads((folder / "report" / "report.json").read_text())
    expected = pycocotools_statistics(document, found)
    assert {name: entry["value"] for name, entry in report["statistics"].items()} == pytest.approx(expected, abs=1e-4)
    assert report["at_threshold"]["false_positives"]["value"] > 0
    assert report["threshold"] == 0.5
    assert f"{expected['AP50']:.3f}" in out
    page = (folder / "report" / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    code = main([*words, "--boxes", str(folder / "report" / "boxes.json"), "--quiet"])  # what it wrote says the same
    assert code == 0
    assert f"{expected['AP50']:.3f}" in capsys.readouterr().out


def test_command_with_the_detector(photos, capsys):
    """Its own threshold tells what it makes up on gray pictures; a picture that cannot be read is listed."""
    folder, document, _ = photos
    (folder / document["images"][0]["file_name"]).write_bytes(b"no picture")
    words = ["evaluate", "--task", "boxes", "--data", str(folder / "truth.json"), "--bootstrap", "0", "--threads", "1"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "0.jpg" in err
    assert "false_positives" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "boxes", "--model", "default"), "--model is about keypoints; --task boxes takes --boxes"),
        (("--task", "boxes", "--boxes", "gt"), "score the labels against themselves"),
        (("--model", "default", "--threshold", "0.3"), "--threshold is about detected boxes"),
    ],
)
def test_contradictions(capsys, words, message):
    assert main(["evaluate", "--data", "truth.json", *words]) == 2
    assert message in capsys.readouterr().err
