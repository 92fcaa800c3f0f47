"""wholepose evaluate from its words to its table, files, messages and exit codes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from wholepose.cli.main import main


def _sets():
    path = Path(__file__).parent.parent / "evaluation" / "made_up_sets.py"
    spec = importlib.util.spec_from_file_location("made_up_sets", path)
    module = sys.modules.setdefault("made_up_sets", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made(tmp_path, tiny_models):
    """Folder with set.json, its pictures, boxes.json and model.onnx."""
    sets = _sets()
    sets.write_boxes(tmp_path, sets.write_set(tmp_path, tiny_models))
    tiny_models.save_centroid_model(tmp_path / "model.onnx")
    return tmp_path


def evaluate(*words) -> int:
    return main(["evaluate", *map(str, words)])


@pytest.mark.parametrize("boxes", [["--boxes", "gt"], ["--boxes", "{}/boxes.json"], []])
def test_a_model_gives_a_table_and_reports(made, capsys, boxes):
    words = [word.format(made) for word in boxes]
    out = made / "out"
    code = evaluate(
        *("--model", made / "model.onnx", "--data", made / "set.json", "--images", made),
        *("--out", out, "--bootstrap", 50, "--threads", 1, *words),
    )
    said = capsys.readouterr()
    assert code == 0
    assert said.out.splitlines()[1].split()[:2] == ["whole", "1.000"]
    document = json.loads((out / "report.json").read_text())
    assert document["boxes"] == (words[1] if words else "gt")
    assert document["command"].startswith("wholepose ")
    assert len(document["model_sha256"]) == 64
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html", "results.json"}
    assert len(json.loads((out / "results.json").read_text())) == 3


def test_the_report_says_whether_faces_and_hands_were_looked_at_again(made):
    words = ["--data", made / "set.json", "--images", made, "--bootstrap", 0, "--threads", 1]
    for zoom in (False, True):
        assert evaluate("--model", "default", *words, "--out", made / "out", *["--zoom"] * zoom) == 0
        assert json.loads((made / "out/report.json").read_text())["zoom"] is zoom


def test_boxes_below_a_threshold_are_left_out(made):
    boxes = json.loads((made / "boxes.json").read_text())
    for number, box in enumerate(boxes):
        box["score"] = 0.2 if number == 0 else 0.9
    (made / "boxes.json").write_text(json.dumps(boxes))
    words = ["--model", made / "model.onnx", "--data", made / "set.json", "--bootstrap", 0, "--threads", 1]
    for threshold, count in (([], 3), (["--threshold", 0.5], 2)):
        assert evaluate(*words, "--boxes", made / "boxes.json", "--out", made / "out", *threshold) == 0
        assert len(json.loads((made / "out/results.json").read_text())) == count
    said = json.loads((made / "out/report.json").read_text())["boxes"]
    assert said == f"{made / 'boxes.json'}, scores from 0.5 on"


@pytest.mark.parametrize("task", [["--task", "boxes"], ["--model", "{}/model.onnx", "--threads", 1]])
def test_a_file_of_boxes_may_cover_more_images_than_the_annotations(made, capsys, task):
    """Those on other images are left out and counted, as in a file of results."""
    document = json.loads((made / "set.json").read_text())
    part = {**document, "images": document["images"][:2], "annotations": document["annotations"][:2]}
    (made / "part.json").write_text(json.dumps(part))
    words = ["--data", made / "part.json", "--boxes", made / "boxes.json", "--bootstrap", 0]
    words += [str(word).format(made) for word in task]
    assert evaluate(*words) == 0
    said = capsys.readouterr()
    assert "boxes.json: 1 of 3 boxes are on images that" in said.err
    assert "1.000" in said.out
    assert evaluate(*words, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_detectors_doubtful_boxes_count_unless_a_threshold_is_given(made, monkeypatch):
    asked = []

    def load_detector(spec, *, threshold, **options):
        asked.append((spec, threshold))
        return load(made / "boxes.json", images=made / "set.json")

    import wholepose.detectors

    load = wholepose.detectors.load_detector
    monkeypatch.setattr(wholepose.detectors, "load_detector", load_detector)
    words = ["--model", made / "model.onnx", "--data", made / "set.json", "--bootstrap", 0, "--threads", 1]
    assert evaluate(*words, "--boxes", "detector", "--out", made / "out") == 0
    assert evaluate(*words, "--boxes", "detector", "--threshold", 0.4) == 0
    assert asked == [("default", 0.01), ("default", 0.4)]
    assert json.loads((made / "out/report.json").read_text())["boxes"] == "detector, the 20 best an image"


def test_a_results_file_gives_the_models_numbers(made, capsys):
    model = ["--model", made / "model.onnx", "--data", made / "set.json", "--bootstrap", 0]
    assert evaluate(*model, "--out", made / "out", "--threads", 1) == 0
    table = capsys.readouterr().out
    assert evaluate("--results", made / "out/results.json", "--data", made / "set.json", "--bootstrap", 0) == 0
    assert capsys.readouterr().out == table


def test_why_a_result_would_be_nothing_is_said_with_exit_1(made, capsys):
    document = json.loads((made / "set.json").read_text())
    for person in document["annotations"]:
        del person["area"]
    (made / "noarea.json").write_text(json.dumps(document))
    words = ["--model", made / "model.onnx", "--images", made, "--bootstrap", 0, "--threads", 1]
    assert evaluate(*words, "--data", made / "noarea.json") == 1
    said = capsys.readouterr()
    assert "no 'area'" in said.err
    assert said.out == ""
    assert evaluate(*words, "--data", made / "noarea.json", "--area-from-boxes") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["whole", "1.000"]

    (made / "results.json").write_text(
        json.dumps([{"image_id": 5, "category_id": 1, "keypoints": [1.0] * 408, "score": 1.0}])
    )
    assert evaluate("--results", made / "results.json", "--data", made / "set.json") == 1
    assert "none of its 1 detections is on an image" in capsys.readouterr().err


def test_an_unreadable_picture_is_listed_with_exit_1(made, capsys):
    (made / "2.png").write_bytes(b"no picture")
    assert evaluate("--model", made / "model.onnx", "--data", made / "set.json", "--threads", 1) == 1
    said = capsys.readouterr()
    assert "2.png" in said.err
    assert said.out.splitlines()[1].startswith("whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--data"),
        (["--data", "x.json"], "one of --model"),
        (["--data", "x.json", "--model", "m", "--results", "r"], "one of --model"),
        (["--data", "x.json", "--results", "r", "--boxes", "gt"], "--boxes is about running a model"),
        (["--data", "x.json", "--results", "r", "--flip-test"], "--flip-test is about running a model"),
        (["--data", "x.json", "--results", "r", "--zoom"], "--zoom is about running a model"),
        (["--data", "x.json", "--task", "boxes", "--zoom"], "--zoom is about keypoints"),
        (["--data", "x.json", "--model", "m", "--threshold", "0.5"], "--threshold is about detected boxes"),
        (["--data", "x.json", "--model", "m", "--bootstrap", "-1"], "whole number"),
        (["--data", "x.json", "--model", "m", "--protocol", "old"], "invalid choice"),
    ],
)
def test_bad_usage_exits_2_and_says_why(capsys, words, message):
    assert evaluate(*words) == 2
    assert message in capsys.readouterr().err


def test_a_missing_annotation_file_is_named(capsys, tmp_path):
    (tmp_path / "r.json").write_text("[]")
    assert evaluate("--results", tmp_path / "r.json", "--data", tmp_path / "absent.json") == 1
    assert "absent.json" in capsys.readouterr().err


def test_the_default_model_scores_on_halpe_photos(shared, capsys):
    """Only that it runs end to end on real photos with the model inside the package; benchmarks hold its numbers."""
    from wholepose.weights import embedded_models

    if "default" not in embedded_models():
        pytest.skip("no model is embedded in this build")
    data = shared / "data" / "halpe_fixture"
    words = ["--model", "default", "--data", data / "test_halpe.json", "--bootstrap", 0, "--threads", 2]
    assert evaluate(*words, "--boxes", data / "test_coco_det_AP_H_56.json") == 0
    whole = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("whole"))
    assert whole.split()[-1] == "12"
