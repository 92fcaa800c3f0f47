"""Reading videos: frames, numbers, times, ranges, rotation, sizes, and what is no video (FAULTS 19-21)."""

import http.server
import os
import sys
import threading
from functools import partial

import numpy as np
import pytest

from wholepose.errors import VideoError
from wholepose.videos import Frame, is_stream, is_video_file, open_video, source_name


@pytest.fixture(scope="module")
def clip(tiny_videos, tmp_path_factory):
    """12 frames, 10 a second, with sound."""
    return tiny_videos.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 12, audio="aac")


def test_frames_and_what_is_known_before(clip, tiny_videos):
    with open_video(clip) as reader:
        info = reader.info
        frames = list(reader)
    assert (info.size, info.frame_rate, info.frame_count, info.rotation_deg) == ((48, 64), 10.0, 12, 0)
    assert (info.has_audio, info.codec, info.is_live) == (True, "h264", False)
    assert info.duration_s == pytest.approx(1.2, abs=0.1)
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 10, atol=1e-6)
    assert reader.lost_frames == 0
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        np.testing.assert_allclose(tiny_videos.blob_place(frame.image), tiny_videos.blob_center(frame.index), atol=0.5)


@pytest.mark.parametrize(
    ("start", "stop", "stride"), [(None, None, 1), (3, None, 1), (None, 5, 1), (2, 11, 3), (0, 100, 5), (20, None, 1)]
)
def test_ranges_are_slices(clip, start, stop, stride):
    with open_video(clip, start=start, stop=stop, stride=stride) as reader:
        expected = list(range(12))[slice(start, stop, stride)]
        assert reader.expected_frames == len(expected)
        assert [frame.index for frame in reader] == expected


def test_ranges_that_are_none(clip):
    for wrong in ({"start": -1}, {"stop": -3}, {"stride": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            open_video(clip, **wrong)


def test_colours(tiny_videos, tmp_path):
    colours = [(200, 30, 40), (20, 180, 60), (30, 50, 220), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    path = tiny_videos.write_video(tmp_path / "c.mp4", [np.full((48, 64, 3), colour, np.uint8) for colour in colours])
    for frame, colour in zip(open_video(path), colours, strict=True):
        np.testing.assert_allclose(frame.image.reshape(-1, 3).mean(axis=0), colour, atol=4)


def test_a_trimmed_file_is_whole(tiny_videos, tmp_path):
    """An edit list hides frames that are still in the file; they are neither shown nor missing."""
    path = tiny_videos.write_video(tmp_path / "a.mp4", 24)
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # after its version and its number of entries: the first one's duration
    data[entry : entry + 4] = (int.from_bytes(data[entry : entry + 4], "big") // 2).to_bytes(4, "big")
    path.write_bytes(data)
    with open_video(path) as reader:
        frames = list(reader)
    assert 12 <= len(frames) <= 14
    assert reader.lost_frames == 0


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"pix_fmt": "yuv444p"}),
        ("a.mkv", {"pix_fmt": "yuv422p"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.ts", {}),
        ("a.webm", {"container": "matroska"}),
    ],
)
def test_containers_and_pixel_formats(tiny_videos, tmp_path, name, how):
    """FAULTS 21: each frame as RGB, whatever its pixel format."""
    path = tiny_videos.write_video(tmp_path / name, 5, **how)
    frames = list(open_video(path))
    assert [frame.index for frame in frames] == list(range(5))
    for frame in frames:
        np.testing.assert_allclose(tiny_videos.blob_place(frame.image), tiny_videos.blob_center(frame.index), atol=0.7)


# What a display matrix (a, b, c, d) does to a picture, and the rotation it is called.
ORIENTATIONS = [
    ((1, 0, 0, 1), lambda image: image, 0),
    ((0, 1, -1, 0), lambda image: np.rot90(image, -1), 90),
    ((-1, 0, 0, -1), lambda image: np.rot90(image, 2), 180),
    ((0, -1, 1, 0), lambda image: np.rot90(image, 1), 270),
    ((-1, 0, 0, 1), lambda image: image[:, ::-1], None),
    ((1, 0, 0, -1), lambda image: image[::-1], None),
    ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2), None),
    ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2), None),
]


