"""The videos among the inputs of ``wholepose predict``: poses of each frame, written while the next are found."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from wholepose.cli.predict_inputs import People
from wholepose.cli.predict_pictures import HOPELESS
from wholepose.cli.predict_report import Report, plural
from wholepose.cli.predict_video_outputs import Clip, Outputs, OutputsAhead, Painter, VideoOptions
from wholepose.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from wholepose.estimator import PoseEstimator
    from wholepose.poses import Poses
    from wholepose.video_pipeline import VideoPoses
    from wholepose.videos import Frame

_WAITING_FRAMES = 4
"""Frames that wait to be drawn and written, besides those that the pipeline holds."""


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
    occupied: Collection[str],
) -> None:
    """Predicts videos one after the other; failures go into the report.

    Args:
        clips: The videos.
        estimator: Finds the keypoints.
        people: Where the boxes come from.
        options: How.
        report: Is told of failures, and counts.
        occupied: Real paths of all files that are read, which no result may replace.
    """
    for clip in clips:
        try:
            _predict_video(clip, estimator, people, options, report, occupied)
        except (VideoError, ConfigError) as error:
            report.fail(str(error))
        except OSError as error:
            if error.errno in HOPELESS:
                raise
            report.fail(f"{clip.name}: cannot write {error.filename or 'its result'} ({error.strerror})")


def _predict_video(
    clip: Clip,
    estimator: PoseEstimator,
    people: People,
    options: VideoOptions,
    report: Report,
    occupied: Collection[str],
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
        kind = OutputsAhead if options.smooth == "ahead" else Outputs
        outputs = stack.enter_context(kind(clip, reader, estimator, options, occupied))
        take = stack.enter_context(_in_background(outputs))
        workers, shared = estimator.shared(most_workers(reader.info, detect_every))
        video = stack.enter_context(
            VideoPoses(
                reader,
                people.shared(shared.runtime).find_in_frames,
                partial(shared.predict_batch, flip_test=options.flip_test),
                detect_every=detect_every,
                workers=workers,
                tracker=PoseTracker() if options.track else None,
                smoother=OneEuroSmoother() if options.smooth == "running" else None,
                keep_all=people.detector is None,
            )
        )
        try:
            done = _consume(video, take, _shower(clip, options), clip, options.quiet)
            if not (done or video.lost_frames or reader.info.is_live):
                raise VideoError(f"{clip.name}: ends before frame {frames.start or 0}")
        except BaseException as error:
            # A recording of a camera ends with Ctrl-C, or when the camera goes: what was recorded is complete.
            if not reader.info.is_live or (isinstance(error, Exception) and not isinstance(error, VideoError)):
                raise
            stopped = error
    seen = outputs.seen
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


def _shower(clip: Clip, options: VideoOptions) -> Callable[[Frame, Poses], bool] | None:
    """Shows each frame drawn, and says whether the window is still open; None where there is no window."""
    window = options.window
    if window is None:
        return None
    paint = Painter(options.drawing)
    return lambda frame, poses: window.show(paint(frame.image, poses), clip.name)


def _consume(
    video: VideoPoses,
    take: Callable[[Frame, Poses], None],
    show: Callable[[Frame, Poses], bool] | None,
    clip: Clip,
    quiet: bool,
) -> int:
    """Hands all frames on, and counts them."""
    from tqdm import tqdm

    with tqdm(
        total=video.expected_frames,
        unit=" frames",
        desc=clip.name,
        file=sys.stderr,
        disable=quiet or not sys.stderr.isatty(),
        leave=False,
    ) as bar:
        done = 0
        for done, (frame, poses) in enumerate(video, start=1):
            take(frame, poses)
            bar.update()
            if show is not None and not show(frame, poses):
                if video.info.is_live:  # which has no other end
                    return done
                show = None
    return done


@contextlib.contextmanager
def _in_background(outputs: Outputs) -> Iterator[Callable[[Frame, Poses], None]]:
    """Lets a thread hand each frame to the outputs, and waits for it at the end; its errors come out here."""
    waiting: deque[Future[Any]] = deque()

    def take(frame: Frame, poses: Poses) -> None:
        waiting.append(thread.submit(outputs.take, frame, poses))
        if len(waiting) > _WAITING_FRAMES:
            waiting.popleft().result()

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wholepose-writer")
    try:
        yield take
        waiting.append(thread.submit(outputs.finish))
        while waiting:
            waiting.popleft().result()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
