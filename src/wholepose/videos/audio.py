"""The sound of one file, carried into another while that is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from wholepose.errors import VideoError
from wholepose.videos.sources import open_container

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

# What MP4 holds and players take as it is; anything else is encoded anew, as AAC.
_COPIED = frozenset(["aac", "mp3", "mp3float", "opus", "ac3", "eac3", "alac", "flac"])


class AudioTrack:
    """Copies sound from a file up to a given time, so that sound and pictures are written side by side."""

    def __init__(
        self,
        source: InputContainer,
        file: BinaryIO | None,
        stream: AudioStream,
        target: OutputContainer,
        start_s: float,
    ) -> None:
        self._source, self._file, self._stream, self._target = source, file, stream, target
        self._start_s = start_s
        self._copied = stream.codec_context.name in _COPIED
        self._output: Any
        if self._copied:
            self._output = target.add_stream_from_template(stream)
        else:
            self._output = target.add_stream("aac", rate=_aac_rate(stream.codec_context.sample_rate))
            self._output.layout = "stereo" if stream.codec_context.channels > 1 else "mono"
        self._pieces = self._packets() if self._copied else self._frames()
        self._next = next(self._pieces, None)

    @staticmethod
    def open(path: str | os.PathLike[str], target: OutputContainer, *, start_s: float) -> AudioTrack | None:
        """Prepares the sound of a file.

        Args:
            path: The file.
            target: What is being written; nothing may have been written to it yet.
            start_s: Time on the file's clock that becomes 0.

        Returns:
            The track; None where the file has no sound that can be read: silence is no reason to lose the pictures.
        """
        try:
            source, file = open_container(path)
        except VideoError:
            return None
        streams = [stream for stream in source.streams.audio if stream.codec_context is not None]
        if not streams:
            source.close()
            if file is not None:
                file.close()
            return None
        return AudioTrack(source, file, streams[0], target, start_s)

    def copy_until(self, time_s: float) -> None:
        """Writes the sound up to a time, in seconds of the file that is written."""
        while self._next is not None and self._time_s(self._next) < time_s:
            self._write(self._next)
            self._next = next(self._pieces, None)

    def finish(self) -> None:
        """Writes what an encoder still holds."""
        if not self._copied:
            self._target.mux(self._output.encode(None))

    def close(self) -> None:
        """Closes the file that the sound comes from."""
        self._pieces = iter(())
        self._source.close()
        if self._file is not None:
            self._file.close()

    def _time_s(self, piece: Any) -> float:
        return float(piece.pts * piece.time_base) - self._start_s

    def _write(self, piece: Any) -> None:
        shift = round(self._start_s / piece.time_base)
        piece.pts -= shift
        if not self._copied:
            self._target.mux(self._output.encode(piece))
            return
        piece.dts -= shift
        piece.stream = self._output
        self._target.mux(piece)

    def _packets(self) -> Iterator[Any]:
        """Coded sound from the start on; damage is passed over."""
        from av.error import FFmpegError

        clock = _Clock()
        try:
            for packet in self._source.demux(self._stream):
                if not packet.size or packet.pts is None or packet.dts is None:
                    continue
                shift = clock.shift(packet.dts, packet.duration)
                packet.pts += shift
                packet.dts += shift
                if self._time_s(packet) >= 0:
                    yield packet
        except FFmpegError:
            return  # what there is of the sound is kept

    def _frames(self) -> Iterator[Any]:
        """Decoded sound from the start on, in the layout and rate of the output."""
        from av import AudioResampler
        from av.error import FFmpegError

        resampler, clock = AudioResampler("fltp", self._output.layout, self._output.rate), _Clock()
        try:
            for packet in self._source.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    continue
                for frame in frames:
                    if frame.pts is not None:
                        _count_samples(frame)
                        frame.pts += clock.shift(frame.pts, frame.samples)
                    for piece in resampler.resample(frame):
                        if piece.pts is not None and self._time_s(piece) >= 0:
                            yield piece
        except FFmpegError:
            return


def _aac_rate(rate: int) -> int:
    """The sampling rate nearest to this one that an AAC encoder takes."""
    from av import Codec

    return min(Codec("aac", "w").audio_rates or [rate], key=lambda possible: abs(possible - rate))


def _count_samples(frame: Any) -> None:
    """Puts decoded sound on a clock that ticks once a sample: that of its packets may be too coarse for its pieces."""
    frame.pts = round(frame.pts * frame.time_base * frame.sample_rate)
    frame.time_base = Fraction(1, frame.sample_rate)


class _Clock:
    """Goes on where the clock of sound stands still or jumps back, as that of the pictures does."""

    def __init__(self) -> None:
        self._shift = 0
        self._last: int | None = None
        self._next = 0

    def shift(self, ticks: int, duration: int | None) -> int:
        """What to add to the time of the next piece, all in ticks."""
        if self._last is not None and ticks + self._shift <= self._last:
            self._shift = self._next - ticks
        self._last = ticks + self._shift
        self._next = self._last + max(1, duration or 0)
        return self._shift