@pytest.mark.parametrize(("signs", "turn", "degrees"), ORIENTATIONS)
def test_rotation(tiny_videos, tmp_path, signs, turn, degrees):
    """FAULTS 21: frames are upright."""
    path = tiny_videos.write_video(tmp_path / "r.mp4", 2)
    expected = [turn(frame.image) for frame in open_video(path)]
    tiny_videos.set_display_matrix(path, signs)
    with open_video(path) as reader:
        assert reader.info.size == expected[0].shape[:2]
        if degrees is not None:
            assert reader.info.rotation_deg == degrees
        for frame, pixels in zip(reader, expected, strict=True):
            np.testing.assert_array_equal(frame.image, pixels)
            assert frame.image.flags.c_contiguous


def test_a_matrix_that_is_no_rotation_is_passed_over(tiny_videos, tmp_path):
    path = tiny_videos.write_video(tmp_path / "r.mp4", 2)
    for signs in ((1, 1, -1, 1), (0, 0, 0, 0)):
        tiny_videos.set_display_matrix(path, signs)
        assert [frame.image.shape for frame in open_video(path)] == [(48, 64, 3)] * 2


def test_variable_rate(tiny_videos, tmp_path):
    """FAULTS 21: times are the frames' own."""
    ticks = [0, 1, 5, 6, 20, 21]
    path = tiny_videos.write_video(tmp_path / "v.mp4", 6, ticks=ticks)
    np.testing.assert_allclose([frame.time_s for frame in open_video(path)], np.array(ticks) / 10, atol=1e-4)


def test_size_changes_in_the_stream(tiny_videos, tmp_path):
    """FAULTS 21: each frame in its own pixels."""
    path = tiny_videos.write_two_sizes(tmp_path / "two.h264", 4, 3, (64, 96))
    frames = list(open_video(path))
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64)] * 4 + [(64, 96)] * 3
    for frame, index in zip(frames, [0, 1, 2, 3, 0, 1, 2], strict=True):
        np.testing.assert_allclose(tiny_videos.blob_place(frame.image), tiny_videos.blob_center(index), atol=0.5)


def test_damaged_packets_are_counted(tiny_videos, tmp_path):
    """FAULTS 19: what follows is read, under its own numbers."""
    path = tiny_videos.damage(tiny_videos.write_video(tmp_path / "d.mp4", 24), [7, 8, 15])
    with open_video(path) as reader:
        frames = list(reader)
    assert reader.lost_frames + len(frames) == 24
    assert reader.lost_frames >= 3
    assert frames[-1].index == 23
    for frame in frames:
        if frame.index >= 18:  # after the next key frame
            np.testing.assert_allclose(
                tiny_videos.blob_place(frame.image), tiny_videos.blob_center(frame.index), atol=0.5
            )


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_file_that_was_cut(tiny_videos, tmp_path, share):
    """FAULTS 19: the frames that are missing at the end count as lost."""
    path = tiny_videos.write_video(tmp_path / "cut.mp4", 24, options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with open_video(path) as reader:
        frames = list(reader)
    assert 0 < len(frames) < 24
    assert len(frames) + reader.lost_frames == 24


def test_one_frame(tiny_videos, tmp_path):
    """FAULTS 20."""
    with open_video(tiny_videos.write_video(tmp_path / "one.mp4", 1)) as reader:
        assert [frame.index for frame in reader] == [0]


def test_no_frame(tiny_videos, tmp_path):
    """FAULTS 20: a file whose packets are all noise, and one that is cut before its first frame."""
    noise = tiny_videos.damage(tiny_videos.write_video(tmp_path / "noise.mp4", 4), range(4))
    with pytest.raises(VideoError, match=r"noise\.mp4: no frame of it can be decoded"):
        open_video(noise)
    path = tiny_videos.write_video(tmp_path / "cut.mp4", 4, options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        open_video(path)


def test_missing_table_of_contents(clip, tmp_path):
    """FAULTS 20."""
    data = clip.read_bytes()
    (tmp_path / "m.mp4").write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(VideoError, match=r"m\.mp4: is an MP4 or MOV video that cannot be read: its table of contents"):
        open_video(tmp_path / "m.mp4")


def test_sound_only(tmp_path):
    """FAULTS 20."""
    import av

    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"sound\.m4a: has no pictures \(it has sound only\)"):
        open_video(path)


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "is empty"), (b"x", "a text"), (b"%PDF-1.7\n", "a PDF document"), (b"PK\x03\x04" + b"\0" * 99, "a ZIP")],
)
def test_what_is_no_video(tmp_path, data, found):
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(VideoError, match=rf"x\.mp4: .*{found}"):
        open_video(tmp_path / "x.mp4")


