"""Writing videos: what players need, sound, times, sizes, and files that are whole or absent (FAULTS 35)."""

import av
import numpy as np
import pytest

from wholepose.errors import VideoError
from wholepose.videos import VideoWriter, open_video


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (2, 2), (1, 5)])
def test_round_trip(tmp_path, size):
    """Every frame at its time; odd sides grow by one."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (7, 3))
    with VideoWriter(tmp_path / "o.mp4", 10) as writer:
        for index, colour in enumerate(colours):
            writer.write(np.full((*size, 3), colour, np.uint8), index / 10)
    with open_video(tmp_path / "o.mp4") as reader:
        assert reader.info.size == tuple(side + side % 2 for side in size)
        assert reader.info.frame_rate == pytest.approx(10)
        frames = list(reader)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(7) / 10, atol=1e-4)
    for frame, colour in zip(frames, colours, strict=True):
        np.testing.assert_allclose(frame.image.reshape(-1, 3).mean(axis=0), colour, atol=6)
    assert names_in(tmp_path) == ["o.mp4"]


def test_browsers_play_it(tmp_path):
    """H.264 in 4:2:0 with the table of contents in front of the pictures."""
    with VideoWriter(tmp_path / "o.mp4", 30) as writer:
        for index in range(3):
            writer.write(np.zeros((48, 64, 3), np.uint8), index / 30)
    data = (tmp_path / "o.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "o.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_times_of_its_own(tmp_path):
    """A variable rate stays one; the first frame comes at once, and time never runs backwards."""
    with VideoWriter(tmp_path / "o.mp4", 10) as writer:
        for time_s in (3.0, 3.1, 3.5, 3.4, 4.0):
            writer.write(np.zeros((16, 16, 3), np.uint8), time_s)
    times = [frame.time_s for frame in open_video(tmp_path / "o.mp4")]
    np.testing.assert_allclose(times, [0, 0.1, 0.5, 0.5, 1.0], atol=1e-3)
    assert (np.diff(times) > 0).all()


def write_again(source, path, **which):
    """Writes frames of a video, and the sound that goes with them, to another."""
    with (
        open_video(source, **which) as reader,
        VideoWriter(path, 10, audio_from=source, audio_start_s=reader.info.start_s) as writer,
    ):
        for frame in reader:
            writer.write(frame.image, frame.time_s)


def tone_seconds(path):
    """Loudness in hundredths of a second."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 8000)
        pieces = [
            (piece.time, piece.to_ndarray()[0])
            for frame in container.decode(audio=0)
            for piece in resampler.resample(frame)
        ]
    return pieces[0][0], np.concatenate([samples for _, samples in pieces])


@pytest.mark.parametrize(("name", "codec", "written"), [("a.mp4", "aac", "aac"), ("a.avi", "pcm_s16le", "aac")])
def test_sound_comes_along(tiny_videos, tmp_path, name, codec, written):
    """Copied where MP4 takes it, else encoded anew; as long as the pictures."""
    source = tiny_videos.write_video(tmp_path / name, 20, audio=codec)
    write_again(source, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == written
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 20
    _, samples = tone_seconds(tmp_path / "o.mp4")
    assert len(samples) / 8000 == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples[4000:12000]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "times"),
    [
        ("mp3.avi", "libmp3lame", 44100, 1),  # counted in packets, which is too coarse for pieces of them
        ("pcm.avi", "pcm_s16le", 11024, 1),  # a rate that AAC does not know
        ("pcm.mov", "pcm_s16le", 192_000, 1),
        ("joined.ts", "aac", 44100, 2),  # its clock jumps back where the second recording begins
    ],
)
def test_sound_of_any_clock_and_rate(tiny_videos, tmp_path, name, codec, rate, times):
    """Sound is carried over whole, and is no reason to lose the pictures."""
    source = tiny_videos.write_video(tmp_path / name, 20, audio=codec, audio_rate=rate)
    source.write_bytes(source.read_bytes() * times)
    write_again(source, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 20 * times
    _, samples = tone_seconds(tmp_path / "o.mp4")
    assert len(samples) / 8000 == pytest.approx(2.0 * times, abs=0.25)  # in AVI the pictures begin 0.2 s later
    spectrum = np.abs(np.fft.rfft(samples[4000:12000]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


def test_sound_of_a_part(tiny_videos, tmp_path):
    """Frames 5 to 9 get half a second of sound, which starts with them."""
    source = tiny_videos.write_video(tmp_path / "a.mp4", 20, audio="aac")
    write_again(source, tmp_path / "o.mp4", start=5, stop=10)
    start, samples = tone_seconds(tmp_path / "o.mp4")
    assert start == pytest.approx(0, abs=0.05)
    assert len(samples) / 8000 == pytest.approx(0.5, abs=0.1)


def test_no_sound_to_copy(tiny_videos, tmp_path):
    source = tiny_videos.write_video(tmp_path / "a.mp4", 2)
    with VideoWriter(tmp_path / "o.mp4", 10, audio_from=source) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), 0)
    with open_video(tmp_path / "o.mp4") as reader:
        assert not reader.info.has_audio


def test_frames_of_other_sizes_are_fitted(tmp_path):
    with VideoWriter(tmp_path / "o.mp4", 10) as writer:
        for size in ((48, 64), (96, 64), (10, 300), (48, 64)):
            writer.write(np.full((*size, 3), 255, np.uint8), 0)
    images = [frame.image for frame in open_video(tmp_path / "o.mp4")]
    assert [image.shape for image in images] == [(48, 64, 3)] * 4
    assert images[1][24, 32].min() > 240  # in the middle
    assert images[1][24, 2].max() < 16  # black at the sides
    assert images[2][2, 32].max() < 16


def test_nothing_under_its_name_before_it_is_complete(tmp_path):
    """FAULTS 35."""
    (tmp_path / "o.mp4").write_bytes(b"old")
    writer = VideoWriter(tmp_path / "o.mp4", 10)
    for index in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8), index / 10)
    assert (tmp_path / "o.mp4").read_bytes() == b"old"
    writer.close()
    writer.close()
    assert len(list(open_video(tmp_path / "o.mp4"))) == 5
    with pytest.raises(VideoError, match="is complete"):
        writer.write(np.zeros((48, 64, 3), np.uint8), 1)


@pytest.mark.parametrize("frames", [0, 4])
def test_an_exception_leaves_the_old_file(tmp_path, frames):
    """FAULTS 35."""
    (tmp_path / "o.mp4").write_bytes(b"old")

    def write_and_fail():
        with VideoWriter(tmp_path / "o.mp4", 10) as writer:
            for index in range(frames):
                writer.write(np.zeros((48, 64, 3), np.uint8), index / 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert names_in(tmp_path) == ["o.mp4"]
    assert (tmp_path / "o.mp4").read_bytes() == b"old"


def test_no_frames_no_file(tmp_path):
    with VideoWriter(tmp_path / "o.mp4", 10):
        pass
    assert names_in(tmp_path) == []


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(VideoError, match=r"o\.gif: H\.264 is written to \.mp4"):
        VideoWriter(tmp_path / "o.gif", 10)
    with pytest.raises(VideoError, match="frame rate of 0"):
        VideoWriter(tmp_path / "o.mp4", 0)
    with pytest.raises(OSError, match="No such file"), VideoWriter(tmp_path / "missing" / "o.mp4", 10) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), 0)
    with VideoWriter(tmp_path / "o.mp4", 10) as writer:
        for wrong in (np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3)), np.zeros((0, 16, 3), np.uint8)):
            with pytest.raises(ValueError, match="frames must be"):
                writer.write(wrong, 0)
