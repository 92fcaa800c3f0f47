"""`wholepose predict` on videos: results of each format, drawings, names, options, exit codes."""

import dataclasses
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from wholepose.cli.main import main
from wholepose.cli.predict_videos import stream_clips
from wholepose.cli.words import frame_range
from wholepose.draw import Trails, draw_poses
from wholepose.formats import read_poses_file
from wholepose.images import load_image, save_image
from wholepose.smoothing import smooth_sequence
from wholepose.videos import open_video

BOX = "0,0,64,48"
FRAMES = 12


@pytest.fixture(scope="module")
def model(tiny_models, tmp_path_factory):
    return tiny_models.save_heatmap_model(tmp_path_factory.mktemp("model") / "tiny.onnx", name="tiny")


@pytest.fixture(scope="module")
def source(tiny_videos, tmp_path_factory):
    return tiny_videos.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES, audio="aac")


@pytest.fixture
def work(source, tiny_videos, tmp_path, monkeypatch):
    """The working folder, with in/clip.mp4 and in/photo.png."""
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "clip.mp4")
    save_image(tmp_path / "in" / "photo.png", tiny_videos.blob_frame(0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predict(model, capsys):
    """Runs the command in this process; gives exit code, stdout and stderr."""

    def run(*words):
        capsys.readouterr()
        code = main(["predict", "--model", str(model), "--threads", "1", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_pictures_and_videos_in_one_command(predict, work, tiny_videos):
    code, out, err = predict("in", "--box", BOX, "--out", "out", "--draw")
    assert (code, out) == (0, "")
    assert names_in("out") == ["clip.jsonl", "clip_poses.mp4", "photo.json", "photo_poses.png"]
    assert err.splitlines()[-1].startswith("1 picture, 1 video of 12 frames, 2 people, ")
    lines = [json.loads(line) for line in (work / "out" / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    for line in lines:
        assert line["time_s"] == pytest.approx(line["frame"] / 10, abs=1e-5)
        assert (line["image"], line["height"], line["width"], line["model"]) == ("in/clip.mp4", 48, 64, "tiny")
        assert line["people"][0]["track_id"] == 0
        place = line["people"][0]["keypoints"][0][:2]
        np.testing.assert_allclose(place, tiny_videos.blob_center(line["frame"]), atol=0.7)


def test_lines_on_stdout(predict, work):
    code, out, err = predict("in/clip.mp4", "in/photo.png", "--box", BOX, "--no-track", "--uncertainty")
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    assert [document.get("frame") for document in documents] == [*range(FRAMES), None]
    assert "track_id" not in documents[0]["people"][0]
    assert len(documents[0]["people"][0]["covariances"]) == 136
    assert "->" not in err


def test_drawing_keeps_time_and_sound(predict, work):
    assert predict("in/clip.mp4", "--box", BOX, "--out", "out", "--draw", "--frames", "2:11:3")[0] == 0
    with open_video("out/clip_poses.mp4") as reader:
        assert reader.info.has_audio
        frames = list(reader)
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.3, 0.6], atol=1e-3)
    lines = (work / "out" / "clip.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [2, 5, 8]
    with av.open("out/clip_poses.mp4") as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_black_background_and_trails(predict, work, tiny_videos):
    words = ("in", "--box", BOX, "--out", "out", "--draw", "--black", "--trails", 8)
    assert predict(*words)[0] == 0
    drawn = load_image("out/photo_poses.png")
    assert drawn[40:, 50:].max() == 0
    last = [frame.image for frame in open_video("out/clip_poses.mp4")][-1]
    (x0, y0), (x1, _) = tiny_videos.blob_center(5), tiny_videos.blob_center(FRAMES - 1)
    assert last[round(y0) - 1 : round(y0) + 2, round(x0)].max() > 60  # the path
    assert last[44:, round(x1) + 12 :].max() < 30


def test_whole_image_and_smoothing(predict, work):
    code, out, _ = predict("in/clip.mp4", "--whole-image", "--smooth")
    assert code == 0
    assert all(json.loads(line)["people"][0]["box"] == [0, 0, 64, 48] for line in out.splitlines())


def test_smoothing_ahead(predict, work, tiny_videos):
    """The film shows what the file says; filled keypoints are marked; the sound stays."""
    assert predict("in/clip.mp4", "--box", BOX, "--out", "plain", "--draw", "--frames", "1:")[0] == 0
    assert predict("in/clip.mp4", "--box", BOX, "--out", "calm", "--draw", "--frames", "1:", "--smooth-ahead")[0] == 0
    assert names_in("calm") == names_in("plain") == ["clip.jsonl", "clip_poses.mp4"]
    plain, calm = (list(read_poses_file(f"{folder}/clip.jsonl")) for folder in ("plain", "calm"))
    expected = smooth_sequence(plain)
    assert [frame.frame_index for frame in calm] == list(range(1, FRAMES))
    for frame, wanted in zip(calm, expected, strict=True):
        np.testing.assert_allclose(frame.poses.keypoints, wanted.poses.keypoints, atol=0.02)  # files are rounded
    with open_video("calm/clip_poses.mp4") as reader:
        assert reader.info.has_audio
        drawn = list(reader)
    source = list(open_video("in/clip.mp4", start=1))
    assert len(drawn) == FRAMES - 1
    for frame, posed, original in zip(drawn, calm, source, strict=True):
        shown = draw_poses(original.image, posed.poses, show_ids=True)
        assert np.abs(frame.image.astype(int) - shown).mean() < 12
    lines = predict("in/clip.mp4", "--box", BOX, "--smooth-ahead")[1].splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(FRAMES))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("coco", ["clip_coco.json", "coco_images.json", "coco_results.json"]),
        ("csv", ["clip.csv", "pictures.csv"]),
        ("npz", ["clip.npz", "pictures.npz"]),
        ("alphapose", ["clip_alphapose.json", "pictures_alphapose.json"]),
        ("angles", ["clip_angles.csv", "pictures_angles.csv"]),
    ],
)
def test_formats(predict, work, name, files):
    assert predict("in", "--box", BOX, "--out", "out", "--format", name)[0] == 0
    assert names_in("out") == files
    if name in ("csv", "npz"):
        frames = list(read_poses_file(f"out/{files[0]}"))
        assert [frame.frame_index for frame in frames] == list(range(FRAMES))


def test_openpose_folder(predict, work):
    assert predict("in/clip.mp4", "--box", BOX, "--out", "out", "--format", "openpose")[0] == 0
    assert len(names_in("out/clip_openpose")) == FRAMES


def test_names_of_results(predict, work):
    """A video and a picture of one name keep their results apart."""
    shutil.copy(work / "in" / "photo.png", work / "in" / "clip.png")
    assert predict("in", "--box", BOX, "--out", "out")[0] == 0
    assert names_in("out") == ["clip.mp4.jsonl", "clip.png.json", "photo.json"]
    clips = stream_clips(["webcam:0", "rtsp://user:pw@host/a/b?c=1", "rtsp://host/a/b"], ["webcam_0"])
    assert [clip.result_name for clip in clips] == ["webcam_0_2", "host_a_b", "host_a_b_2"]
    assert clips[1].name == "rtsp://host/a/b?c=1"


def test_results_of_pictures_and_of_a_video_of_that_name(predict, work):
    """All pictures go into one file, pictures.csv, and a video called pictures.mp4 gets another."""
    shutil.copy("in/clip.mp4", "in/pictures.mp4")
    assert predict("in", "--box", BOX, "--out", "out", "--format", "csv")[0] == 0
    assert names_in("out") == ["clip.csv", "pictures.csv", "pictures_2.csv"]
    assert "photo.png" in (work / "out" / "pictures.csv").read_text()
    assert "pictures.mp4" in (work / "out" / "pictures_2.csv").read_text()


def test_a_folder_that_cannot_be_replaced_fails_its_video_alone(predict, work):
    shutil.copy("in/clip.mp4", "in/a.mp4")
    (work / "out" / "a_openpose").mkdir(parents=True)
    (work / "out" / "a_openpose" / "mine.txt").touch()
    (work / "out" / "clip_openpose").mkdir()
    (work / "out" / "clip_openpose" / ".DS_Store").touch()  # nobody's own
    code, _, err = predict("in/a.mp4", "in/clip.mp4", "--box", BOX, "--out", "out", "--format", "openpose")
    assert code == 1
    assert "a_openpose already holds 'mine.txt'" in err
    assert len(names_in("out/clip_openpose")) == FRAMES


def test_a_drawing_never_replaces_an_input(predict, work):
    shutil.copy(work / "in" / "clip.mp4", work / "in" / "clip_poses.mp4")
    before = (work / "in" / "clip_poses.mp4").read_bytes()
    code, _, err = predict("in", "--box", BOX, "--out", "in", "--draw")
    assert code == 1
    assert "in/clip.mp4: its results would replace the input in/clip_poses.mp4" in err
    assert (work / "in" / "clip_poses.mp4").read_bytes() == before
    assert (work / "in" / "clip_poses_poses.mp4").is_file()


def test_failures_are_listed(predict, work, tiny_videos):
    """FAULTS 19, 20: the rest is done, and the exit code tells."""
    tiny_videos.damage(tiny_videos.write_video(work / "in" / "damaged.mp4", 12), [3])
    (work / "in" / "words.mp4").write_text("words")
    code, _, err = predict("in", "webcam:97", "http://127.0.0.1:9/x.jpg", "--box", BOX, "--out", "out", "--draw")
    assert code == 1
    assert "4 inputs failed:" in err
    assert "in/damaged.mp4: 1 frame of it cannot be read (damaged or cut off); the other 11 are done" in err
    assert "in/words.mp4: is no video that can be read; the file is a text" in err
    assert "webcam:97: cannot be opened" in err
    assert "x.jpg: is an address; save the picture" in err
    assert names_in("out") == [
        *("clip.jsonl", "clip_poses.mp4", "damaged.jsonl", "damaged_poses.mp4", "photo.json", "photo_poses.png"),
    ]


def test_a_box_outside_the_picture(predict, work):
    """Every frame has its document, and the person a low score."""
    code, out, _ = predict("in/clip.mp4", "--box", "200,200,210,210")
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    assert [document["people"][0]["score"] for document in documents] == [0] * FRAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--box", BOX, "--detect-every", 3), "--detect-every says when to look for people, and --box says where"),
        (("--box", BOX, "--trails", 3), "--trails goes with --draw"),
        (("--box", BOX, "--smooth", "--no-track"), "smoothing needs to know who is who"),
        (("webcam:0", "--box", BOX, "--smooth-ahead"), "--smooth-ahead waits for what comes next, cameras"),
        (("--box", BOX, "--smooth-ahead", "--show"), "--smooth-ahead waits for what comes next, cameras"),
        (("--box", BOX, "--smooth-ahead", "--smooth"), "not allowed with argument"),
        (("--box", BOX, "--black"), "--black goes with --draw"),
        (("--box", BOX, "--format", "csv"), "--format csv writes files: say where with --out"),
        (("--boxes", "b.csv"), "--boxes: the file lists boxes by picture, which frames of a video are not"),
        (("--box", BOX, "--out", "out", "--draw", "--trails", 3, "--no-track"), "--trails needs to know who is who"),
        (("--box", BOX, "--out", "out", "--uncertainty", "--format", "csv"), "--uncertainty goes with --format json"),
    ],
)
def test_contradictions(predict, work, words, message):
    code, out, err = predict("in/clip.mp4", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_frame_ranges():
    assert frame_range("3:9") == (3, 9, 1)
    assert frame_range(":9:2") == (None, 9, 2)
    assert frame_range("5:") == (5, None, 1)


@pytest.mark.parametrize("text", ["", "5", "5:5", "9:3", "1:2:0", "-1:5", "a:b", "1:2:3:4"])
def test_frame_ranges_that_are_none(predict, work, text):
    code, _, err = predict("in/clip.mp4", "--box", BOX, f"--frames={text}")
    assert code == 2
    assert "argument --frames" in err


def test_frames_beyond_the_end_are_a_failure(predict, work):
    code, _, err = predict("in/clip.mp4", "--box", BOX, "--out", "out", "--draw", "--frames", "100:200")
    assert code == 1
    assert "in/clip.mp4: ends before frame 100" in err
    assert not list(Path("out").glob("*"))


def test_ids_and_trails_are_drawn(predict, work):
    """Numbers stand above the head; a path has a gap where a place was not seen."""
    assert predict("in/clip.mp4", "--box", BOX, "--out", "out")[0] == 0
    people = [frame.poses for frame in read_poses_file("out/clip.jsonl")]
    black = np.zeros((96, 128, 3), np.uint8)
    plain, numbered = draw_poses(black, people[0]), draw_poses(black, people[0], show_ids=True)
    assert (plain != numbered).any()
    trails = Trails(3)
    first = trails.draw(black, people[0])
    assert first.max() == 0  # no path yet
    assert trails.draw(black, people[6]).max() > 100
    gone = Trails(3)
    gone.draw(black, people[0])
    gone.draw(black, people[1][[]])
    assert gone.draw(black, people[2]).max() == 0
    with pytest.raises(ValueError, match="at least 1 frame"):
        Trails(0)


def test_trails_of_a_box_beyond_all_bounds(predict, work):
    assert predict("in/clip.mp4", "--box", BOX, "--out", "out")[0] == 0
    people = [frame.poses for frame in read_poses_file("out/clip.jsonl")]
    drawn = []
    for largest in (128, 1e9):
        trails = Trails(3)
        for poses in people[:7:6]:
            boxes = np.array([[0, 0, largest, largest]], np.float32)
            image = trails.draw(np.zeros((96, 128, 3), np.uint8), dataclasses.replace(poses[:1], boxes=boxes))
        drawn.append((image > 0).any(axis=2).mean())
    assert 0 < drawn[0] <= drawn[1] < 2 * drawn[0]


def test_videos_of_the_shared_folder(predict, shared, tmp_path):
    for path in sorted((shared / "data" / "video").glob("*.*")):
        code, out, _ = predict(path, "--whole-image", "--frames", "0:5")
        assert code == 0
        assert len(out.splitlines()) == 5
