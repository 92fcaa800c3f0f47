"""Frames out of videos: upright RGB, numbered and timed, with damage counted and passed over.

Convention:
    A frame's pixels are upright: the rotation that a phone notes in the file is applied, to each frame its own. Sizes
    are (height, width) in pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import VideoError
from wholepose.videos.sources import READ_TIMEOUT_S, is_download, is_stream, open_container, source_name

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

MAX_FRAME_PIXELS = 100_000_000
"""A file that claims larger frames is refused: 8K video has a third of that."""

_MOST_BAD_READS = 100  # in a row; after them the rest of a file is taken to be unreadable
_DEFAULT_FRAME_RATE = 25.0  # where a file says nothing
_MOV_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        index: Its place in the video, from 0; frames that are lost or left out by a stride count.
        time_s: When it is shown, in seconds after the first frame of the video; later than the frame before.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read through.

    Attributes:
        name: What messages call it.
        size: (height, width) of its first frame, upright; later ones may differ.
        frame_rate: Frames a second on average, as the file states it.
        frame_count: Number of frames, where the file lists them.
        duration_s: Seconds, where the file states them.
        rotation_deg: By how many degrees its first frame was turned clockwise to stand upright: 0, 90, 180 or 270.
        has_audio: Whether there is sound.
        codec: FFmpeg's name of the video codec.
        start_s: Time of the first frame on the file's own clock, which sound shares.
        is_live: A camera, or an address without a known end: frames that nobody takes are gone.
    """

    name: str
    size: tuple[int, int]
    frame_rate: float
    frame_count: int | None
    duration_s: float | None
    rotation_deg: int
    has_audio: bool
    codec: str
    start_s: float
    is_live: bool


def open_video(
    source: str | os.PathLike[str], *, start: int | None = None, stop: int | None = None, stride: int = 1
) -> VideoReader:
    """Opens a video and decodes its first frame.

    Args:
        source: Path of a file; ``webcam:N`` for a camera; an ``rtsp://`` or ``http://`` address.
        start: Number of the first frame to give, from 0.
        stop: Number of the first frame not to give any more.
        stride: Give every so many-th frame from ``start`` on.

    Returns:
        A reader to iterate over once.

    Raises:
        VideoError: There is no such source, or no picture in it can be decoded.
        ValueError: A range or stride below what is possible.
    """
    return VideoReader(source, start=start, stop=stop, stride=stride)


