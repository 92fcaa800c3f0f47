"""AP and AR equal pycocotools', whole and by part, and the intervals' matching equals faster-coco-eval's (fault 33)."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_people import random_documents

from wholepose.data.annotations import read_annotations
from wholepose.evaluation.bootstrap import average_precision_samples
from wholepose.evaluation.coco_ap import RECALLS, STATISTICS, THRESHOLDS
from wholepose.evaluation.matching import match
from wholepose.evaluation.results import read_results
from wholepose.evaluation.scoring import arranged_similarities, score
from wholepose.evaluation.selection import PARTS, part_columns
from wholepose.skeletons import COCO17, HALPE136

RARELY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pycocotools_statistics(document, results, sigmas):
    """The ten numbers, -1 as None; pycocotools cannot load an empty list of results, so it gets none of them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(document)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:
            found = COCO()
            found.dataset = {"images": document["images"], "categories": document["categories"], "annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "keypoints")
        evaluator.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: None if value < 0 else value for name, value in zip(STATISTICS, evaluator.stats, strict=True)}


def read_both(document, results, folder):
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "results.json").write_text(json.dumps(results))
    annotations = read_annotations(folder / "truth.json")
    return annotations, read_results(folder / "results.json", annotations)


@RARELY
@given(
    seed=st.integers(0, 10**6),
    hide=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    crowd=st.sampled_from([0.0, 0.3, 1.0]),
    found=st.sampled_from([0.0, 0.5, 1.0]),
    boxed=st.booleans(),
)
def test_coco17_equals_pycocotools(tmp_path, seed, hide, crowd, found, boxed):
    """Fault 33: any order, no detections, all ignored, crowds."""
    document, results = random_documents(seed, 17, hide=hide, crowd=crowd, found=found)
    if found == 0.0 and seed % 2:
        results = []
    if not document["annotations"]:
        return
    if boxed:  # pycocotools then takes a detection's size from its box
        for number, result in enumerate(results):
            result["bbox"] = [1.0, 2.0, 20.0 + number, 30.0 + number]
    expected = pycocotools_statistics(document, results, COCO17.sigmas)
    annotations, read = read_both(document, results, tmp_path)
    assert annotations.skeleton is COCO17
    actual = score(annotations, read, replicates=0).parts["whole"].statistics
    assert actual == pytest.approx(expected, abs=1e-6)


@RARELY
@given(seed=st.integers(0, 10**6), hide=st.sampled_from([0.2, 0.7, 0.95]))
def test_parts_equal_pycocotools_with_other_labels_deleted(tmp_path, seed, hide):
    document, results = random_documents(seed, 136, hide=hide, images=4)
    if not document["annotations"]:
        return
    annotations, read = read_both(document, results, tmp_path)
    assert annotations.skeleton is HALPE136
    actual = score(annotations, read, replicates=0).parts
    for part, columns in part_columns(HALPE136, np.ones(136, dtype=bool)).items():
        cut = copy.deepcopy(document)
        for person in cut["annotations"]:
            triples = np.reshape(person["keypoints"], (-1, 3))
            triples[np.setdiff1d(np.arange(136), columns)] = 0
            person["keypoints"] = triples.ravel().tolist()
            person["num_keypoints"] = int((triples[:, 2] > 0).sum())
        expected = pycocotools_statistics(cut, results, HALPE136.sigmas)
        assert actual[part].statistics == pytest.approx(expected, abs=1e-6), part
        assert actual[part].people == sum(
            not person["iscrowd"] and person["num_keypoints"] > 0 for person in cut["annotations"]
        )


def test_more_than_twenty_detections_and_equal_scores_equal_pycocotools(tmp_path):
    document, results = random_documents(5, 17, images=2, found=1.0)
    results = [copy.deepcopy(result) for _ in range(12) for result in results]
    for number, result in enumerate(results):
        result["score"] = [0.5, 0.7, 0.7][number % 3]
        result["keypoints"] = (np.array(result["keypoints"]) + 0.1 * number).tolist()
    expected = pycocotools_statistics(document, results, COCO17.sigmas)
    annotations, read = read_both(document, results, tmp_path)
    actual = score(annotations, read, replicates=0)
    assert actual.parts["whole"].statistics == pytest.approx(expected, abs=1e-6)
    assert actual.detections == 40


@RARELY
@given(seed=st.integers(0, 10**6), hide=st.sampled_from([0.2, 0.9]))
def test_an_unresampled_draw_gives_the_librarys_numbers(tmp_path, seed, hide):
    document, results = random_documents(seed, 136, hide=hide)
    if not document["annotations"]:
        return
    annotations, read = read_both(document, results, tmp_path)
    scores = score(annotations, read, replicates=0)
    arrangement, similarity, selection = arranged_similarities(annotations, read)
    ones = np.ones((1, len(annotations.image_ids)), dtype=np.uint16)
    for part in PARTS:
        ignored = selection.ignored[part]
        matches = match(arrangement, similarity[part], ignored, annotations.crowds, THRESHOLDS)
        ap, ar = average_precision_samples(arrangement, matches, read.scores, ignored, RECALLS, ones)
        library = scores.parts[part].statistics
        if library["AP"] is None:
            assert np.isnan(ap).all()
        else:
            assert ap.mean() == pytest.approx(library["AP"], abs=1e-9)
            assert ar.mean() == pytest.approx(library["AR"], abs=1e-9)


def test_a_draw_of_images_equals_a_file_that_repeats_them(tmp_path):
    document, results = random_documents(11, 17, images=5, found=1.0)
    annotations, read = read_both(document, results, tmp_path)
    weights = np.array([[2, 0, 1, 3, 0]], dtype=np.uint16)  # of the images in rising order of id
    arrangement, similarity, selection = arranged_similarities(annotations, read)
    matches = match(arrangement, similarity["whole"], selection.ignored["whole"], annotations.crowds, THRESHOLDS)
    ap, ar = average_precision_samples(arrangement, matches, read.scores, selection.ignored["whole"], RECALLS, weights)

    repeated = {"images": [], "annotations": [], "categories": document["categories"]}
    repeated_results = []
    for image_id, times in zip(sorted(image["id"] for image in document["images"]), weights[0], strict=True):
        for copy_number in range(int(times)):
            new_id = 1000 * copy_number + image_id
            repeated["images"].append({"id": new_id, "file_name": f"{new_id}.jpg", "width": 400, "height": 400})
            for person in document["annotations"]:
                if person["image_id"] == image_id:
                    number = len(repeated["annotations"]) + 1
                    repeated["annotations"].append({**person, "image_id": new_id, "id": number})
            repeated_results += [{**r, "image_id": new_id} for r in results if r["image_id"] == image_id]
    expected = pycocotools_statistics(repeated, repeated_results, COCO17.sigmas)
    assert ap.mean() == pytest.approx(expected["AP"], abs=1e-6)
    assert ar.mean() == pytest.approx(expected["AR"], abs=1e-6)
