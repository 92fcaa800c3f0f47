"""Each format: round trip, whole or absent, and files that are not what they should be."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wholepose.errors import AnnotationError, ConfigError
from wholepose.formats import FORMATS, open_writer, read_angles, read_poses_file
from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE26, HALPE136, OPENPOSE_BODY25

POSE_FORMATS = [name for name, each in FORMATS.items() if each.read is not None]
SIZE = (480, 640)
KEEPS_EMPTY_FRAMES = {"json", "jsonl", "openpose", "npz"}
KEEPS_TIME = {"json", "jsonl", "csv", "parquet", "npz", "trc"}
KEEPS_BOXES = {"json", "jsonl", "coco", "alphapose", "npz"}


def needs(name):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs the [parquet] extra")


def people(tracks, skeleton=HALPE136, seed=0, **changes):
    random = np.random.default_rng(seed)
    count, keypoints = len(tracks), skeleton.num_keypoints
    spread = random.normal(size=(count, keypoints, 2, 2))
    fields = {
        "keypoints": random.uniform(1, 600, (count, keypoints, 2)),
        "scores": random.uniform(0.35, 1, (count, keypoints)),
        "boxes": random.uniform(0, 300, (count, 4)) + np.array([0, 0, 310, 310]),
        "box_scores": random.random(count),
        "skeleton": skeleton,
        "covariances": spread @ np.swapaxes(spread, -1, -2),
        "raw_scores": random.uniform(0, 1.2, (count, keypoints)),
        "track_ids": np.array(tracks, dtype=np.int64),
    }
    return Poses(**{**fields, **changes})


CLIP = [
    (0, 0.0, people([3, 4])),
    (1, 0.04, Poses.empty(HALPE136)),
    (2, 0.08, people([4, 3, 7], seed=1)),
    (5, 0.2, people([7], seed=2)),
]


def write(path, name, clip=CLIP, skeleton=HALPE136, **options):
    with open_writer(path, name, skeleton=skeleton, model="w48", **options) as writer:
        for index, time_s, poses in clip:
            writer.write(index, time_s, poses, image="walks/clip.mp4", size=SIZE)


def path_for(folder, name):
    return folder / f"clip{FORMATS[name].suffix}"


@pytest.mark.parametrize("name", POSE_FORMATS)
class TestRoundTrip:
    def test_people_come_back(self, tmp_path, name):
        needs(name)
        path = path_for(tmp_path, name)
        write(path, name)
        frames = {frame.frame_index: frame for frame in read_poses_file(path, name)}
        expected = [index for index, _, poses in CLIP if len(poses) or name in KEEPS_EMPTY_FRAMES]
        assert [index for index in frames if len(frames[index].poses) or name != "trc"] == expected
        for index, time_s, poses in CLIP:
            if not len(poses) and index not in frames:
                continue
            found = frames[index].poses
            assert found.skeleton is HALPE136
            assert len(found) == len(poses)
            if not len(poses):
                continue
            order = (
                np.argsort(poses.track_ids) if name == "trc" else slice(None)
            )  # by person, not by place in the frame
            assert found.track_ids.tolist() == poses.track_ids[order].tolist()
            columns = np.arange(136)
            if (
                name == "openpose"
            ):  # the head's top is no point of OpenPose, neck and hip are its own, wrists are shared
                lost = {HALPE136.index(each) for each in ("head", "neck", "hip")}
                columns = np.array([column for column in columns if column not in lost])
            np.testing.assert_allclose(found.keypoints[:, columns], poses.keypoints[order][:, columns], atol=1e-3)
            if name != "trc":
                np.testing.assert_allclose(found.scores[:, columns], poses.scores[:, columns], atol=1e-5)
            if name in KEEPS_BOXES:
                np.testing.assert_allclose(found.boxes, poses.boxes, atol=2e-3)
            assert frames[index].time_s == (pytest.approx(time_s) if name in KEEPS_TIME else None)

    def test_a_person_who_was_never_tracked(self, tmp_path, name):
        needs(name)
        path = path_for(tmp_path, name)
        write(path, name, [(0, 0.0, people([1], track_ids=None))])
        (frame,) = read_poses_file(path, name)
        assert len(frame.poses) == 1
        assert frame.poses.track_ids is None or name == "trc"

    def test_nobody_in_the_whole_clip(self, tmp_path, name):
        """FAULT 14."""
        needs(name)
        path = path_for(tmp_path, name)
        write(path, name, [(0, 0.0, Poses.empty(HALPE136))])
        if name == "trc":
            assert not list(tmp_path.iterdir())
        else:
            assert sum(len(frame.poses) for frame in read_poses_file(path, name)) == 0

    def test_other_skeletons(self, tmp_path, name):
        needs(name)
        path = path_for(tmp_path, name)
        skeleton = OPENPOSE_BODY25 if name == "openpose" else COCO17
        poses = people([2], skeleton, covariances=None, raw_scores=None)
        write(path, name, [(0, 0.0, poses)], skeleton)
        (frame,) = read_poses_file(path, name)
        assert frame.poses.skeleton is skeleton
        if name != "openpose":  # whose neck and mid hip are its own
            np.testing.assert_allclose(frame.poses.keypoints, poses.keypoints, atol=1e-3)

    def test_the_format_is_found_by_name_and_contents(self, tmp_path, name):
        needs(name)
        path = path_for(tmp_path, name)
        write(path, name)
        assert len(list(read_poses_file(path))) >= 3


@pytest.mark.parametrize("name", FORMATS)
class TestWholeOrAbsent:
    def test_nothing_stands_there_before_it_is_closed(self, tmp_path, name):
        needs(name)
        path = path_for(tmp_path, name)
        writer = open_writer(path, name, skeleton=HALPE136, model="m")
        writer.write(0, 0.0, people([1]), image="a.mp4", size=SIZE)
        assert not [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
        writer.close()
        writer.close()
        assert [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
        with pytest.raises(ValueError, match="closed"):
            writer.write(1, 0.1, people([1]), image="a.mp4", size=SIZE)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bad")])
    def test_an_exception_leaves_what_was_there(self, tmp_path, name, error):
        """FAULT 35."""
        needs(name)
        path = path_for(tmp_path, name)
        write(path, name)
        before = {entry.name: entry.read_bytes() for entry in tmp_path.rglob("*") if entry.is_file()}
        with pytest.raises(type(error)), open_writer(path, name, skeleton=HALPE136, model="m") as writer:  # noqa: PT012
            writer.write(0, 0.0, people([1], seed=5), image="a.mp4", size=SIZE)
            raise error
        assert {entry.name: entry.read_bytes() for entry in tmp_path.rglob("*") if entry.is_file()} == before

    def test_discard(self, tmp_path, name):
        needs(name)
        writer = open_writer(path_for(tmp_path, name), name, skeleton=HALPE136, model="m")
        writer.write(0, 0.0, people([1]), image="a.mp4", size=SIZE)
        writer.discard()
        assert not list(tmp_path.iterdir())

    def test_frames_come_in_order(self, tmp_path, name):
        needs(name)
        with open_writer(path_for(tmp_path, name), name, skeleton=HALPE136, model="m") as writer:
            writer.write(4, 0.1, people([1]), image="a.mp4", size=SIZE)
            with pytest.raises(ValueError, match="frame 4 does not come after frame 4"):
                writer.write(4, 0.2, people([1]), image="a.mp4", size=SIZE)

    def test_a_folder_that_is_not_there(self, tmp_path, name):
        needs(name)
        with pytest.raises(OSError, match="none"):
            open_writer(tmp_path / "none" / "clip", name, skeleton=HALPE136, model="m")


@pytest.mark.parametrize("name", POSE_FORMATS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1,2",
        b"{}",
        b"[]x",
        b'{"people": 3}',
        b'[{"image_id": 1}]',
        b"a,b\n1,2\n",
        b"PK\x03\x04",
    ],
)
def test_files_that_are_something_else(tmp_path, name, content):
    needs(name)
    path = tmp_path / "clip.bin"
    path.write_bytes(content)
    if name == "jsonl" and not content:
        assert list(read_poses_file(path, name)) == []
    else:
        with pytest.raises(AnnotationError, match=re.escape(str(path))):
            list(read_poses_file(path, name))


@pytest.mark.parametrize("name", POSE_FORMATS)
def test_a_file_that_is_missing(tmp_path, name):
    needs(name)
    with pytest.raises(AnnotationError, match="none"):
        list(read_poses_file(tmp_path / "none.x", name))


@pytest.mark.parametrize("name", [name for name in POSE_FORMATS if name not in ("openpose", "trc")])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_nothing_else(tmp_path, name, data):
    """A byte changed or the end cut off: AnnotationError or frames."""
    needs(name)
    path = path_for(tmp_path, name)
    if not path.exists():
        write(path, name, [(0, 0.0, people([3], COCO17)), (1, 0.1, people([3, 5], COCO17))], COCO17)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] = data.draw(st.integers(0, 255))
    damaged = tmp_path / f"damaged{path.suffix}"
    damaged.write_bytes(content)
    with contextlib.suppress(AnnotationError):
        list(read_poses_file(damaged, name))


def test_parquet_with_bytes_that_are_no_text(tmp_path):
    """Each of its first bytes in turn becomes one with which no text in UTF-8 begins."""
    needs("parquet")
    path, damaged = path_for(tmp_path, "parquet"), tmp_path / "damaged.parquet"
    write(path, "parquet", [(0, 0.0, people([3], COCO17))], COCO17)
    content, refused = path.read_bytes(), []
    for place in range(200):
        damaged.write_bytes(content[:place] + b"\x80" + content[place + 1 :])
        try:
            list(read_poses_file(damaged, "parquet"))
        except AnnotationError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all("damaged.parquet" in message for message in refused)


@pytest.mark.parametrize(("name", "message"), [(b"nobody", "unknown skeleton 'nobody'"), (b"\x80", "as Parquet")])
def test_parquet_of_an_unknown_skeleton(tmp_path, name, message):
    needs("parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = path_for(tmp_path, "parquet")
    write(path, "parquet", [(0, 0.0, people([3], COCO17))], COCO17)
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({b"wholepose.skeleton": name}), path)
    with pytest.raises(AnnotationError, match=rf"{path.name}: .*{message}"):
        list(read_poses_file(path, "parquet"))


class TestOurJson:
    @pytest.mark.parametrize("name", ["json", "jsonl"])
    def test_covariances_model_image_size_and_fills(self, tmp_path, name):
        path = path_for(tmp_path, name)
        poses = people([3, 4])
        filled = np.zeros((2, 136), np.bool_)
        filled[1, [5, 99]] = True
        with open_writer(path, skeleton=HALPE136, model="w48", uncertainty=True) as writer:
            writer.write(9, 0.25, poses, image="clip.mp4", size=SIZE, filled=filled)
        (frame,) = read_poses_file(path)
        assert (frame.frame_index, frame.time_s, frame.image, frame.size) == (9, 0.25, "clip.mp4", SIZE)
        assert frame.model == "w48"
        np.testing.assert_allclose(frame.poses.covariances, poses.covariances, atol=1e-4)
        np.testing.assert_array_equal(frame.filled, filled)

    def test_a_line_is_the_document_of_predict(self, tmp_path):
        path = tmp_path / "clip.jsonl"
        write(path, "jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == 4
        assert list(lines[0]) == ["frame", "time_s", "image", "height", "width", "skeleton", "model", "people"]
        assert [person["track_id"] for person in lines[2]["people"]] == [4, 3, 7]

    def test_the_bad_line_is_named(self, tmp_path):
        path = tmp_path / "clip.jsonl"
        write(path, "jsonl")
        path.write_text(path.read_text() + '{"frame": "x"}\n')
        frames = read_poses_file(path)
        assert [next(frames).frame_index for _ in range(4)] == [0, 1, 2, 5]
        with pytest.raises(AnnotationError, match="line 5"):
            next(frames)

    def test_pictures_have_no_time(self, tmp_path):
        path = tmp_path / "photos.jsonl"
        write(path, "jsonl", [(0, None, people([0]))])
        assert "time_s" not in json.loads(path.read_text())
        assert next(read_poses_file(path)).time_s is None


class TestOpenPose:
    def test_names_that_pose2sim_reads(self, tmp_path):
        write(tmp_path / "cam1_json", "openpose")
        names = sorted(entry.name for entry in (tmp_path / "cam1_json").iterdir())
        assert names == [f"clip_{index:012d}_keypoints.json" for index in (0, 1, 2, 5)]
        document = json.loads((tmp_path / "cam1_json" / names[0]).read_text())
        assert document["version"] == 1.3
        assert document["people"][0]["person_id"] == [3]
        lengths = {key: len(value) for key, value in document["people"][0].items() if key.endswith("_2d")}
        assert lengths == {
            "pose_keypoints_2d": 75,
            "face_keypoints_2d": 210,
            "hand_left_keypoints_2d": 63,
            "hand_right_keypoints_2d": 63,
        }

    def test_replaces_its_own_results_and_nothing_else(self, tmp_path):
        folder = tmp_path / "out"
        write(folder, "openpose")
        write(folder, "openpose", CLIP[:1])
        assert len(list(folder.iterdir())) == 1
        (folder / "notes.txt").write_text("mine")
        with pytest.raises(ConfigError, match=r"notes\.txt"):
            write(folder, "openpose")
        assert (folder / "notes.txt").read_text() == "mine"

    def test_hands_go_to_their_sides(self, tmp_path):
        write(tmp_path / "out", "openpose", CLIP[:1])
        (frame,) = read_poses_file(tmp_path / "out")
        for part in ("left_hand", "right_hand", "face"):
            np.testing.assert_allclose(frame.poses.part(part).keypoints, CLIP[0][2].part(part).keypoints, atol=1e-3)


class TestResultLists:
    def test_alphapose_as_its_own_tools_write_it(self, tmp_path):
        path = tmp_path / "alphapose-results.json"
        person = {"category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 136, "score": 2.9, "box": [1, 2, 30, 40], "idx": [7]}
        path.write_text(json.dumps([{"image_id": "10.jpg", **person}, {"image_id": "2.jpg", **person}]))
        frames = list(read_poses_file(path))
        assert [frame.frame_index for frame in frames] == [2, 10]
        assert frames[0].poses.track_ids.tolist() == [7]
        np.testing.assert_array_equal(frames[0].poses.boxes, [[1, 2, 31, 42]])

    def test_entries_are_named_in_errors(self, tmp_path):
        path = tmp_path / "results.json"
        path.write_text(json.dumps([{"image_id": 3, "keypoints": [1, 2, 3, 4]}]))
        with pytest.raises(AnnotationError, match=r"image 3.*4 numbers"):
            list(read_poses_file(path, "coco"))
        path.write_text(json.dumps([{"image_id": "a", "keypoints": []}]))
        with pytest.raises(AnnotationError, match="entry 0"):
            list(read_poses_file(path, "coco"))


class TestTables:
    def test_rows_are_tidy(self, tmp_path):
        path = tmp_path / "clip.csv"
        write(path, "csv")
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == (2 + 3 + 1) * 136
        assert rows[1]["keypoint"] == "left_eye"
        assert (rows[0]["frame"], rows[0]["time_s"], rows[0]["track_id"]) == ("0", "0.000000", "3")

    def test_angles(self, tmp_path):
        path = tmp_path / "angles.csv"
        write(path, "angles")
        table = read_angles(path)
        assert table["frame"] == [0, 0, 2, 2, 2, 5]
        assert table["track_id"] == [3, 4, 4, 3, 7, 7]
        assert all(0 <= angle <= 180 for angle in table["left_knee_deg"])
        with pytest.raises(ConfigError, match="read_angles"):
            list(read_poses_file(path, "angles"))

    def test_names_that_are_no_text(self, tmp_path):
        """FAULT 12."""
        path = tmp_path / "clip.csv"
        with open_writer(path, skeleton=COCO17, model="m") as writer:
            writer.write(0, 0.0, people([1], COCO17), image=os.fsdecode(b"\xff,\n.mp4"), size=SIZE)
        (frame,) = read_poses_file(path)
        assert frame.image == "\\xff,\n.mp4"

    def test_parquet_without_pyarrow_names_the_extra(self, tmp_path):
        code = (
            "import sys; sys.modules['pyarrow'] = None\n"
            "from wholepose import HALPE136\nfrom wholepose.formats import open_writer\n"
            f"open_writer({str(tmp_path / 'a.parquet')!r}, skeleton=HALPE136, model='m')"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 1
        assert "ConfigError" in ran.stderr
        assert "wholepose[parquet]" in ran.stderr


class TestNpz:
    def test_everything_at_full_precision(self, tmp_path):
        path = tmp_path / "clip.npz"
        write(path, "npz")
        for (_, _, poses), frame in zip(CLIP, read_poses_file(path), strict=True):
            for field in ("keypoints", "scores", "boxes", "box_scores", "covariances", "raw_scores"):
                if len(poses):
                    np.testing.assert_array_equal(getattr(frame.poses, field), getattr(poses, field))
            assert frame.size == SIZE
            assert frame.image == "walks/clip.mp4"

    def test_numpy_reads_it_without_wholepose(self, tmp_path):
        write(tmp_path / "clip.npz", "npz")
        with np.load(tmp_path / "clip.npz", allow_pickle=False) as arrays:
            assert arrays["people"].tolist() == [2, 0, 3, 1]
            assert arrays["keypoints"].shape == (6, 136, 2)
            assert "filled" not in arrays.files

    def test_only_some_frames_have_covariances(self, tmp_path):
        clip = [(0, 0.0, people([1], covariances=None)), (1, 0.1, people([1])), (2, 0.2, people([1], covariances=None))]
        write(tmp_path / "clip.npz", "npz", clip)
        found = [frame.poses.covariances for frame in read_poses_file(tmp_path / "clip.npz")]
        assert [each is None for each in found] == [True, False, True]


class TestTrc:
    def test_header_blanks_and_frames(self, tmp_path):
        scores = np.full((1, 26), 0.9)
        scores[0, 3] = 0.1
        clip = [
            (10, 0.4, people([5], HALPE26, scores=scores)),
            (11, 0.44, Poses.empty(HALPE26)),
            (12, 0.48, people([5], HALPE26)),
        ]
        write(tmp_path / "clip.trc", "trc", clip, HALPE26)
        lines = (tmp_path / "clip_person5.trc").read_text().split("\n")
        assert lines[0] == "PathFileType\t4\t(X/Y/Z)\tclip_person5.trc"
        header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
        assert header["NumFrames"] == "3"
        assert header["NumMarkers"] == "26"
        assert header["Units"] == "px"
        assert float(header["DataRate"]) == pytest.approx(25)
        assert lines[3].startswith("Frame#\tTime\tnose\t\t\tleft_eye\t\t\t")
        assert lines[5] == ""
        rows = [line.split("\t") for line in lines[6:] if line]
        assert [row[0] for row in rows] == ["11", "12", "13"]
        assert all(len(row) == 2 + 3 * 26 for row in rows)
        assert rows[0][2 + 3 * 3 : 2 + 3 * 4] == ["", "", ""]
        assert not any(rows[1][2:])
        assert float(rows[1][1]) == pytest.approx(0.44)

    def test_metres_with_y_up(self, tmp_path):
        poses = people([0], COCO17)
        write(tmp_path / "clip.trc", "trc", [(0, 0.0, poses)], COCO17, metres_per_pixel=0.01)
        lines = (tmp_path / "clip_person0.trc").read_text().split("\n")
        x, y, z = (float(cell) for cell in lines[6].split("\t")[2:5])
        assert x == pytest.approx(0.01 * poses.keypoints[0, 0, 0], abs=1e-6)
        assert y == pytest.approx(0.01 * (479 - poses.keypoints[0, 0, 1]), abs=1e-6)
        assert z == 0
        with pytest.raises(AnnotationError, match="'m'"):
            list(read_poses_file(tmp_path / "clip.trc"))

    def test_people_who_cannot_be_told_apart(self, tmp_path):
        with (
            open_writer(tmp_path / "clip.trc", skeleton=HALPE136, model="m") as writer,
            pytest.raises(ConfigError, match="nothing tells who is who of these 2"),
        ):
            writer.write(0, 0.0, people([1, 2], track_ids=None), image="a", size=SIZE)


def test_options_that_a_format_does_not_take(tmp_path):
    for name, option in (("csv", {"uncertainty": True}), ("jsonl", {"metres_per_pixel": 0.1})):
        with pytest.raises(ConfigError, match=f"{name}.*{next(iter(option))}"):
            open_writer(tmp_path / "a", name, skeleton=HALPE136, model="m", **option)
    with pytest.raises(ConfigError, match="metres_per_pixel"):
        open_writer(tmp_path / "a.trc", skeleton=HALPE136, model="m", metres_per_pixel=-1)


def test_names_that_say_no_format(tmp_path):
    for name in (None, "c3d"):
        with pytest.raises(ConfigError, match="jsonl"):
            open_writer(tmp_path / "clip.c3d", name, skeleton=HALPE136, model="m")


def test_poses_of_another_skeleton_are_converted(tmp_path):
    with open_writer(tmp_path / "clip.jsonl", skeleton=COCO17, model="m") as writer:
        writer.write(0, 0.0, CLIP[0][2], image="a.mp4", size=SIZE)
    (frame,) = read_poses_file(tmp_path / "clip.jsonl")
    np.testing.assert_allclose(frame.poses.keypoints, CLIP[0][2].keypoints[:, :17], atol=1e-3)