class VideoReader:
    """Iterates over the frames of a video; see ``open_video``. One thread at a time may use it."""

    def __init__(
        self, source: str | os.PathLike[str], *, start: int | None = None, stop: int | None = None, stride: int = 1
    ) -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        for what, value in (("start", start), ("stop", stop)):
            if value is not None and value < 0:
                raise ValueError(f"{what} must be 0 or more, not {value}")
        self.source = source
        self._start, self._stop, self._stride = start or 0, stop, stride
        self._lost = 0
        self._index = 0
        self._packets = 0
        self._last_time_s, self._clock_shift_s = -math.inf, 0.0
        self._name = source_name(source)
        self._container, self._file = open_container(source)
        try:
            self._stream = self._choose_stream()
            self._decoder = self._decode()
            self._first: tuple[int, VideoFrame] | None = next(self._decoder, None)
            if self._first is None:
                raise VideoError(f"{self._name}: no frame of it can be decoded")
            self.info = self._describe(self._first[1])
        except BaseException:
            self.close()
            raise
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lost_frames(self) -> int:
        """How many frames so far could not be decoded, or are missing at the end of a file that was cut."""
        return self._lost

    @property
    def expected_frames(self) -> int | None:
        """How many frames will be given, as far as the file says; None where nobody knows."""
        total = self.info.frame_count
        if total is None and self.info.duration_s is not None:
            total = max(1, round(self.info.duration_s * self.info.frame_rate))
        if self._stop is not None:
            total = self._stop if total is None or self.info.is_live else min(total, self._stop)
        return None if total is None else max(0, -(-(total - self._start) // self._stride))

    def close(self) -> None:
        """Closes the source; iterating ends. Closing twice is fine."""
        self._first = None
        self._container.close()
        if self._file is not None:
            self._file.close()
        self._frames = iter(())

    def _choose_stream(self) -> VideoStream:
        from av.stream import Disposition

        streams = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & Disposition.attached_pic  # the cover of a song
        ]
        if not streams:
            sound = " (it has sound only)" if self._container.streams.audio else ""
            raise VideoError(f"{self._name}: has no pictures{sound}")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{self._name}: its pictures are coded in a way that FFmpeg does not know")
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        return stream

    def _describe(self, first: VideoFrame) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        frame_rate = float(rate) if rate is not None and 0 < rate <= 1000 else _DEFAULT_FRAME_RATE
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / 1_000_000
        duration = duration if duration is not None and duration > 0 else None
        frame_count = stream.frames if stream.frames > 0 else None
        turn = _turn(first)
        height, width = first.height, first.width
        swapped = turn is not None and turn[0][0] == 0
        return VideoInfo(
            name=self._name,
            size=(width, height) if swapped else (height, width),
            frame_rate=frame_rate,
            frame_count=frame_count,
            duration_s=duration,
            rotation_deg=_rotation_deg(turn),
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            start_s=0.0 if first.pts is None else first.time,
            is_live=is_stream(self.source) and not (is_download(self.source) and (duration or frame_count)),
        )

    def _read(self) -> Iterator[Frame]:
        """The chosen frames, as RGB."""
        from av.video.reformatter import VideoReformatter

        convert = VideoReformatter()  # keeps its tables from frame to frame
        while True:
            numbered = self._first or next(self._decoder, None)
            self._first = None
            if numbered is None:
                return
            index, frame = numbered
            if self._stop is not None and index >= self._stop:
                return
            time_s = self._time_s(frame, index)
            if index < self._start or (index - self._start) % self._stride:
                continue
            pixels: NDArray[Any] = convert.reformat(frame, format="rgb24").to_ndarray()
            yield Frame(_upright(pixels, _turn(frame)), index, time_s)
            del numbered, frame, pixels  # they would live on while the caller works

    def _time_s(self, frame: VideoFrame, index: int) -> float:
        """When a frame is shown. Where the clock stands still or jumps back, it goes on from the frame before."""
        known_s = index / self.info.frame_rate if frame.pts is None else frame.time - self.info.start_s
        time_s = float(known_s) + self._clock_shift_s
        if time_s <= self._last_time_s:
            goes_on_s = self._last_time_s + 1 / self.info.frame_rate
            self._clock_shift_s += goes_on_s - time_s
            time_s = goes_on_s
        self._last_time_s = time_s
        return time_s

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        """Numbers and frames, in the order in which they are shown; counts what is lost."""
        from av.error import EOFError as FFmpegEndOfFile
        from av.error import FFmpegError

        for packet in self._demux():
            flush = packet.size == 0
            for _ in range(_MOST_BAD_READS if flush else 1):
                try:
                    frames = packet.decode()
                except FFmpegEndOfFile:
                    break
                except FFmpegError:
                    self._index += 1
                    self._lost += 1
                    continue
                for frame in frames:
                    index = self._index
                    self._index += 1
                    if frame.is_corrupt:  # patched up from its neighbours, or grey
                        self._lost += 1
                    else:
                        yield index, frame
                break
        # A file that lists its frames tells how many are missing where it was cut; others do not know. Frames that an
        # edit list hides, as where somebody trimmed a video, are not in the index.
        if self._container.format.name == _MOV_FORMATS:
            entries = getattr(self._stream, "index_entries", None)  # PyAV up to 16 has no such attribute
            self._lost += max(0, (self._stream.frames if entries is None else len(entries)) - self._packets)

    def _demux(self) -> Iterator[Any]:
        """The packets of the stream, and an empty one at the end; goes on after damage."""
        from av.error import ExitError, FFmpegError, InvalidDataError

        bad = 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    bad = 0
                    if packet.size:
                        self._packets += 1
                    elif packet.dts is not None:
                        continue  # an empty packet in mid-stream repeats the frame before
                    yield packet
                return
            except InvalidDataError:
                bad += 1
                if bad > _MOST_BAD_READS:
                    return
            except ExitError as error:  # the time limit
                raise VideoError(f"{self._name}: nothing came for {READ_TIMEOUT_S:.0f} s") from error
            except (FFmpegError, OSError) as error:
                raise VideoError(f"{self._name}: reading stopped ({error.strerror or error})") from error


Turn = tuple[tuple[int, int], tuple[int, int]]


def _turn(frame: VideoFrame) -> Turn | None:
    """The signs of a frame's display matrix, ((a, b), (c, d)): what it shows at (x, y) belongs at (ax + cy, bx + dy).

    None where there is nothing to turn, or a turn by other than right angles, which no camera notes.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    numbers = np.frombuffer(matrix, dtype=np.int32)[[0, 1, 3, 4]].astype(np.float64)
    a, b, c, d = (int(value) for value in np.rint(numbers / max(float(np.abs(numbers).max()), 1.0)))
    right_angled = abs(a) + abs(b) == abs(c) + abs(d) == abs(a) + abs(c) == 1
    return ((a, b), (c, d)) if right_angled and (a, b, c, d) != (1, 0, 0, 1) else None


def _upright(pixels: NDArray[np.uint8], turn: Turn | None) -> NDArray[np.uint8]:
    """Turns and mirrors (H, W, 3) pixels."""
    if turn is None:
        return pixels
    (a, b), (c, d) = turn
    if a == 0:  # x and y change places: what was a column becomes a row
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(pixels[::d, ::a])


def _rotation_deg(turn: Turn | None) -> int:
    """Degrees clockwise, mirroring left aside."""
    if turn is None:
        return 0
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[turn[0]]
