import copy
import json
import pickle

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE136, OPENPOSE_BODY25, SKELETONS


def make_poses(people=3, skeleton=HALPE136, seed=0, **changes):
    random = np.random.default_rng(seed)
    count = skeleton.num_keypoints
    corners = random.uniform(0, 100, (people, 2))
    spread = random.normal(size=(people, count, 2, 2))
    fields = {
        "keypoints": random.uniform(-10, 300, (people, count, 2)),
        "scores": random.random((people, count)),
        "boxes": np.concatenate([corners, corners + random.uniform(1, 200, (people, 2))], axis=1),
        "box_scores": random.random(people),
        "skeleton": skeleton,
        "covariances": spread @ np.swapaxes(spread, -1, -2),
        "raw_scores": random.uniform(0, 1.2, (people, count)),
        "track_ids": np.arange(people) + 7,
    }
    return Poses(**{**fields, **changes})


ARRAYS = ("keypoints", "scores", "boxes", "box_scores", "covariances", "raw_scores", "track_ids")


def assert_same(one, other):
    assert one.skeleton is other.skeleton
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


class TestMaking:
    def test_dtypes_and_shapes(self):
        poses = make_poses(2)
        assert len(poses) == 2
        shapes = {"keypoints": (2, 136, 2), "scores": (2, 136), "boxes": (2, 4), "box_scores": (2,)}
        shapes |= {"covariances": (2, 136, 2, 2), "raw_scores": (2, 136)}
        for name, shape in shapes.items():
            array = getattr(poses, name)
            assert array.shape == shape
            assert array.dtype == np.float32
        assert poses.track_ids.dtype == np.int64

    def test_arrays_are_copies_that_cannot_be_written(self):
        keypoints = np.zeros((1, 17, 2), np.float32)
        poses = make_poses(1, COCO17, keypoints=keypoints)
        keypoints[:] = 5
        assert (poses.keypoints == 0).all()
        assert keypoints.flags.writeable
        for name in ARRAYS:
            with pytest.raises(ValueError, match="read-only"):
                getattr(poses, name)[0] = 0
        with pytest.raises(AttributeError):
            poses.scores = keypoints

    def test_optional_arrays_may_be_missing(self):
        poses = make_poses(2, covariances=None, raw_scores=None, track_ids=None)
        assert poses[0].covariances is None
        assert poses.part("face").raw_scores is None
        assert poses.convert(COCO17).track_ids is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("keypoints", np.zeros((3, 17, 2))),
            ("keypoints", np.zeros((136, 2))),
            ("keypoints", 5),
            ("scores", np.zeros((2, 136))),
            ("boxes", np.zeros((3, 5))),
            ("boxes", np.zeros(4)),
            ("box_scores", np.zeros((3, 1))),
            ("covariances", np.zeros((3, 136, 3))),
            ("raw_scores", np.zeros((3, 135))),
            ("track_ids", [1, 2]),
        ],
    )
    def test_wrong_shape_is_refused(self, name, value):
        with pytest.raises(ValueError, match="must have shape"):
            make_poses(3, **{name: value})

    @pytest.mark.parametrize("name", ["keypoints", "scores", "boxes", "box_scores", "covariances", "raw_scores"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
    def test_what_is_not_finite_is_refused(self, name, value):
        array = np.array(getattr(make_poses(2), name), dtype=np.float64)
        array[1] = value
        with pytest.raises(ValueError, match=rf"^{name} must be finite; element \[1"):
            make_poses(2, **{name: array})

    @pytest.mark.parametrize("value", [-0.01, 1.01])
    def test_scores_outside_the_range_are_refused(self, value):
        with pytest.raises(ValueError, match="raw_scores"):
            make_poses(1, COCO17, scores=np.full((1, 17), value))

    @pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
    def test_nobody(self, skeleton):
        """FAULT 14: shapes with N = 0, and every method still answers."""
        nobody = Poses.empty(skeleton)
        assert len(nobody) == 0
        assert nobody.keypoints.shape == (0, skeleton.num_keypoints, 2)
        assert nobody.scores.shape == (0, skeleton.num_keypoints)
        assert nobody.covariances.shape == (0, skeleton.num_keypoints, 2, 2)
        assert nobody.boxes.shape == (0, 4)
        assert list(nobody) == []
        assert len(nobody[:]) == len(nobody[[]]) == len(nobody[nobody.box_scores > 0.5]) == 0
        assert nobody.instance_scores().shape == (0,)
        assert nobody.to_coco(1) == []
        assert nobody.to_openpose() == {"version": 1.3, "people": []}
        assert nobody.convert(HALPE136).keypoints.shape == (0, 136, 2)
        for name, indices in skeleton.parts.items():
            assert nobody.part(name).keypoints.shape == (0, len(indices), 2)

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda poses: pickle.loads(pickle.dumps(poses))])
    def test_copies_and_pickles_stay_frozen(self, again):
        poses = make_poses(2)
        other = again(poses)
        assert_same(poses, other)
        assert not other.keypoints.flags.writeable


