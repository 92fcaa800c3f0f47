"""Files as other tools write them, and as our own look after somebody else has had them."""

import json

import numpy as np
import pytest

from wholepose.errors import AnnotationError
from wholepose.formats import open_writer, read_poses_file
from wholepose.poses import Poses
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE26, HALPE136, OPENPOSE_BODY25

SIZE = (480, 640)


def people(count, skeleton=HALPE136, tracks=None):
    random = np.random.default_rng(count)
    keypoints = random.uniform(1, 400, (count, skeleton.num_keypoints, 2))
    boxes = np.concatenate([keypoints.min(1, initial=0), keypoints.max(1, initial=0)], axis=1)
    return Poses(keypoints, np.full(keypoints.shape[:2], 0.9), boxes, np.ones(count), skeleton, track_ids=tracks)


def triples(count, score=0.5):
    return [float(value) for index in range(count) for value in (10 + index, 20 + index, score)]


def dump(path, document):
    path.write_text(json.dumps(document))
    return path


class TestAlphaPose:
    def entries(self, idx, images=3, count=2):
        person = {"category_id": 1, "keypoints": triples(136), "score": 2.9, "box": [1, 2, 30, 40]}
        return [
            {"image_id": f"{image}.jpg", **person, "idx": idx(each)} for image in range(images) for each in range(count)
        ]

    def test_without_tracking_all_have_the_number_0(self, tmp_path):
        path = dump(tmp_path / "a.json", self.entries(lambda _: [0.0]))
        assert [frame.poses.track_ids for frame in read_poses_file(path)] == [None] * 3

    def test_lists_in_lists(self, tmp_path):
        path = dump(tmp_path / "a.json", self.entries(lambda each: [[float(each)], [0.0]]))
        assert [frame.poses.track_ids.tolist() for frame in read_poses_file(path)] == [[0, 1]] * 3

    def test_pictures_of_one_name_stay_apart(self, tmp_path):
        with open_writer(tmp_path / "a.json", "alphapose", skeleton=HALPE136, model="m") as writer:
            for index, image in enumerate(("a/photo.jpg", "b/photo.jpg", "b/photo.jpg")):
                writer.write(index, None, people(index + 1), image=image, size=SIZE)
        found = [(frame.image, len(frame.poses)) for frame in read_poses_file(tmp_path / "a.json")]
        assert found == [("photo.jpg", 1), ("b/photo.jpg", 2), ("photo_000000000002.jpg", 3)]


def test_results_of_coco_wholebody(tmp_path):
    entry = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": triples(17), "foot_kpts": triples(6)}
    entry |= {"face_kpts": triples(68, 0.25), "lefthand_kpts": triples(21), "righthand_kpts": triples(21, 0.75)}
    (frame,) = read_poses_file(dump(tmp_path / "a.json", [entry]), "coco")
    assert frame.poses.skeleton is COCO_WHOLEBODY133
    assert (frame.poses.part("face").scores == 0.25).all()
    assert (frame.poses.part("right_hand").scores == 0.75).all()
    np.testing.assert_array_equal(frame.poses.keypoints[0, 17], [10, 20])  # the left big toe, first of the feet
    with pytest.raises(AnnotationError, match="face_kpts"):
        list(read_poses_file(dump(tmp_path / "b.json", [{**entry, "face_kpts": None}]), "coco"))


