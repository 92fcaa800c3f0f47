"""AP and AR equal those of the reference (MMPose 0.29 with xtcocotools) on the same predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from wholepose.data.annotations import read_annotations
from wholepose.evaluation.results import Results, read_results, rescore, suppress, write_results
from wholepose.evaluation.scoring import score

NAMES = {
    "AP": "AP",
    "AP .5": "AP50",
    "AP .75": "AP75",
    "AP (M)": "APM",
    "AP (L)": "APL",
    "AR": "AR",
    "AR .5": "AR50",
    "AR .75": "AR75",
    "AR (M)": "ARM",
    "AR (L)": "ARL",
}


@pytest.fixture(params=["fixture", "random"])
def case(request, golden: Path):
    """Annotations, raw detections and expected numbers."""
    stem = golden / f"evaluate_{request.param}"
    annotations = read_annotations(f"{stem}_gt.json")
    predictions = np.load(f"{stem}.npz", allow_pickle=False)["predictions"].astype(np.float64)
    detections = json.loads(Path(f"{stem}_detections.json").read_text())
    starts_and_sides = np.array([detection["bbox"] for detection in detections])
    raw = Results(
        skeleton=annotations.skeleton,
        provided=np.ones(136, dtype=bool),
        image_ids=np.array([detection["image_id"] for detection in detections]),
        keypoints=predictions[..., :2],
        keypoint_scores=predictions[..., 2],
        scores=rescore(predictions[..., 2], np.array([detection["score"] for detection in detections])),
        boxes=np.c_[starts_and_sides[:, :2], starts_and_sides[:, :2] + starts_and_sides[:, 2:]],
    )
    return annotations, raw, json.loads(Path(f"{stem}_expected.json").read_text())


def test_rescoring_suppression_and_ap_equal_the_reference(case):
    annotations, raw, expected = case
    kept = suppress(raw, np.arange(136))
    assert len(kept) == expected["instances_after_nms"]
    found = score(annotations, kept, replicates=0).parts["whole"].statistics
    for theirs, ours in NAMES.items():
        assert found[ours] == pytest.approx(expected[theirs], abs=1e-4), theirs


def test_a_written_results_file_gives_the_same(case, tmp_path):
    annotations, raw, expected = case
    write_results(tmp_path / "results.json", suppress(raw, np.arange(136)))
    found = score(annotations, read_results(tmp_path / "results.json", annotations), replicates=0)
    assert found.parts["whole"].statistics["AP"] == pytest.approx(expected["AP"], abs=1e-4)
    assert found.detections == expected["instances_after_nms"]
