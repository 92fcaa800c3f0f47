"""Models run over annotated images: whose boxes, which scores, which protocol."""

import json

import numpy as np
import pytest
from made_up_sets import CENTERS, write_boxes, write_set

from wholepose.data.annotations import read_annotations
from wholepose.detectors import load_detector
from wholepose.detectors.base import make_detections
from wholepose.errors import AnnotationError, ConfigError
from wholepose.evaluation.prediction import load_estimator, predict_people, provided_keypoints
from wholepose.evaluation.report import Settings
from wholepose.evaluation.workflow import evaluate_model, evaluate_results, write_reports


@pytest.fixture
def model(tmp_path, tiny_models):
    return tiny_models.save_centroid_model(tmp_path / "model.onnx")


def settings(**changes) -> Settings:
    return Settings(command="", protocol="default", annotations="set.json", suppression="hard", **changes)


def test_labelled_boxes_give_each_person_their_own_detection(tmp_path, tiny_models, model):
    annotations = read_annotations(write_set(tmp_path, tiny_models))
    done = []
    predicted = predict_people(load_estimator(model), annotations, advance=done.append)
    assert sum(done) == len(CENTERS)
    assert predicted.failures == []
    assert predicted.results.labels.tolist() == [0, 1, 2]
    assert predicted.results.image_ids.tolist() == [10, 20, 30]
    np.testing.assert_allclose(predicted.results.keypoints, annotations.keypoints, atol=0.3)
    # The default protocol clips the peak of 1.2.
    np.testing.assert_allclose(predicted.results.scores, 1.0, atol=0.01)


def test_people_that_nobody_could_find_are_not_looked_for(tmp_path, tiny_models, model):
    document = json.loads(write_set(tmp_path, tiny_models).read_text())
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"][1]["keypoints"] = [0] * 408
    (tmp_path / "set.json").write_text(json.dumps(document))
    annotations = read_annotations(tmp_path / "set.json")
    assert predict_people(load_estimator(model), annotations).results.labels.tolist() == [2]


def test_boxes_from_a_file_bring_their_scores(tmp_path, tiny_models, model):
    path = write_set(tmp_path, tiny_models)
    detector = load_detector(str(write_boxes(tmp_path, path, score=0.5)), images=path)
    evaluation = evaluate_model(load_estimator(model), read_annotations(path), settings(), detector=detector)
    assert evaluation.ranked.labels is None
    np.testing.assert_allclose(evaluation.ranked.scores, 0.5, atol=0.01)
    assert evaluation.document["parts"]["whole"]["AP"] == pytest.approx(1)
    assert evaluation.document["counts"]["people_with_a_detection"] == 3


def test_of_a_detector_that_looks_as_many_people_count_as_coco_counts(tmp_path, tiny_models, model):
    class Many:
        name = "many"

        def detect(self, images):
            boxes = np.array([[10.0, 10, 60 + i, 110] for i in range(25)])
            return [make_detections(boxes, np.linspace(0.1, 0.9, 25), image.shape[:2], 0.0) for image in images]

    path = write_set(tmp_path, tiny_models)
    annotations = read_annotations(path)
    results = predict_people(load_estimator(model), annotations, Many()).results
    assert np.unique(results.image_ids, return_counts=True)[1].tolist() == [20] * len(annotations.image_ids)
    assert results.boxes[:, 2].min() == pytest.approx(65)  # the five with the lowest scores are narrower


def test_mmpose0_ranks_by_raw_peaks_and_the_flip_test_is_asked_for(tmp_path, tiny_models):
    model = tiny_models.save_centroid_model(tmp_path / "old.onnx", protocol="mmpose0")
    annotations = read_annotations(write_set(tmp_path, tiny_models))
    raw = predict_people(load_estimator(model, protocol="mmpose0"), annotations).results.scores
    np.testing.assert_allclose(raw, tiny_models.PEAK, atol=0.02)
    flipped = predict_people(load_estimator(model), annotations, flip_test=True).results.scores
    np.testing.assert_allclose(flipped, tiny_models.PEAK + 0.25, atol=0.02)