class TestChoosing:
    @pytest.mark.parametrize(
        ("index", "people"),
        [
            (0, [0]),
            (-1, [3]),
            (np.int64(2), [2]),
            (slice(1, 3), [1, 2]),
            (slice(None, None, -1), [3, 2, 1, 0]),
            ([2, 0, 2], [2, 0, 2]),
            (np.array([3, 1]), [3, 1]),
            (np.array([True, False, False, True]), [0, 3]),
            ([False, True, False, False], [1]),
            ([], []),
            (np.array([]), []),
            (np.zeros(4, bool), []),
            ((0, 2), [0, 2]),
            ((), []),
        ],
    )
    def test_people_by_number_slice_mask_and_array(self, index, people):
        poses = make_poses(4)
        chosen = poses[index]
        assert len(chosen) == len(people)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(chosen, name), getattr(poses, name)[people])

    @pytest.mark.parametrize("index", [4, -5, [0, 9], [True, False], np.zeros(3, bool), [[0, 1]], 1.5, "0", None])
    def test_no_such_people(self, index):
        with pytest.raises(IndexError):
            make_poses(4)[index]

    def test_one_by_one(self):
        poses = make_poses(3)
        assert [person.track_ids[0] for person in poses] == [7, 8, 9]
        assert_same(Poses.concatenate(list(poses)), poses)

    def test_concatenate_keeps_what_everybody_has(self):
        full, bare = make_poses(2), make_poses(1, seed=1, covariances=None, track_ids=None)
        joined = Poses.concatenate([full, bare])
        assert len(joined) == 3
        assert joined.covariances is None
        assert joined.track_ids is None
        assert joined.raw_scores.shape == (3, 136)
        np.testing.assert_array_equal(joined.keypoints[2], bare.keypoints[0])

    def test_concatenate_with_nobody_loses_nothing(self):
        full = make_poses(2)
        assert_same(Poses.concatenate([Poses.empty(HALPE136), full, Poses.empty(HALPE136)]), full)
        assert len(Poses.concatenate([Poses.empty(HALPE136), Poses.empty(HALPE136)])) == 0

    def test_concatenate_refuses_nothing_and_mixtures(self):
        with pytest.raises(ValueError, match="empty"):
            Poses.concatenate([])
        with pytest.raises(ValueError, match="coco17, halpe136"):
            Poses.concatenate([make_poses(1), make_poses(1, COCO17)])


