"""PCK, AUC, EPE, NME, error kinds and calibration on people whose answers can be worked out by hand."""

import numpy as np
import pytest
from made_up_people import annotation_set, results_of

from wholepose.evaluation.calibration import BINS, calibrate
from wholepose.evaluation.error_kinds import KINDS
from wholepose.evaluation.scoring import score
from wholepose.skeletons import COCO17, HALPE136, LSP14, MPII16


def person(skeleton=HALPE136):
    """Keypoints 50 px apart on a line, (1, K, 2); the area of 10,000 px^2 makes the similarity of a few px known."""
    count = skeleton.num_keypoints
    return np.stack([100 + 50.0 * np.arange(count), np.full(count, 300.0)], axis=1)[None]


def distance_of(similarity, keypoint, skeleton=HALPE136, area=10_000.0):
    """Pixels at which a keypoint has this similarity."""
    return float(np.sqrt(-np.log(similarity) * 2 * area) * 2 * skeleton.sigmas[keypoint])


def metrics_of(annotations, results):
    scores = score(annotations, results, replicates=0)
    return {name: metric.value for name, metric in scores.metrics.items()}


def test_pck_counts_distances_up_to_the_share_of_each_norm():
    truth = person()
    shoulder, hip = HALPE136.index("left_shoulder"), HALPE136.index("right_hip")
    head, neck = HALPE136.index("head"), HALPE136.index("neck")
    truth[0, shoulder], truth[0, hip] = (0, 0), (60, 80)  # a torso of 100 px
    truth[0, head], truth[0, neck] = (0, 0), (0, 40)  # a head of 40 px
    annotations = annotation_set(truth, boxes=[[0, 0, 200, 120]])
    found = truth.copy()
    found[0, :50, 0] += 19.9  # within 0.2 torsos, 0.2 and 0.1 boxes, half a head
    found[0, 50:100, 1] += 20.1  # over 0.2 torsos, half a head and 0.1 boxes
    found[0, 100:, 0] += 40.1  # over 0.2 boxes too
    results = results_of(found, labels=[0])
    expected = {"pck_torso_0.2": 50 / 136, "pck_head_0.5": 50 / 136, "pck_box_0.2": 100 / 136, "pck_box_0.1": 50 / 136}
    actual = metrics_of(annotations, results)
    assert {name: actual[name] for name in expected} == pytest.approx(expected)
    assert actual["epe_px"] == pytest.approx((50 * 19.9 + 50 * 20.1 + 36 * 40.1) / 136)
    # The area under PCK from 0 to 0.2 boxes (40 px) is one less the distance over 40 px, never below 0.
    assert actual["auc_box_0.2"] == pytest.approx((50 * (1 - 19.9 / 40) + 50 * (1 - 20.1 / 40)) / 136)


def test_an_error_of_one_sigma_has_the_similarity_that_coco_gives_it():
    truth = person()
    found = truth.copy()
    for keypoint in range(136):
        found[0, keypoint, 1] += distance_of(np.exp(-1 / 8), keypoint) * (1 if keypoint % 2 else 3)
    annotations = annotation_set(truth, areas=[10_000.0])
    scores = score(annotations, results_of(found, labels=[0]), replicates=0)
    assert scores.metrics["error_sigmas"].value == pytest.approx(2)
    assert scores.keypoint_metrics["error_sigmas"].by_keypoint() == pytest.approx([3, 1] * 68)


def test_nme_is_the_mean_over_faces_of_errors_in_eye_distances():
    truth = np.concatenate([person(), person()])
    face = np.array(HALPE136.parts["face"])
    truth[0, face[36]], truth[0, face[45]] = (0, 0), (30, 40)  # 50 px apart
    truth[1, face[36]], truth[1, face[45]] = (0, 0), (0, 100)
    found = truth.copy()
    found[0, face] += (3, 4)  # 5 px: 0.1
    found[1, face] += (30, 0)  # 30 px: 0.3
    assert metrics_of(annotation_set(truth), results_of(found, labels=[0, 1]))["nme_interocular"] == pytest.approx(0.2)


def test_a_face_without_both_eye_corners_is_left_out_of_the_nme():
    truth = person()
    visible = np.full((1, 136), 2.0)
    visible[0, HALPE136.parts["face"][36]] = 0
    assert metrics_of(annotation_set(truth, visible), results_of(truth, labels=[0]))["nme_interocular"] is None


@pytest.mark.parametrize(
    ("skeleton", "missing"),
    [
        (COCO17, {"nme_interocular", "pck_head_0.5"}),
        (LSP14, {"nme_interocular"}),
        (MPII16, {"nme_interocular"}),
        (HALPE136, set()),
    ],
)
def test_metrics_are_none_exactly_where_the_skeleton_lacks_what_they_need(skeleton, missing):
    truth = person(skeleton)
    actual = metrics_of(annotation_set(truth, skeleton=skeleton), results_of(truth, labels=[0], skeleton=skeleton))
    assert {name for name, value in actual.items() if value is None} == missing


