"""wholepose reproduce halpe: missing files are listed, another checkpoint is refused, and the run goes end to end."""

import json

import pytest

from wholepose.cli.main import main
from wholepose.evaluation.halpe_row import CHECKPOINT


def reproduce(*words) -> int:
    return main(["reproduce", "halpe", *map(str, words)])


def test_missing_files_are_listed_with_where_from_and_where_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "cache"))
    assert reproduce("--root", tmp_path) == 1
    said = capsys.readouterr().err
    assert "4 of 4 official files are missing" in said
    for place in ("annotations/halpe_val_v1.json", "val2017", "COCO_val2017_detections_AP_H_56_person.json"):
        assert str(tmp_path) in said
        assert place in said
    assert CHECKPOINT.file_name in said
    assert "d13c2588" in said
    assert "http://images.cocodataset.org/zips/val2017.zip" in said
    (tmp_path / "halpe_val_v1.json").write_text("{}")
    assert reproduce("--root", tmp_path, "--checkpoint", tmp_path / "absent.pth") == 1
    said = capsys.readouterr().err
    assert "3 of 4 official files" in said
    assert "absent.pth" in said


@pytest.fixture
def root(shared, tmp_path):
    """The fixture's photos under the official names, and a checkpoint of MMPose's layout with random weights."""
    torch = pytest.importorskip("torch")
    from wholepose.models.posenet import build_model

    photos = shared / "data" / "halpe_fixture"
    folder = tmp_path / "halpe"
    (folder / "annotations").mkdir(parents=True)
    (folder / "person_detection_results").mkdir()
    (folder / "val2017").symlink_to(photos)
    (folder / "annotations" / "halpe_val_v1.json").symlink_to(photos / "test_halpe.json")
    boxes = json.loads((photos / "test_coco_det_AP_H_56.json").read_text())
    best = sorted(boxes, key=lambda box: -box["score"])[:2]  # a random model on 118 people would take minutes
    (folder / "person_detection_results" / "COCO_val2017_detections_AP_H_56_person.json").write_text(json.dumps(best))
    torch.manual_seed(0)
    state = build_model("hrnet_w16_slim", 136).state_dict()
    renamed = {key.replace("head.final", "keypoint_head.final"): value for key, value in state.items()}
    torch.save({"meta": {"epoch": 210}, "state_dict": renamed}, folder / "stand_in_384x288.pth")
    return folder


def test_another_checkpoint_is_refused_unless_allowed(root, capsys):
    assert reproduce("--root", root, "--checkpoint", root / "stand_in_384x288.pth") == 1
    said = capsys.readouterr().err
    assert "not the official checkpoint's, d13c2588" in said
    assert "--allow-other-checkpoint" in said


def test_the_row_runs_end_to_end_with_a_stand_in(root, capsys, tmp_path):
    words = ["--checkpoint", root / "stand_in_384x288.pth", "--allow-other-checkpoint", "--threads", 1]
    assert reproduce("--root", root, *words, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "not the published model's" in said.err
    assert "do not compare with the published ones" in said.err
    lines = [line.split() for line in said.out.splitlines()[-5:]]
    assert lines[1][-2:] == ["0.531", "0.642"]
    assert lines[2][-2:] == ["0.527", "0.620"]
    assert [line[2] for line in lines[3:]] == ["mmpose0", "default"]
    for protocol in ("mmpose0", "default"):
        document = json.loads((tmp_path / "out" / protocol / "report.json").read_text())
        assert document["protocol"] == protocol
        assert document["flip_test"] is True
        assert document["parts"]["whole"]["n"] == 12
        assert document["counts"]["detections"] == 2
