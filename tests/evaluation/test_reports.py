"""report.json holds what is promised, report.html loads nothing and shows it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up_people import annotation_set, results_of
from made_up_sets import write_set

from wholepose.data.annotations import read_annotations
from wholepose.evaluation.figure import FIGURE_SIZE, figure_points
from wholepose.evaluation.prediction import load_estimator
from wholepose.evaluation.report import Settings, report_document
from wholepose.evaluation.scoring import score
from wholepose.evaluation.workflow import evaluate_model, evaluate_results, write_reports
from wholepose.skeletons import HALPE136, SKELETONS

PARTS = ["whole", "body", "feet", "face", "left_hand", "right_hand"]
METRICS = {"pck_torso_0.2", "pck_box_0.2", "pck_head_0.5", "nme_interocular", "epe_px", "error_sigmas"}


def settings(**changes) -> Settings:
    fields = {"command": "wholepose evaluate <b>", "protocol": "default", "annotations": "set.json", "replicates": 20}
    return Settings(**(fields | changes))


def nothing_labelled_but_the_body():
    truth = np.random.default_rng(0).uniform(0, 100, (4, 136, 2))
    visible = np.zeros((4, 136))
    visible[:, :17] = 2
    annotations = annotation_set(truth, visible)
    return annotations, score(annotations, results_of(truth), replicates=20)


def test_the_document_holds_what_is_promised_and_null_where_nothing_is_labelled():
    document = report_document(*nothing_labelled_but_the_body(), settings(boxes="gt"))
    assert list(document["parts"]) == PARTS
    assert set(document["metrics"]) >= METRICS
    for part in document["parts"].values():
        assert set(part) >= {"AP", "AP50", "AP75", "APM", "APL", "AR", "n", "intervals"}
    assert document["parts"]["whole"]["AP"] == pytest.approx(1)
    assert document["parts"]["whole"]["intervals"]["AP"] == pytest.approx([1, 1])
    assert document["parts"]["face"] == {
        **dict.fromkeys(["AP", "AP50", "AP75", "APM", "APL", "AR"]),
        "n": 0,
        "intervals": dict.fromkeys(["AP", "AP50", "AP75", "AR"]),
    }
    assert document["metrics"]["nme_interocular"] is None
    assert document["metrics"]["pck_torso_0.2"] == 1
    assert (document["protocol"], document["boxes"]) == ("default", "gt")
    assert len(document["per_keypoint"]) == 136
    assert document["per_keypoint"][0]["name"] == "nose"
    assert document["per_keypoint"][100]["errors"] is None
    assert document["error_kinds"]["face"] is None
    assert sum(document["error_kinds"]["whole"].values()) == pytest.approx(1)
    json.dumps(document, allow_nan=False)


class Page(HTMLParser):
    """Collects what a page would load, and checks that tags close."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path, tiny_models):
    model = tiny_models.save_centroid_model(tmp_path / "model.onnx")
    annotations = read_annotations(write_set(tmp_path, tiny_models))
    evaluation = evaluate_model(
        load_estimator(model), annotations, settings(boxes="gt", model="<script>", suppression="hard")
    )
    write_reports(tmp_path / "out", evaluation)
    return tmp_path / "out"


def test_the_page_is_whole_and_loads_nothing(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("img") == 6  # three people: three worst and three median cases
    assert page.tags.count("svg") == 5
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.loads)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "NaN" not in text
    assert "&lt;script&gt;" in text


def test_its_results_file_gives_the_same_report(folder):
    document = json.loads((folder / "report.json").read_text())
    annotations = read_annotations(folder.parent / "set.json")
    again = evaluate_results(folder / "results.json", annotations, settings(results="results.json")).document
    assert again["parts"] == document["parts"]
    assert again["metrics"] == document["metrics"]
    assert again["calibration"] == document["calibration"]


def test_reports_without_people_found_or_pictures_are_whole_too(tmp_path):
    truth = np.random.default_rng(0).uniform(0, 100, (2, 136, 2))
    annotations = annotation_set(truth, np.zeros((2, 136)), files=["none.jpg", "there.jpg"])
    scores = score(annotations, results_of(truth), replicates=5)
    document = report_document(annotations, scores, settings())
    assert document["parts"]["whole"]["AP"] is None
    assert document["calibration"]["brier"] is None
    from wholepose.evaluation.cases import choose_cases
    from wholepose.evaluation.page import report_page

    page = Page()
    page.feed(report_page(document, scores, HALPE136, *choose_cases(annotations, results_of(truth), scores)))
    assert page.open == []


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_every_skeleton_has_places_inside_the_figure(skeleton):
    points, known = figure_points(skeleton)
    assert points.shape == (skeleton.num_keypoints, 2)
    assert ((points[known] > 0) & (points[known] < FIGURE_SIZE[::-1])).all()
    if skeleton is HALPE136:
        assert known.all()
        # Nobody's left is on the person's right, and mirrored keypoints mirror each other.
        middle = FIGURE_SIZE[1] / 2
        for part in ("body", "feet"):
            indices = np.array(HALPE136.parts[part])
            mirrored = points[HALPE136.flip_indices[indices]]
            np.testing.assert_allclose(points[indices][:, 0] - middle, middle - mirrored[:, 0], atol=1e-9)
        for part in ("face", "left_hand"):
            assert len(np.unique(points[list(HALPE136.parts[part])], axis=0)) == len(HALPE136.parts[part])
