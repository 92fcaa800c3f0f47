"""What ``wholepose predict`` does with the poses of a video: files, a drawn film, lines on stdout, a window."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wholepose.cli.predict_outputs import ending_of
from wholepose.cli.words import FrameRange
from wholepose.errors import VideoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wholepose.cli.window import Window
    from wholepose.estimator import PoseEstimator
    from wholepose.formats import PoseFrame
    from wholepose.poses import Poses
    from wholepose.videos import Frame, VideoReader

    Take = Callable[[PoseFrame, NDArray[np.uint8]], None]
    """Takes a frame's people and its picture."""


@dataclass(frozen=True)
class Clip:
    """A video to predict.

    Attributes:
        source: Its path, ``webcam:N`` or an address.
        result_name: What its results are called in the output folder, without suffix.
        name: What results and messages call it.
    """

    source: str | Path
    result_name: str
    name: str


@dataclass(frozen=True)
class Drawing:
    """How videos are drawn.

    Attributes:
        threshold: Keypoints that score above this are drawn.
        black: On black instead of on the video.
        trail_frames: For how many frames the paths of hands, feet and nose stay; 0: no paths.
    """

    threshold: float = 0.3
    black: bool = False
    trail_frames: int = 0


@dataclass(frozen=True)
class VideoOptions:
    """What the command line says about videos.

    Attributes:
        out: Folder of the results; None sends documents to stdout, where there is no window.
        format: A key of ``wholepose.formats.FORMATS``.
        uncertainty: Write covariances.
        frames: Which frames.
        detect_every: Ask the detector in every so many-th frame.
        track: Number people.
        smooth: Calm the motion while the video runs, or looking ahead.
        flip_test: Average with the mirrored frames.
        drawing: How to draw films and windows.
        film: Write a drawn film.
        window: Shows what is drawn; None: nobody wants to see it.
        quiet: Without a progress bar.
    """

    out: Path | None
    format: str
    uncertainty: bool
    frames: FrameRange
    detect_every: int
    track: bool
    smooth: Literal["no", "running", "ahead"]
    flip_test: bool
    drawing: Drawing
    film: bool
    window: Window | None
    quiet: bool


class Seen:
    """Counts frames and people."""

    def __init__(self) -> None:
        self.frames = 0
        self._most = 0
        self._track_ids: set[int] = set()

    @property
    def people(self) -> int:
        """How many different people there were; without tracking, the most in one frame."""
        return len(self._track_ids) or self._most

    def take(self, poses: Poses) -> None:
        """Counts a frame."""
        self.frames += 1
        self._most = max(self._most, len(poses))
        if poses.track_ids is not None:
            self._track_ids.update(poses.track_ids.tolist())


