"""The videos among the inputs of ``wholepose predict``: poses of each frame, written while the next are found."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholepose.cli.predict_inputs import People
from wholepose.cli.predict_outputs import ending_of
from wholepose.cli.predict_pictures import HOPELESS
from wholepose.cli.predict_report import Report, plural
from wholepose.cli.predict_words import FrameRange
from wholepose.errors import VideoError

if TYPE_CHECKING:
    from wholepose.estimator import PoseEstimator
    from wholepose.poses import Poses
    from wholepose.video_pipeline import VideoPoses
    from wholepose.videos import Frame, VideoReader

_WAITING_FRAMES = 4
"""Frames that wait to be drawn and written, besides those that the pipeline holds."""


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
        out: Folder of the results; None sends documents to stdout.
        format: A key of ``wholepose.formats.FORMATS``.
        uncertainty: Write covariances.
        frames: Which frames.
        detect_every: Ask the detector in every so many-th frame.
        track: Number people.
        smooth: Calm the motion.
        flip_test: Average with the mirrored frames.
        drawing: How to draw; None: nothing is drawn.
        quiet: Without a progress bar.
    """

    out: Path | None
    format: str
    uncertainty: bool
    frames: FrameRange
    detect_every: int
    track: bool
    smooth: bool
    flip_test: bool
    drawing: Drawing | None
    quiet: bool


def stream_clips(sources: Sequence[str], taken: Sequence[str]) -> list[Clip]:
    """Chooses names for the results of cameras and addresses.

    Args:
        sources: As the user wrote them.
        taken: Result names that files have.
    """
    from wholepose.videos import source_name

    names = {name.casefold() for name in taken}
    clips = []
    for source in sources:
        name = source_name(source)
        stem = re.sub(r"[^\w.-]+", "_", re.sub(r"^\w+://|[?#].*$", "", name)).strip("_.")[:100] or "stream"
        unique, copy = stem, 1
        while unique.casefold() in names:
            copy += 1
            unique = f"{stem}_{copy}"
        names.add(unique.casefold())
        clips.append(Clip(source, unique, name))
    return clips


def predict_videos(
    clips: Sequence[Clip],
    estimator: PoseEstimator,
    people: People,
    options: VideoOptions,
    report: Report,
    inputs: Sequence[Path],
) -> None:
    """Predicts videos one after the other; failures go into the report.

    Args:
        clips: The videos.
        estimator: Finds the keypoints.
        people: Where the boxes come from.
        options: How.
        report: Is told of failures, and counts.
        inputs: All files that are read, which no drawing may replace.
    """
    occupied = {os.path.realpath(path) for path in inputs}
    for clip in clips:
        try:
            _predict_video(clip, estimator, people, options, report, occupied)
        except VideoError as error:
            report.fail(str(error))
        except OSError as error:
            if error.errno in HOPELESS:
                raise
            report.fail(f"{clip.name}: cannot write {error.filename or 'its result'} ({error.strerror})")


def _predict_video(
    clip: Clip, estimator: PoseEstimator, people: People, options: VideoOptions, report: Report, occupied: set[str]
) -> None:
    from wholepose.smoothing import OneEuroSmoother
    from wholepose.tracking import PoseTracker
    from wholepose.video_pipeline import VideoPoses, most_workers
    from wholepose.videos import open_video

    frames = options.frames
    detect_every = options.detect_every if people.detector is not None else 1
    stopped: BaseException | None = None
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            open_video(clip.source, start=frames.start, stop=frames.stop, stride=frames.stride)
        )
        seen = _Seen()
        take = stack.enter_context(
            _in_background([seen.take, *_outputs(clip, reader, estimator, options, occupied, stack)])
        )
        workers, shared = estimator.shared(most_workers(reader.info, detect_every))
        video = stack.enter_context(
            VideoPoses(
                reader,
                people.shared(shared.runtime).find_in_frames,
                partial(shared.predict_batch, flip_test=options.flip_test),
                detect_every=detect_every,
                workers=workers,
                tracker=PoseTracker() if options.track else None,
                smoother=OneEuroSmoother() if options.smooth else None,
                keep_all=people.detector is None,
            )
        )
        try:
            _consume(video, take, clip, options.quiet)
        except BaseException as error:
            # A recording of a camera ends with Ctrl-C, or when the camera goes: what was recorded is complete.
            if not reader.info.is_live or (isinstance(error, Exception) and not isinstance(error, VideoError)):
                raise
            stopped = error
    if video.skipped_frames:
        report.say(f"{clip.name}: {plural(video.skipped_frames, 'frame')} came faster than poses were found, and went")
    if video.lost_frames:
        report.fail(
            f"{clip.name}: {plural(video.lost_frames, 'frame')} of it cannot be read (damaged or cut off); "
            f"the other {seen.frames} are done"
        )
    report.videos += 1
    report.frames += seen.frames
    report.people += seen.people
    if not seen.people:
        report.nobody(clip.name, asked_detector=people.detector is not None)
    if stopped is not None:
        raise stopped