class TestOpenPose:
    def test_one_skeleton_though_nobody_is_in_the_first_frames(self, tmp_path):
        with open_writer(tmp_path / "op", "openpose", skeleton=HALPE136, model="") as writer:
            for index in range(4):
                writer.write(index, index / 30, people(0 if index < 2 else 1), image="clip.mp4", size=SIZE)
        assert [frame.poses.skeleton for frame in read_poses_file(tmp_path / "op")] == [HALPE136] * 4

    def test_names_of_fields_before_1_2(self, tmp_path):
        (tmp_path / "op").mkdir()
        person = {"pose_keypoints": triples(18), "face_keypoints": triples(70)}
        dump(tmp_path / "op" / "v_000000000000_keypoints.json", {"version": 1.1, "people": [person]})
        with pytest.raises(AnnotationError, match=r"v_000000000000_keypoints\.json.*before 1\.2"):
            list(read_poses_file(tmp_path / "op"))

    def test_names_of_pictures_keep_their_numbers(self, tmp_path):
        with open_writer(tmp_path / "op", "openpose", skeleton=HALPE136, model="") as writer:
            for index, name in enumerate(("IMG_0012", "IMG_0013")):
                writer.write(index, None, people(1), image=f"{name}.jpg", size=SIZE)
            writer.write(2, 0.1, people(1), image="clip.mp4", size=SIZE)
        assert {frame.image for frame in read_poses_file(tmp_path / "op")} == {"IMG_0012", "IMG_0013", "clip"}

    def test_its_own_neck_where_a_shoulder_is_out_of_sight(self, tmp_path):
        body, face = np.zeros((25, 3)), triples(70)
        body[1], body[2], body[8] = (101, 201, 0.9), (90, 205, 0.8), (110, 400, 0.7)
        (tmp_path / "op").mkdir()
        person = {"pose_keypoints_2d": body.reshape(-1).tolist(), "face_keypoints_2d": face}
        dump(tmp_path / "op" / "v_000000000000_keypoints.json", {"people": [person]})
        (frame,) = read_poses_file(tmp_path / "op")
        for name, place in (("neck", (101, 201)), ("hip", (110, 400))):
            np.testing.assert_array_equal(frame.poses.keypoints[0, HALPE136.index(name)], place)
        assert frame.poses.scores[0, HALPE136.index("left_shoulder")] == 0


class TestOurOwn:
    def test_fills_go_along_into_another_skeleton(self, tmp_path):
        filled = np.zeros((1, 17), np.bool_)
        filled[0, [5, 9]] = True  # a shoulder, of which the neck is made, and a wrist
        with open_writer(tmp_path / "a.csv", skeleton=OPENPOSE_BODY25, model="") as writer:
            writer.write(0, 0.0, people(1, COCO17), image="a.mp4", size=SIZE, filled=filled)
        (frame,) = read_poses_file(tmp_path / "a.csv")
        names = {OPENPOSE_BODY25.keypoint_names[index] for index in np.flatnonzero(frame.filled[0])}
        assert names == {"neck", "left_shoulder", "left_wrist"}

    @pytest.mark.parametrize("suffix", ["csv", "trc"])
    def test_a_hand_alone(self, tmp_path, suffix):
        hand = HALPE136.part("left_hand")
        with open_writer(tmp_path / f"a.{suffix}", skeleton=hand, model="") as writer:
            writer.write(0, 0.0, people(1).part("left_hand"), image="a.mp4", size=SIZE)
        (frame,) = read_poses_file(tmp_path / f"a.{suffix}")
        assert frame.poses.skeleton is hand

    def test_a_table_that_excel_saved(self, tmp_path):
        with open_writer(tmp_path / "a.csv", skeleton=HALPE26, model="") as writer:
            writer.write(0, 0.0, people(1, HALPE26), image="a.mp4", size=SIZE)
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
        assert len(list(read_poses_file(tmp_path / "a.csv"))) == 1

    def test_angles_are_no_poses(self, tmp_path):
        with open_writer(tmp_path / "a.csv", "angles", skeleton=HALPE26, model="") as writer:
            writer.write(0, 0.0, people(1, HALPE26), image="a.mp4", size=SIZE)
        with pytest.raises(AnnotationError, match=r"joint angles.*read_angles"):
            list(read_poses_file(tmp_path / "a.csv"))

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_a_file_twice_over_is_out_of_order(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        with open_writer(path, skeleton=HALPE26, model="") as writer:
            for index in range(2):
                writer.write(index, index / 25, people(1, HALPE26), image="a.mp4", size=SIZE)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines + lines[suffix == "csv" :]))
        with pytest.raises(AnnotationError, match="frame 0 comes after frame 1"):
            list(read_poses_file(path))

    def test_npz_keeps_long_names_and_any_number(self, tmp_path):
        name = "d/" * 200 + "clip.mp4"
        with open_writer(tmp_path / "a.npz", skeleton=HALPE26, model="") as writer:
            writer.write(0, 0.0, people(2, HALPE26, np.array([7, -1])), image=name, size=SIZE)
            writer.write(1, 0.1, people(1, HALPE26), image="b", size=SIZE)
        first, second = read_poses_file(tmp_path / "a.npz")
        assert (first.image, second.image) == (name, "b")
        assert first.poses.track_ids.tolist() == [7, -1]
        assert second.poses.track_ids is None
