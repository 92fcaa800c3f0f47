"""Why a result would be 0 or -1 is said before anything runs."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_people import annotation_set, results_of

from wholepose.errors import AnnotationError
from wholepose.evaluation.checks import areas_from_boxes, check_annotations, check_labelled_boxes, check_results
from wholepose.skeletons import COCO17, HALPE136

ALL = np.ones(17, dtype=bool)


def people(**changes):
    places = np.random.default_rng(0).uniform(20, 80, (3, 17, 2))
    return annotation_set(places, skeleton=COCO17, **changes)


def results(annotations, **changes):
    return results_of(annotations.keypoints, skeleton=COCO17, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"areas": [np.nan, 5, 5]}, r"1 of 3 people have no 'area'.*--area-from-boxes"),
        ({"areas": [0, 0, 0]}, r"every 'area' is 0.*AP would be 0"),
        ({"crowds": [True] * 3}, r"none of its 3 people counts: 3 are crowds.*AP would be -1"),
        ({"visibility": np.zeros((3, 17))}, r"no labelled keypoint.*AP would be -1"),
    ],
)
def test_what_makes_every_score_empty_is_refused(changes, words):
    with pytest.raises(AnnotationError, match=words):
        check_annotations(people(**changes), ALL)


def test_people_whose_boxes_show_nothing_are_told_of():
    """They can never be found there, and would only lower AP."""
    fine, empty = [0, 0, 90, 90], [5, 5, 5, 5]
    assert check_labelled_boxes(people(boxes=[fine] * 3), ALL) == []
    (warning,) = check_labelled_boxes(people(boxes=[fine, empty, empty]), ALL)
    assert "2 of 3 people with labelled keypoints have a box without an area" in warning
    with pytest.raises(AnnotationError, match=r"3 of 3 people .*AP would be 0"):
        check_labelled_boxes(people(boxes=[empty] * 3), ALL)


def test_no_people_at_all_are_refused():
    with pytest.raises(AnnotationError, match="holds no people"):
        check_annotations(annotation_set(np.zeros((0, 17, 2)), skeleton=COCO17, image_count=2), ALL)


def test_a_count_of_0_beside_labels_is_named():
    """In files of COCO's 17 keypoints num_keypoints decides who is scored."""
    with pytest.raises(AnnotationError, match=r"3 people have num_keypoints 0 in the file although 51 keypoints"):
        check_annotations(replace(people(), counts=np.zeros(3, dtype=np.int64)), ALL)
    (warning,) = check_annotations(replace(people(), counts=np.array([0, 17, 17])), ALL)
    assert "1 people have num_keypoints 0 in the file although 17 keypoints of theirs are labelled" in warning
    assert check_annotations(replace(people(), counts=np.array([0, 17, 17]), source_skeleton=HALPE136), ALL) == []


def test_a_skeleton_without_common_keypoints_is_refused():
    with pytest.raises(AnnotationError, match="another skeleton"):
        check_annotations(people(), np.zeros(17, dtype=bool))


def test_areas_of_boxes_stand_in_for_missing_ones():
    mended = areas_from_boxes(people(areas=[np.nan, 0, 77], boxes=[[0, 0, 10, 20]] * 3))
    np.testing.assert_allclose(mended.areas, [0.53 * 200, 0.53 * 200, 77])
    assert check_annotations(mended, ALL) == []


def test_what_lowers_a_score_is_warned_of():
    assert "2 of 3 people have an 'area' of 0" in check_annotations(people(areas=[0, 0, 9]), ALL)[0]
    some = np.arange(17) > 2
    assert "nose, left_eye, right_eye" in check_annotations(people(), some)[0]


def test_detections_on_other_images_are_refused_or_counted():
    annotations = people()
    assert check_results(annotations, results(annotations), "r.json") == []
    with pytest.raises(AnnotationError, match=r"none of its 3 detections.*its image ids are 7, 8, 9, theirs 1, 2, 3"):
        check_results(annotations, results(annotations, image_ids=[7, 8, 9]), "r.json")
    assert (
        "1 detections lie on 1 images" in check_results(annotations, results(annotations, image_ids=[1, 2, 9]), "r")[0]
    )


def test_other_slips_are_warned_of():
    annotations = replace(people(), image_sizes=np.full((3, 2), 100))
    nobody = results(annotations).select(np.zeros(3, dtype=bool))
    assert "no detection" in check_results(annotations, nobody, "r")[0]
    assert "same score" in check_results(annotations, results(annotations, scores=[1, 1, 1]), "r")[0]
    fractions = results_of(annotations.keypoints / 100, skeleton=COCO17)
    assert "not fractions" in check_results(annotations, fractions, "r")[0]
    enlarged = results_of(annotations.keypoints * 4, skeleton=COCO17)
    assert "outside their images" in check_results(annotations, enlarged, "r")[0]
