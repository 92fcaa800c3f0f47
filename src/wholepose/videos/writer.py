"""Frames into H.264 files that browsers play, with the sound of the video they come from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.errors import VideoError
from wholepose.images.kinds import printable_path
from wholepose.outputs import atomic_path
from wholepose.videos.audio import AudioTrack

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

# One tick of the written clock is 1/90000 s: fine enough for every frame rate, and what players expect.
_CLOCK = 90_000
_ENCODERS = ("libx264", "h264_videotoolbox", "libopenh264", "h264_mf", "h264")
_QUALITY = {"crf": "20", "preset": "veryfast"}  # of libx264; the others go by their defaults


class VideoWriter:
    """Writes frames to an H.264 MP4 file, which appears under its name only when it is complete.

    As a context manager it completes the file on leaving, and leaves nothing where an exception passes through.

    Args:
        path: The file; its folder must exist. The ending decides the container: ``.mp4``, ``.mov`` or ``.mkv``.
        frame_rate: Frames a second, about; each frame is shown at its own time.
        audio_from: File whose sound is copied to go with the frames; None is silence.
        audio_start_s: Time, on that file's clock, of ``time_s`` 0.

    Raises:
        VideoError: The ending or the frame rate is not possible, or this build of FFmpeg has no H.264 encoder.
        OSError: The folder cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        frame_rate: float,
        *,
        audio_from: str | os.PathLike[str] | None = None,
        audio_start_s: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self._name = printable_path(self.path)
        if self.path.suffix.lower() not in (".mp4", ".m4v", ".mov", ".mkv"):
            raise VideoError(f"{self._name}: H.264 is written to .mp4, .mov or .mkv, not {self.path.suffix!r}")
        if not 0 < frame_rate <= 1000:
            raise VideoError(f"{self._name}: a frame rate of {frame_rate} is not possible")
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._audio_from, self._audio_start_s = audio_from, audio_start_s
        self._audio: AudioTrack | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._first_s, self._last_tick = 0.0, -1
        self._exit = contextlib.ExitStack()
        self._temporary = self._exit.enter_context(atomic_path(self.path))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self.discard()

    def write(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Adds a frame.

        Args:
            image: (H, W, 3) uint8 RGB. The first one decides the size of the video, rounded up to even numbers; others
                are fitted into it, with black at the sides.
            time_s: When it is shown; the first frame comes at once, whatever its time. A time that does not lie after
                the frame before is moved to just after it.

        Raises:
            VideoError: The encoder fails, or the writer is closed.
            OSError: The disk is full.
            ValueError: The image is of another shape or dtype.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"frames must be (H, W, 3) uint8, not {image.dtype} {image.shape}")
        with self._errors():
            if self._stream is None:
                self._begin(image.shape[0], image.shape[1], time_s)
            assert self._stream is not None
            import av

            frame = av.VideoFrame.from_ndarray(_fitted(image, self._stream.height, self._stream.width), format="rgb24")
            tick = max(self._last_tick + 1, round((time_s - self._first_s) * _CLOCK))
            frame.pts, frame.time_base, self._last_tick = tick, Fraction(1, _CLOCK), tick
            self._mux(self._stream.encode(frame))
            if self._audio is not None:
                self._audio.copy_until(tick / _CLOCK)

    def close(self) -> None:
        """Completes the file. Without a frame there is none. Closing twice is fine.

        Raises:
            VideoError: The encoder fails; there is no file then.
            OSError: The disk is full; there is no file then.
        """
        if self._container is None:
            self.discard()
            return
        try:
            with self._errors():
                assert self._stream is not None
                self._mux(self._stream.encode(None))
                if self._audio is not None:
                    self._audio.copy_until(self._last_tick / _CLOCK + float(1 / self._rate))
                    self._audio.finish()
                self._container.close()
        except BaseException:
            self.discard()
            raise
        self._release()
        self._exit.close()

    def discard(self) -> None:
        """Removes what was written; nothing appears under the name. Does nothing after ``close``."""
        if self._container is not None:
            with contextlib.suppress(Exception):  # it is thrown away; a full disk does not matter any more
                self._container.close()
        self._release()
        with contextlib.suppress(_DiscardedError):
            self._exit.__exit__(_DiscardedError, _DiscardedError(), None)

    def _release(self) -> None:
        self._container = self._stream = None
        if self._audio is not None:
            self._audio.close()
            self._audio = None

    def _begin(self, height: int, width: int, time_s: float) -> None:
        """Opens the file for frames of a size."""
        import av

        if self._last_tick >= 0:
            raise VideoError(f"{self._name}: is complete; nothing can be added")
        encoder = next((name for name in _ENCODERS if name in av.codecs_available and _can_encode(name)), None)
        if encoder is None:
            raise VideoError("this build of PyAV has no H.264 encoder; the wheels of `pip install av` have one")
        faststart = self.path.suffix.lower() != ".mkv"  # the table of contents first, so that browsers play at once
        self._container = av.open(
            str(self._temporary), "w", container_options={"movflags": "+faststart"} if faststart else {}
        )
        stream: Any = self._container.add_stream(encoder, rate=self._rate)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        if encoder == "libx264":
            stream.options = dict(_QUALITY)
        self._stream, self._first_s = stream, time_s
        if self._audio_from is not None:
            start_s = self._audio_start_s + time_s
            self._audio = AudioTrack.open(self._audio_from, self._container, start_s=start_s)

    def _mux(self, packets: Any) -> None:
        assert self._container is not None
        self._container.mux(packets)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Names the file in errors of FFmpeg, and tells a full disk from other failures."""
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            if isinstance(error, OSError):  # as the system said it, such as ENOSPC
                raise OSError(error.errno, os.strerror(error.errno or 0), os.fspath(self.path)) from error
            raise VideoError(f"{self._name}: cannot be written ({error.strerror or error})") from error


class _DiscardedError(Exception):
    """Tells ``atomic_path`` that the file is not wanted."""


def _can_encode(name: str) -> bool:
    """Whether an available codec is an encoder; some are decoders only."""
    import av

    try:
        return bool(av.Codec(name, "w").is_encoder)
    except ValueError:  # UnknownCodecError
        return False


def _fitted(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image of the size of the video: its last row and column repeated, or scaled down with black at the sides."""
    below, right = height - image.shape[0], width - image.shape[1]
    if below == 0 and right == 0:
        return np.ascontiguousarray(image)
    if not (0 <= below <= 1 and 0 <= right <= 1):
        scale = min(height / image.shape[0], width / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        canvas = np.zeros((height, width, 3), np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return canvas
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