def test_a_person_without_detection_counts_as_wrong_in_pck_and_not_in_pixels():
    truth = np.concatenate([person(), person() + 1000])
    annotations = annotation_set(truth, images=[0, 1])
    scores = score(annotations, results_of(truth[:1]), replicates=0)
    assert scores.metrics["pck_box_0.2"].value == pytest.approx(0.5)
    assert scores.metrics["epe_px"].value == scores.metrics["error_sigmas"].value == 0
    assert scores.localization.found.tolist() == [True, False]


def test_people_are_paired_with_the_detection_of_their_own_box_where_it_is_known():
    truth = np.concatenate([person(), person() + 500])
    swapped = results_of(truth[::-1], image_ids=[1, 1], labels=[0, 1])
    annotations = annotation_set(truth, images=[0, 0])
    assert score(annotations, swapped, each_person=swapped, replicates=0).metrics["pck_box_0.1"].value < 0.1
    unlabelled = results_of(truth[::-1], image_ids=[1, 1])
    assert score(annotations, unlabelled, replicates=0).metrics["pck_box_0.1"].value == 1


def test_each_kind_of_error_is_told_from_the_others():
    """Ronchi and Perona: good .85, jitter .5, inversion on the mirror keypoint, swap on another person, else a miss."""
    wrist, mirror = HALPE136.index("left_wrist"), HALPE136.index("right_wrist")
    truth = np.concatenate([person()] * 6 + [person() + np.array([0, 400])])
    images = [0, 1, 2, 3, 4, 5, 3]  # the last shares an image with the fourth
    found = truth[:6].copy()
    found[0, wrist, 1] += distance_of(0.86, wrist)
    found[1, wrist, 1] += distance_of(0.84, wrist)
    found[2, wrist] = truth[2, mirror] + (0, distance_of(0.51, mirror))
    found[3, wrist] = truth[6, mirror]
    found[4, wrist, 1] += distance_of(0.49, wrist)
    scores = score(
        annotation_set(truth, images=images), results_of(found, image_ids=np.array(images[:6]) + 1), replicates=0
    )
    assert [KINDS[kind] for kind in scores.kinds[:6, wrist]] == ["good", "jitter", "inversion", "swap", "miss", "good"]
    assert (scores.kinds[6] == -1).all()  # nobody found the last one


def test_an_unlabelled_keypoint_has_no_kind():
    visible = np.full((1, 136), 2.0)
    visible[0, 5:] = 0
    scores = score(annotation_set(person(), visible), results_of(person()), replicates=0)
    assert (scores.kinds[0, :5] == KINDS.index("good")).all()
    assert (scores.kinds[0, 5:] == -1).all()


def test_scores_that_tell_the_truth_are_calibrated_and_others_are_not():
    truth = np.concatenate([person()] * 10)
    found = truth.copy()
    found[:, :, 1] += 1e4 * (np.arange(10) >= 7)[:, None]  # seven in ten are right
    annotations = annotation_set(truth)
    for told, error, brier in ((0.7, 0.0, 0.21), (0.95, 0.25, 0.7 * 0.05**2 + 0.3 * 0.95**2)):
        results = results_of(found, labels=np.arange(10), keypoint_scores=np.full((10, 136), told))
        calibration = calibrate(results, score(annotations, results, replicates=0).localization)
        assert calibration.expected_error == pytest.approx(error, abs=1e-9)
        assert calibration.brier == pytest.approx(brier)
        assert calibration.counts.tolist() == [1360 if place == int(told * BINS) else 0 for place in range(BINS)]


def test_intervals_hold_the_value_and_widen_with_fewer_images():
    random = np.random.default_rng(0)
    truth = np.concatenate([person()] * 200)
    found = truth + random.normal(0, 30, truth.shape) * (random.random((200, 1, 1)) < 0.5)
    widths = []
    for people in (200, 20):
        annotations = annotation_set(truth[:people], boxes=np.tile([[0.0, 0.0, 100.0, 100.0]], (people, 1)))
        metric = score(annotations, results_of(found[:people], labels=np.arange(people))).metrics["pck_box_0.1"]
        assert metric.interval[0] < metric.value < metric.interval[1]
        widths.append(metric.interval[1] - metric.interval[0])
    assert 2 < widths[1] / widths[0] < 5  # about the square root of 10


def test_the_same_seed_gives_the_same_intervals():
    truth = np.concatenate([person()] * 8)
    found = truth + np.random.default_rng(1).normal(0, 1, truth.shape) * np.arange(8)[:, None, None] ** 2
    first, again, other = (
        score(annotation_set(truth), results_of(found), replicates=50, seed=seed).parts["body"].intervals
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