def test_what_is_no_file(tmp_path):
    with pytest.raises(VideoError, match=r"nothing\.mp4: cannot be opened \(No such file"):
        open_video(tmp_path / "nothing.mp4")
    with pytest.raises(VideoError, match="is no file but a folder"):
        open_video(tmp_path)
    with pytest.raises(VideoError, match="cannot be opened"):
        open_video("nul\0.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX names and pipes")
def test_names_and_pipes(clip, tmp_path):
    """FAULTS 12, for videos."""
    for name in (b"\xf0\x9f\x95\xba.mp4", b"\xff\xfe.mp4", b"concat:a|b.mp4", b"img%03d.mp4"):
        path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(clip.read_bytes())
        assert len(list(open_video(os.fsdecode(path)))) == 12
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="a pipe"):
        open_video(tmp_path / "pipe.mp4")


def test_closing_early_and_twice(clip):
    reader = open_video(clip)
    next(reader)
    reader.close()
    reader.close()
    assert list(reader) == []


def test_sources():
    assert is_stream("webcam:0")
    assert is_stream("rtsp://camera/1")
    assert is_stream("HTTP://host/a.mp4")
    assert not is_stream("http.mp4")
    assert not is_stream("file:///etc/passwd")
    assert source_name("rtsp://user:secret@camera/1") == "rtsp://camera/1"


def test_video_files_are_told_by_name_then_by_content(clip, tmp_path):
    assert is_video_file("somewhere/NOTHING.MOV")
    assert not is_video_file("photo.jpg")
    (tmp_path / "clip").write_bytes(clip.read_bytes())
    (tmp_path / "words").write_text("words")
    assert is_video_file(tmp_path / "clip")
    assert not is_video_file(tmp_path / "words")
    assert not is_video_file(tmp_path / "missing")


def test_cameras_that_are_not_there():
    with pytest.raises(VideoError, match="webcam:97: cannot be opened"):
        open_video("webcam:97")
    with pytest.raises(VideoError, match="webcam:front"):
        open_video("webcam:front")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


def test_addresses(clip):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(clip.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with open_video(f"http://127.0.0.1:{server.server_port}/clip.mp4") as reader:
            assert (reader.info.is_live, reader.expected_frames) == (False, 12)  # it waits for whoever reads it
            assert len(list(reader)) == 12
        with pytest.raises(VideoError, match=r"missing\.mp4: cannot be opened"):
            open_video(f"http://127.0.0.1:{server.server_port}/missing.mp4")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_times_rise(tiny_videos, tmp_path):
    """Also where the frames' own times stand still or jump back, as in two recordings joined."""
    first, second = (tiny_videos.write_video(tmp_path / f"{name}.ts", 6, gop=3) for name in "ab")
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    times = [frame.time_s for frame in open_video(path)]
    assert len(times) >= 11
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(np.diff(times), 0.1, atol=0.03)