def test_a_graph_cannot_change_its_protocol(model):
    with pytest.raises(ConfigError, match=r"'default'.*safetensors"):
        load_estimator(model, protocol="mmpose0")


def test_torch_models_take_either_protocol(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from wholepose.models.checkpoints import save_model
    from wholepose.models.posenet import build_model
    from wholepose.weights import ModelCard

    torch.manual_seed(0)
    card = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(128, 96))
    save_model(tmp_path / "tiny.safetensors", build_model("hrnet_w16_slim", 136).eval(), card)
    for protocol in ("default", "mmpose0"):
        estimator = load_estimator(tmp_path / "tiny.safetensors", protocol=protocol, threads=1)
        assert estimator.runtime.card.protocol == protocol
        assert len(estimator.predict(np.zeros((50, 50, 3), np.uint8), boxes=[[5, 5, 40, 45]])) == 1


def test_a_model_of_other_keypoints_is_scored_on_those_that_both_have(tmp_path, tiny_models):
    model = tiny_models.save_centroid_model(tmp_path / "body.onnx", skeleton="coco17")
    annotations = read_annotations(write_set(tmp_path, tiny_models))
    estimator = load_estimator(model)
    assert provided_keypoints(estimator, annotations)[:17].all()
    said = []
    evaluation = evaluate_model(estimator, annotations, settings(), say=said.append)
    assert any("not scored" in message for message in said)
    assert evaluation.document["parts"]["face"]["AP"] is None
    assert evaluation.document["parts"]["body"]["AP"] == pytest.approx(1)
    write_reports(tmp_path / "out", evaluation)
    again = evaluate_results(tmp_path / "out" / "results.json", annotations, settings(results="r"), say=said.append)
    for name in ("parts", "metrics", "scored_keypoints"):
        assert again.document[name] == evaluation.document[name]
    assert sum("not scored" in message for message in said) == 2


def test_declared_keypoints_alone_are_scored(tmp_path, tiny_models, model):
    path = write_set(tmp_path, tiny_models, info={"labelled_keypoints": [5, 6, 11, 12]})
    evaluation = evaluate_model(load_estimator(model), read_annotations(path), settings())
    assert evaluation.document["scored_keypoints"] == [5, 6, 11, 12]
    assert evaluation.document["parts"]["whole"]["AP"] == pytest.approx(1)
    assert evaluation.document["metrics"]["epe_px"] < 0.3


def test_an_unreadable_picture_is_reported_and_its_people_count_as_missed(tmp_path, tiny_models, model):
    path = write_set(tmp_path, tiny_models)
    (tmp_path / "2.png").write_bytes(b"no picture")
    evaluation = evaluate_model(load_estimator(model), read_annotations(path), settings())
    assert len(evaluation.failures) == 1
    assert "2.png" in evaluation.failures[0]
    assert evaluation.document["counts"]["people_with_a_detection"] == 2
    assert evaluation.document["parts"]["whole"]["AR"] == pytest.approx(2 / 3)


def test_missing_pictures_stop_the_evaluation(tmp_path, tiny_models, model):
    """Fault 32: listed, and a stop above 1 %."""
    path = write_set(tmp_path, tiny_models)
    (tmp_path / "2.png").unlink()
    with pytest.raises(AnnotationError, match=r"2\.png"):
        evaluate_model(load_estimator(model), read_annotations(path), settings())


def test_a_file_of_boxes_for_other_images_is_refused_before_running(tmp_path, tiny_models, model):
    path = write_set(tmp_path, tiny_models)
    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2\nelsewhere.png,0,0,9,9\n")
    detector = load_detector(str(tmp_path / "boxes.csv"))
    with pytest.raises(AnnotationError, match=r"none of its boxes.*AP would be 0"):
        evaluate_model(load_estimator(model), read_annotations(path), settings(), detector=detector)
