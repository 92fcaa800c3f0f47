"""Results files: what is read, what is refused, and suppression of people who repeat others."""

import json

import numpy as np
import pytest
from made_up_people import annotation_set, results_of

from wholepose.errors import AnnotationError
from wholepose.evaluation.results import read_results, rescore, suppress, write_results
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE136


def entry(count=136, **changes):
    triples = np.c_[np.arange(count), np.arange(count) + 0.5, np.full(count, 0.5)]
    fields = {"image_id": 1, "category_id": 1, "keypoints": triples.ravel().tolist(), "score": 0.75}
    return {key: value for key, value in (fields | changes).items() if value is not None}


def read(tmp_path, document, skeleton=HALPE136):
    path = tmp_path / "results.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_results(path, annotation_set(np.zeros((1, skeleton.num_keypoints, 2)), skeleton=skeleton))


def test_what_is_written_is_read_back(tmp_path):
    random = np.random.default_rng(0)
    before = results_of(
        random.normal(0, 100, (3, 136, 2)).round(3), [7, 7, 2], keypoint_scores=random.random((3, 136)).round(5)
    )
    write_results(tmp_path / "results.json", before)
    after = read_results(tmp_path / "results.json", annotation_set(np.zeros((1, 136, 2))))
    for name in ("image_ids", "keypoints", "keypoint_scores", "scores"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.boxes is None


def test_nobody_is_an_empty_list_both_ways(tmp_path):
    write_results(tmp_path / "results.json", results_of(np.zeros((0, 136, 2)), scores=[]))
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert len(read(tmp_path, [])) == 0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "no JSON list"),
        ("{}", "a JSON object"),
        ("[", "cut short"),
        ("[{", "is not JSON"),
        ('[{"category_id": 2} {"category_id": 2}]', "is not JSON: Expecting ','"),
        ('[{"category_id": 2}, ]', "is not JSON"),
        ('[{"category_id": 2}] and more', "follows the end of the list"),
        ("[" * 100_000, "is not JSON"),
        ([3], "result 0.*must be an object"),
        ([entry(score=None)], "result 0.*score.*missing"),
        ([entry(image_id="one")], "result 0.*image_id"),
        ([entry(), entry(score=float("nan"))], "result 1.*score.*finite"),
        ([entry(keypoints=None)], "result 0.*keypoints.*missing"),
        ([entry(keypoints=[1, 2])], "holds 2 values.*halpe136.*408"),
        ([entry(), entry(count=17)], "result 1.*holds 51 values, expected 408"),
        ([entry(keypoints=["x"] * 408)], r"keypoints\[0\]"),
        ([entry(category_id=2)], "none of its 1 results is of category 1"),
        ([entry(bbox=[1, 2])], "bbox"),
    ],
)
def test_a_malformed_file_is_refused_by_entry_and_field(tmp_path, document, words):
    """Fault 31, for results."""
    with pytest.raises(AnnotationError, match=words):
        read(tmp_path, document)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"absent\.json"):
        read_results(tmp_path / "absent.json", annotation_set(np.zeros((1, 136, 2))))


def test_only_the_first_problems_are_listed(tmp_path):
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, [entry(score=None)] * 100)
    assert str(caught.value).count("result ") <= 21


def test_entries_of_other_categories_are_left_out(tmp_path):
    assert len(read(tmp_path, [entry(category_id=2), entry()])) == 1


def test_results_in_another_skeleton_are_converted(tmp_path):
    body = read(tmp_path, [entry(17)])
    assert body.skeleton is HALPE136
    np.testing.assert_array_equal(body.keypoints[0, :17, 0], np.arange(17))
    assert body.provided[:17].all()
    assert not body.provided[20:].any()
    whole = read(tmp_path, [entry(133)], COCO17)
    assert whole.provided.all()
    assert read(tmp_path, [entry(133)]).provided.sum() >= COCO_WHOLEBODY133.num_keypoints


def test_keypoints_that_no_entry_has_are_not_provided(tmp_path):
    """A model of 17 keypoints is written in 136: the others are (0, 0, 0) in every row."""
    body = read(tmp_path, [entry(17), entry(17)])
    write_results(tmp_path / "results.json", body)
    again = read_results(tmp_path / "results.json", annotation_set(np.zeros((1, 136, 2))))
    assert again.provided.tolist() == body.provided.tolist()
    half = [entry(), entry(keypoints=[0.0] * 408)]
    assert read(tmp_path, half).provided.all()  # one who is not found is no reason


def test_a_box_gives_the_area_where_every_entry_has_one(tmp_path):
    columns = np.arange(136)
    extent = 135.0 * 135.0
    assert read(tmp_path, [entry(bbox=[0, 0, 5, 6])]).areas(columns).tolist() == [30]
    assert read(tmp_path, [entry()]).areas(columns).tolist() == [extent]
    assert read(tmp_path, [entry(bbox=[0, 0, 5, 6]), entry()]).areas(columns).tolist() == [extent, extent]


def test_a_score_is_the_boxs_times_the_mean_of_confident_keypoints():
    scores = np.array([[0.1, 0.2, 0.4, 0.8], [0.2, 0.1, 0.0, 0.0]])
    np.testing.assert_allclose(rescore(scores, np.array([0.5, 1.0])), [0.5 * 0.6, 0.0])


def test_suppression_goes_by_image_and_keeps_the_better():
    place = np.random.default_rng(0).uniform(0, 100, (1, 136, 2))
    results = results_of(
        np.concatenate([place, place + 0.01, place + 80, place]), image_ids=[5, 5, 5, 2], scores=[0.5, 0.6, 0.3, 0.2]
    )
    kept = suppress(results, np.arange(136))
    assert kept.image_ids.tolist() == [2, 5, 5]
    assert kept.scores.tolist() == [0.2, 0.6, 0.3]
    assert len(suppress(results, np.arange(136), kind="none")) == 4
    # Soft: 0.5 falls to 0.5 exp(-1 / 0.9) = 0.16 in rank, and everybody stays.
    assert suppress(results, np.arange(136), kind="soft").scores.tolist() == [0.2, 0.6, 0.3, 0.5]
    with pytest.raises(ValueError, match="kind"):
        suppress(results, np.arange(136), kind="medium")


def test_suppression_of_nobody_is_nobody():
    assert len(suppress(results_of(np.zeros((0, 136, 2)), scores=[]), np.arange(136))) == 0