class Outputs:
    """Everything that the results of one video go to.

    Entering opens the files; leaving completes them, or throws them away where an exception passes through.
    """

    def __init__(
        self,
        clip: Clip,
        reader: VideoReader,
        estimator: PoseEstimator,
        options: VideoOptions,
        occupied: Collection[str],
    ) -> None:
        """Remembers what to open.

        Args:
            clip: The video.
            reader: It, opened.
            estimator: Gives skeleton and model.
            options: Where to write what.
            occupied: Files that are read, by their real paths; none of them is replaced.
        """
        self.seen = Seen()
        self._clip, self._reader, self._options, self._occupied = clip, reader, options, occupied
        self._skeleton, self._model = estimator.skeleton, estimator.runtime.card.name
        self._stack = contextlib.ExitStack()
        self._takers: list[Take] = []

    def __enter__(self) -> Outputs:
        with contextlib.ExitStack() as stack:
            self._takers = self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *how: object) -> None:
        self._stack.__exit__(*how)  # type: ignore[arg-type]

    def take(self, frame: Frame, poses: Poses) -> None:
        """Takes the people of the next frame."""
        from wholepose.formats import PoseFrame

        self.seen.take(poses)
        size = (frame.image.shape[0], frame.image.shape[1])
        posed = PoseFrame(frame.index, frame.time_s, poses, self._clip.name, size, self._model)
        for taker in self._takers:
            taker(posed, frame.image)

    def finish(self) -> None:
        """Is told that no frame follows."""

    def _open(self, stack: contextlib.ExitStack) -> list[Take]:
        options = self._options
        if options.out is None:
            if options.window is not None:
                return []
            uncertainty = options.uncertainty
            return [lambda posed, _image: _print_line(posed, uncertainty=uncertainty)]
        from wholepose.formats import open_writer

        stem = options.out / self._clip.result_name
        stem.parent.mkdir(parents=True, exist_ok=True)
        name = "jsonl" if options.format == "json" else options.format
        path = stem.with_name(f"{stem.name}{ending_of(name)}")
        film = stem.with_name(f"{stem.name}_poses.mp4")
        for each in (path, film):
            if os.path.realpath(each) in self._occupied:
                raise VideoError(f"{self._clip.name}: its results would replace the input {each}; choose another --out")
        writer = stack.enter_context(
            open_writer(path, name, skeleton=self._skeleton, model=self._model, uncertainty=options.uncertainty)
        )

        def write(posed: PoseFrame, _image: NDArray[np.uint8]) -> None:
            assert posed.size is not None
            writer.write(
                posed.frame_index, posed.time_s, posed.poses, image=posed.image, size=posed.size, filled=posed.filled
            )

        return [write, self._film(film, stack)] if options.film else [write]

    def _film(self, path: Path, stack: contextlib.ExitStack) -> Take:
        from wholepose.videos import VideoWriter

        info = self._reader.info
        film = stack.enter_context(
            VideoWriter(
                path,
                min(1000.0, info.frame_rate / self._options.frames.stride),
                audio_from=self._clip.source if info.has_audio and not info.is_live else None,
                audio_start_s=info.start_s,
            )
        )
        paint = Painter(self._options.drawing)

        def write(posed: PoseFrame, image: NDArray[np.uint8]) -> None:
            assert posed.time_s is not None
            film.write(paint(image, posed.poses), posed.time_s)

        return write


class OutputsAhead(Outputs):
    """Smooths with what comes after a frame before it hands the frame on.

    For a film the pictures are read a second time, so that none has to wait in memory.
    """

    def __enter__(self) -> OutputsAhead:
        from wholepose.smoothing import DelayedSmoother
        from wholepose.videos import open_video

        super().__enter__()
        info, frames = self._reader.info, self._options.frames
        self._smoother = DelayedSmoother(frame_rate=info.frame_rate)
        self._pictures: Iterator[Frame] | None = None
        if self._options.film:
            again = open_video(self._clip.source, start=frames.start, stop=frames.stop, stride=frames.stride)
            self._pictures = self._stack.enter_context(again)
        return self

    def take(self, frame: Frame, poses: Poses) -> None:
        """Takes the people of the next frame."""
        from wholepose.formats import PoseFrame

        self.seen.take(poses)
        size = (frame.image.shape[0], frame.image.shape[1])
        posed = PoseFrame(frame.index, frame.time_s, poses, self._clip.name, size, self._model)
        self._hand_on(self._smoother.push(posed))

    def finish(self) -> None:
        """Hands on the last frames."""
        self._hand_on(self._smoother.finish())

    def _hand_on(self, smoothed: list[PoseFrame]) -> None:
        import numpy as np

        for posed in smoothed:
            image = np.zeros((0, 0, 3), np.uint8)  # nobody looks at it
            if self._pictures is not None:
                frame = next(self._pictures, None)
                if frame is None or frame.index != posed.frame_index:
                    raise VideoError(f"{self._clip.name}: has changed while it was read")
                image = frame.image
            for taker in self._takers:
                taker(posed, image)


class Painter:
    """Draws people onto the frames of a video."""

    def __init__(self, drawing: Drawing) -> None:
        from wholepose.draw import Trails

        self._drawing = drawing
        self._trails = Trails(drawing.trail_frames, threshold=drawing.threshold) if drawing.trail_frames else None

    def __call__(self, image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        """Draws onto a copy of the next frame, (H, W, 3) uint8 RGB."""
        import numpy as np

        from wholepose.draw import draw_poses

        canvas = np.zeros_like(image) if self._drawing.black else image
        if self._trails is not None:
            canvas = self._trails.draw(canvas, poses)
        return draw_poses(canvas, poses, threshold=self._drawing.threshold, show_ids=True)


def _print_line(posed: PoseFrame, *, uncertainty: bool) -> None:
    """Prints a frame's document as a line: the line of a .jsonl file."""
    from wholepose.formats import json_line

    sys.stdout.write(json_line(posed, uncertainty=uncertainty))
    sys.stdout.flush()
