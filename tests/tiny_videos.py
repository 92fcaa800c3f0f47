"""Small videos whose frames can be told apart: frame i shows a white blob whose place says which one it is."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (48, 64)
RATE = 10


def blob_center(index: int) -> tuple[float, float]:
    """(x, y) of the blob in frame i."""
    return 14.0 + 1.5 * (index % 24), 24.0


def blob_frame(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frame i: (H, W, 3) uint8 RGB."""
    x, y = blob_center(index)
    rows, columns = np.mgrid[: size[0], : size[1]]
    blob = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    return np.repeat(blob.round().astype(np.uint8)[..., None], 3, axis=2)


def blob_place(image: np.ndarray) -> tuple[float, float]:
    """(x, y) of the blob in a picture."""
    grey = image.astype(np.float64).mean(axis=2)
    grey = np.where(grey > 40, grey, 0)
    rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]]
    return float((grey * columns).sum() / grey.sum()), float((grey * rows).sum() / grey.sum())


def write_video(
    path: Path,
    frames: int | Sequence[np.ndarray] = 12,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    audio: str | None = None,
    audio_rate: int = 44100,
    gop: int = 6,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a video of blobs, or of given frames, at RATE frames a second.

    Args:
        ticks: When each frame is shown, in 1/RATE s.
        audio: Codec of a tone of 440 Hz that goes with it.
        audio_rate: Its samples a second.
    """
    images = [blob_frame(index) for index in range(frames)] if isinstance(frames, int) else list(frames)
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        video = output.add_stream(codec, rate=RATE)
        video.height, video.width = (images[0] if images else blob_frame(0)).shape[:2]
        video.pix_fmt = pix_fmt
        video.options = {"crf": "12", "preset": "ultrafast", "g": str(gop)} if codec == "libx264" else {"qscale": "2"}
        sound = output.add_stream(audio, rate=audio_rate, layout="mono") if audio else None
        if sound is not None:
            write_tone(output, sound, len(images) / RATE)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, RATE)
            output.mux(video.encode(frame))
        if images:
            output.mux(video.encode(None))
    return path


def write_tone(output, stream, seconds: float) -> None:
    """Encodes a tone of 440 Hz."""
    times = np.arange(round(seconds * 44100)) / 44100
    samples = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        for piece in resampler.resample(frame):
            output.mux(stream.encode(piece))
    output.mux(stream.encode(None))


def packet_places(path: Path) -> list[tuple[int, int]]:
    """(offset, size) of each video packet in a file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def damage(path: Path, packets: Sequence[int], seed: int = 0) -> Path:
    """Overwrites packets of a file with noise."""
    data = bytearray(path.read_bytes())
    places = packet_places(path)
    noise = np.random.default_rng(seed)
    for number in packets:
        offset, size = places[number]
        data[offset : offset + size] = noise.integers(0, 256, size, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def set_display_matrix(path: Path, signs: tuple[int, int, int, int]) -> Path:
    """Notes a rotation in an MP4 file: (a, b, c, d) of its display matrix, where x' = ax + cy and y' = bx + dy."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * sign for sign in signs)
    data[start : start + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    path.write_bytes(data)
    return path


def write_two_sizes(path: Path, first: int, second: int, second_size: tuple[int, int]) -> Path:
    """A raw H.264 stream whose size changes after some frames."""
    data = b""
    for number, (count, size) in enumerate(((first, SIZE), (second, second_size))):
        part = path.with_name(f"part{number}.h264")
        write_video(part, [blob_frame(index, size) for index in range(count)], container="h264")
        data += part.read_bytes()
        part.unlink()
    path.write_bytes(data)
    return path