class TestParts:
    def test_part(self):
        poses = make_poses(2)
        hand = poses.part("left_hand")
        assert hand.skeleton.name == "halpe136.left_hand"
        np.testing.assert_array_equal(hand.keypoints, poses.keypoints[:, 94:115])
        np.testing.assert_array_equal(hand.covariances, poses.covariances[:, 94:115])
        np.testing.assert_array_equal(hand.raw_scores, poses.raw_scores[:, 94:115])
        np.testing.assert_array_equal(hand.boxes, poses.boxes)
        np.testing.assert_array_equal(hand.track_ids, poses.track_ids)
        with pytest.raises(ValueError, match="right_hand"):
            poses.part("tail")

    def test_convert(self):
        poses = make_poses(2)
        coco = poses.convert(COCO17)
        np.testing.assert_array_equal(coco.keypoints, poses.keypoints[:, :17])
        np.testing.assert_array_equal(coco.covariances, poses.covariances[:, :17])
        back = coco.convert(HALPE136)
        np.testing.assert_array_equal(back.keypoints[:, :17], poses.keypoints[:, :17])
        np.testing.assert_allclose(back.keypoints[:, 18], poses.keypoints[:, 5:7].mean(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(back.scores[:, 20:], 0)


class TestScores:
    def test_known_answers(self):
        scores = np.zeros((3, 17))
        scores[0, :3] = [0.9, 0.5, 0.2]  # 0.2 itself does not count
        scores[1, :2] = [0.2, 0.1]
        scores[2, :] = 1
        poses = make_poses(3, COCO17, scores=scores, box_scores=[0.5, 1.0, 0.25])
        np.testing.assert_allclose(poses.instance_scores(), [0.35, 0, 0.25], rtol=1e-6)
        assert poses.instance_scores().dtype == np.float32

    @settings(deadline=None, max_examples=50)
    @given(arrays.arrays(np.float32, (4, 17), elements=st.floats(0, 1, width=32)))
    def test_lies_between_nothing_and_the_best_keypoint(self, scores):
        poses = make_poses(4, COCO17, scores=scores)
        whole = poses.instance_scores()
        assert (whole >= 0).all()
        assert (whole <= poses.box_scores * scores.max(axis=1) * (1 + 1e-6)).all()


class TestDocuments:
    def test_coco(self):
        poses = make_poses(2)
        results = poses.to_coco(42)
        assert [result["image_id"] for result in results] == [42, 42]
        first = results[0]
        assert set(first) == {"image_id", "category_id", "keypoints", "score", "bbox", "track_id"}
        assert first["category_id"] == 1
        triples = np.reshape(first["keypoints"], (136, 3))
        np.testing.assert_array_equal(triples[:, :2].astype(np.float32), poses.keypoints[0])
        np.testing.assert_array_equal(triples[:, 2].astype(np.float32), poses.scores[0])
        x1, y1, x2, y2 = poses.boxes[0].tolist()
        np.testing.assert_allclose(first["bbox"], [x1, y1, x2 - x1, y2 - y1], rtol=1e-5)
        assert first["score"] == pytest.approx(float(poses.instance_scores()[0]))
        json.dumps(results, allow_nan=False)  # plain Python numbers only

    def test_coco_without_tracks(self):
        assert "track_id" not in make_poses(1, track_ids=None).to_coco(1, category_id=3)[0]

    def test_openpose(self):
        poses = make_poses(2)
        document = json.loads(json.dumps(poses.to_openpose(), allow_nan=False))
        assert document["version"] == 1.3
        person = document["people"][1]
        lengths = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
        assert {key: len(value) for key, value in person.items()} == {
            "person_id": 1,
            **{f"{key}_keypoints_2d": 3 * length for key, length in lengths.items()},
            **{f"{key}_keypoints_3d": 0 for key in lengths},
        }
        assert person["person_id"] == [8]
        body = np.reshape(person["pose_keypoints_2d"], (25, 3))
        np.testing.assert_array_equal(body[4, :2].astype(np.float32), poses.keypoints[1, 10])  # right wrist
        np.testing.assert_allclose(body[1, :2], poses.keypoints[1, 5:7].mean(axis=0), rtol=1e-5)  # neck
        np.testing.assert_array_equal(body[19:, 2].astype(np.float32), poses.scores[1, [20, 22, 24, 21, 23, 25]])
        face = np.reshape(person["face_keypoints_2d"], (70, 3))
        np.testing.assert_array_equal(face[:68, :2].astype(np.float32), poses.keypoints[1, 26:94])
        np.testing.assert_array_equal(face[68:], 0)
        hand = np.reshape(person["hand_right_keypoints_2d"], (21, 3))
        np.testing.assert_array_equal(hand[:, :2].astype(np.float32), poses.keypoints[1, 115:])

    def test_openpose_of_a_body_has_no_hands(self):
        person = make_poses(1, COCO17, track_ids=None).to_openpose()["people"][0]
        assert person["person_id"] == [-1]
        assert len(person["pose_keypoints_2d"]) == 75
        assert person["face_keypoints_2d"] == person["hand_left_keypoints_2d"] == []

    def test_openpose_body_comes_back(self):
        poses = make_poses(2, OPENPOSE_BODY25)
        flat = [person["pose_keypoints_2d"] for person in poses.to_openpose()["people"]]
        np.testing.assert_array_equal(np.reshape(flat, (2, 25, 3))[..., :2].astype(np.float32), poses.keypoints)