def _consume(video: VideoPoses, take: Callable[[Frame, Poses], None], clip: Clip, quiet: bool) -> None:
    from tqdm import tqdm

    with tqdm(
        total=video.expected_frames,
        unit=" frames",
        desc=clip.name,
        file=sys.stderr,
        disable=quiet or not sys.stderr.isatty(),
        leave=False,
    ) as bar:
        for frame, poses in video:
            take(frame, poses)
            bar.update()


Take = Any  # Callable[[Frame, Poses], None], whose types are not imported at run time


@contextlib.contextmanager
def _in_background(takers: Sequence[Take]) -> Iterator[Take]:
    """Lets a thread hand each frame to several takers, and waits for it at the end; its errors come out here."""
    waiting: deque[Future[None]] = deque()

    def hand_on(frame: Frame, poses: Poses) -> None:
        for taker in takers:
            taker(frame, poses)

    def take(frame: Frame, poses: Poses) -> None:
        waiting.append(thread.submit(hand_on, frame, poses))
        if len(waiting) > _WAITING_FRAMES:
            waiting.popleft().result()

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wholepose-writer")
    try:
        yield take
        while waiting:
            waiting.popleft().result()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)


class _Seen:
    """Counts frames and people."""

    def __init__(self) -> None:
        self.frames = 0
        self._most = 0
        self._track_ids: set[int] = set()

    @property
    def people(self) -> int:
        """How many different people there were; without tracking, the most in one frame."""
        return len(self._track_ids) or self._most

    def take(self, _frame: Frame, poses: Poses) -> None:
        self.frames += 1
        self._most = max(self._most, len(poses))
        if poses.track_ids is not None:
            self._track_ids.update(poses.track_ids.tolist())


def _outputs(
    clip: Clip,
    reader: VideoReader,
    estimator: PoseEstimator,
    options: VideoOptions,
    occupied: set[str],
    stack: contextlib.ExitStack,
) -> list[Take]:
    """Opens what the results of a video go to; the stack completes or discards it."""
    model = estimator.runtime.card.name
    if options.out is None:
        return [partial(_print_document, name=clip.name, model=model, uncertainty=options.uncertainty)]
    from wholepose.formats import open_writer
    from wholepose.videos import VideoWriter

    stem = options.out / clip.result_name
    stem.parent.mkdir(parents=True, exist_ok=True)
    name = "jsonl" if options.format == "json" else options.format
    path = stem.with_name(f"{stem.name}{ending_of(name)}")
    picture = stem.with_name(f"{stem.name}_poses.mp4")
    for each in (path, picture):
        if os.path.realpath(each) in occupied:
            raise VideoError(f"{clip.name}: its results would replace the input {each}; choose another --out")
    writer = stack.enter_context(
        open_writer(path, name, skeleton=estimator.skeleton, model=model, uncertainty=options.uncertainty)
    )

    def write(frame: Frame, poses: Poses) -> None:
        size = (frame.image.shape[0], frame.image.shape[1])
        writer.write(frame.index, frame.time_s, poses, image=clip.name, size=size)

    if options.drawing is None:
        return [write]
    info = reader.info
    with_audio = info.has_audio and not info.is_live
    film = stack.enter_context(
        VideoWriter(
            picture,
            min(1000.0, info.frame_rate / options.frames.stride),
            audio_from=clip.source if with_audio else None,
            audio_start_s=info.start_s,
        )
    )
    return [write, _painter(options.drawing, film.write)]


def _painter(drawing: Drawing, write: Callable[..., None]) -> Take:
    """Draws each frame and hands the picture on."""
    import numpy as np

    from wholepose.draw import Trails, draw_poses

    trails = Trails(drawing.trail_frames, threshold=drawing.threshold) if drawing.trail_frames else None

    def paint(frame: Frame, poses: Poses) -> None:
        image = np.zeros_like(frame.image) if drawing.black else frame.image
        if trails is not None:
            image = trails.draw(image, poses)
        write(draw_poses(image, poses, threshold=drawing.threshold, show_ids=True), frame.time_s)

    return paint


def _print_document(frame: Frame, poses: Poses, *, name: str, model: str, uncertainty: bool) -> None:
    """Prints a frame's document as a line: the line of a .jsonl file."""
    from wholepose.outputs import poses_document, to_json

    size = (frame.image.shape[0], frame.image.shape[1])
    document = poses_document(poses, image=name, size=size, model=model, uncertainty=uncertainty)
    sys.stdout.write(to_json({"frame": frame.index, "time_s": round(frame.time_s, 6)} | document))
    sys.stdout.flush()
