"""From a video to poses: frames are decoded in one thread, looked at by workers, and put in order by a last one.

At most ``MAX_FRAMES_IN_FLIGHT`` frames are between the file and the caller, whatever is slow. People are looked for in
every n-th frame; in the frames between, each one's box is carried on from the pose of the frame before, as RTMPose's
tracker does. What is carried never crosses the next frame with a detection, so that a worker can take the n frames from
a detection on as a chunk that needs nothing of others: as many chunks are at work as there are workers, each on its own
share of the cores. Of several detections in a chunk, frames that are equally far from theirs are one batch. The answer
is that of going frame by frame.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses
from wholepose.suppression import without_repeats
from wholepose.video_pipeline.carrying import carried_boxes
from wholepose.video_pipeline.channels import Channel, Signal, StoppedError
from wholepose.videos import Frame, VideoInfo, VideoReader

MAX_FRAMES_IN_FLIGHT = 26
"""Frames decoded and not yet done with, the one that the caller holds included; fewer where they are large."""

MAX_BYTES_IN_FLIGHT = 256_000_000
_FEWEST_IN_FLIGHT = 4
_LIVE_IN_FLIGHT = 3  # of a camera: what waits longer is old news
_SPARE_FRAMES = 4  # being decoded, or waiting for the caller, while all workers are at work

Boxes = NDArray[np.float32]
FindPeople = Callable[[Sequence[NDArray[np.uint8]]], Sequence[tuple[Boxes, NDArray[np.float32]]]]
"""Images in; boxes (N, 4) float32 xyxy and scores (N,) float32 out, for each."""


class BatchPredictor(Protocol):
    """What finds the keypoints: ``PoseEstimator.predict_batch``."""

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        boxes: Sequence[NDArray[np.float32]],
        box_scores: Sequence[NDArray[np.float32]],
    ) -> list[Poses]:
        """One Poses an image."""
        ...


class Tracker(Protocol):
    """Numbers people; see ``wholepose.tracking.PoseTracker``."""

    def update(self, poses: Poses, *, frame_index: int, image_size: tuple[int, int]) -> Poses:
        """The same people with ``track_ids``."""
        ...


class Smoother(Protocol):
    """Calms motion, knowing the frames so far."""

    def update(self, poses: Poses, time_s: float) -> Poses:
        """The same people, smoothed."""
        ...


class VideoPoses(Iterator[tuple[Frame, Poses]]):
    """Iterates over the frames of a video and the people in them; what ``PoseEstimator.predict_video`` returns.

    The work goes on in threads while the caller looks at a frame. They end with the video, with ``close``, with the
    block of a ``with`` statement, or when nobody holds this object any more.
    """

    def __init__(
        self,
        reader: VideoReader,
        find_people: FindPeople,
        predict: BatchPredictor,
        *,
        detect_every: int,
        workers: int = 1,
        tracker: Tracker | None = None,
        smoother: Smoother | None = None,
        keep_all: bool = False,
    ) -> None:
        """Takes over the reader; threads start with the first frame that is asked for.

        Args:
            reader: The video; it is closed at the end.
            find_people: Asked about every ``detect_every``-th frame, and where the size changes.
            predict: Finds their keypoints.
            detect_every: 1 asks about every frame.
            workers: How many threads call ``find_people`` and ``predict`` at once; see ``most_workers``.
            tracker: Numbers the people.
            smoother: Comes last.
            keep_all: Keep people who look like repetitions of others, as where the caller gave the boxes.

        Raises:
            ValueError: ``detect_every`` is below 1, or there are more workers than ``most_workers`` allows.
        """
        if detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, not {detect_every}")
        if not 1 <= workers <= (most := most_workers(reader.info, detect_every)):
            raise ValueError(f"{workers} workers are not possible for this video; between 1 and {most} are")
        self._pipeline = _Pipeline(reader, find_people, predict, detect_every, workers, tracker, smoother, keep_all)
        self._frames = _run(self._pipeline)  # knows the pipeline and not this object, which so can be collected

    @property
    def info(self) -> VideoInfo:
        """What is known of the video."""
        return self._pipeline.reader.info

    @property
    def expected_frames(self) -> int | None:
        """How many frames there will be, as far as the file says."""
        return self._pipeline.reader.expected_frames

    @property
    def lost_frames(self) -> int:
        """How many frames could not be decoded so far; complete when iteration has ended."""
        return self._pipeline.reader.lost_frames

    @property
    def skipped_frames(self) -> int:
        """How many frames of a camera or stream came while there was no time for them."""
        return self._pipeline.skipped_frames

    def __iter__(self) -> VideoPoses:
        return self

    def __next__(self) -> tuple[Frame, Poses]:
        return next(self._frames)

    def close(self) -> None:
        """Ends the threads and closes the video; iterating ends. Closing twice is fine."""
        self._frames.close()
        self._pipeline.stop()

    def __enter__(self) -> VideoPoses:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _run(pipeline: _Pipeline) -> Generator[tuple[Frame, Poses], None, None]:
    try:
        pipeline.start()
        while taken := pipeline.results.take(1, 1):
            yield taken.pop()  # no reference stays here while the caller works
            pipeline.give_room()
    finally:
        pipeline.stop()


def most_workers(info: VideoInfo, detect_every: int) -> int:
    """How many workers a video can keep busy, each with frames that need nothing of others: at least 1.

    Args:
        info: Of the video. A camera has one: a frame of it cannot wait for those after it.
        detect_every: As in ``VideoPoses``.
    """
    return 1 if info.is_live else max(1, (_room(info) - _SPARE_FRAMES) // detect_every)


def _room(info: VideoInfo) -> int:
    """How many frames may be in flight."""
    if info.is_live:
        return _LIVE_IN_FLIGHT
    height, width = info.size
    return max(_FEWEST_IN_FLIGHT, min(MAX_FRAMES_IN_FLIGHT, MAX_BYTES_IN_FLIGHT // (height * width * 3)))


class _Chunk:
    """Successive frames for a worker, and what becomes of them."""

    def __init__(self, frames: list[Frame], wanted: list[bool]) -> None:
        self.frames = deque(frames)
        self.wanted = wanted  # in which frames people are looked for
        self.poses: deque[Poses] | None = None
        self.error: BaseException | None = None


class _Pipeline:
    """The threads, and the channels between them."""

    def __init__(
        self,
        reader: VideoReader,
        find_people: FindPeople,
        predict: BatchPredictor,
        detect_every: int,
        workers: int,
        tracker: Tracker | None,
        smoother: Smoother | None,
        keep_all: bool,
    ) -> None:
        self.reader = reader
        self.skipped_frames = 0
        self._find_people, self._predict = find_people, predict
        self._detect_every, self._workers = detect_every, workers
        self._tracker, self._smoother, self._keep_all = tracker, smoother, keep_all
        self._room = _room(reader.info)
        # Half of the frames are at work; the others are being decoded, or wait for the caller.
        self._chunk_frames = 1 if reader.info.is_live else max(1, self._room // (2 * workers))
        if workers > 1:  # each chunk starts with a detection
            self._chunk_frames = detect_every * max(1, self._chunk_frames // detect_every)
        elif self._chunk_frames > detect_every:
            self._chunk_frames -= self._chunk_frames % detect_every
        self._signal = Signal()
        self._work: Channel[_Chunk] = Channel(self._signal)
        self._order: Channel[_Chunk] = Channel(self._signal)
        self.results: Channel[tuple[Frame, Poses]] = Channel(self._signal)
        self._decoded, self._shape = 0, (0, 0, 0)
        self._last: Poses | None = None  # of the frame before those at hand; only with a single worker
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        stages: list[tuple[str, Callable[[], None], Callable[[BaseException | None], None]]] = [
            ("decode", self._decode, self._close_input),
            *[(f"worker-{number}", self._find_poses, lambda _error: None) for number in range(self._workers)],
            ("order", self._put_in_order, self.results.close),
        ]
        for name, work, close in stages:
            thread = threading.Thread(target=_stage, args=(work, close), name=f"wholepose-video-{name}")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends the threads and waits for them; the one that decodes closes the video."""
        self._signal.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():  # the garbage collector may run this in any of them
                thread.join()
        if not self._threads:
            self.reader.close()

    def give_room(self) -> None:
        """The caller is done with a frame."""
        with self._signal.changed:
            self._room += 1
            self._signal.changed.notify_all()

    def _take_room(self, *, wait: bool) -> bool:
        with self._signal.changed:
            if wait:
                self._signal.wait(lambda: self._room > 0)
            else:
                self._signal.check()
            if self._room <= 0:
                return False
            self._room -= 1
            return True

    # The stages. Each keeps its frames in locals of a call that ends before it waits for more, so that a frame lives
    # no longer than its place among those in flight.

    def _decode(self) -> None:
        try:
            while self._decode_chunk():
                pass
        finally:
            self.reader.close()

    def _close_input(self, error: BaseException | None) -> None:
        self._work.close()
        self._order.close(error)

    def _decode_chunk(self) -> bool:
        frames: list[Frame] = []
        wanted = []
        more = True
        try:
            while more and len(frames) < self._chunk_frames:
                more = self._decode_one(frames)
        finally:  # what could be read comes before the error
            for frame in frames:
                wanted.append(self._decoded % self._detect_every == 0 or frame.image.shape != self._shape)
                self._decoded, self._shape = self._decoded + 1, frame.image.shape
            if frames:
                chunk = _Chunk(frames, wanted)
                self._work.put(chunk)
                self._order.put(chunk)
        return more

    def _decode_one(self, frames: list[Frame]) -> bool:
        """Adds a frame, or none where there is no room for one of a camera; whether there may be more."""
        live = self.reader.info.is_live
        if not live:
            self._take_room(wait=True)
        frame = next(self.reader, None)
        if frame is None:
            return False
        if live and not self._take_room(wait=False):
            self.skipped_frames += 1
        else:
            frames.append(frame)
        return True

    def _find_poses(self) -> None:
        while self._find_poses_of(self._work.take(1, 1)):
            pass

    def _find_poses_of(self, chunks: list[_Chunk]) -> bool:
        if not chunks:
            return False
        (chunk,) = chunks
        poses, error = None, None
        try:
            poses = deque(self._predict_chunk(list(chunk.frames), chunk.wanted))
        except StoppedError:
            raise
        except BaseException as failure:
            error = failure
        with self._signal.changed:
            chunk.poses, chunk.error = poses, error
            self._signal.changed.notify_all()
        return True

    def _put_in_order(self) -> None:
        while self._put_next(self._order.take(1, 1)):
            pass

    def _put_next(self, chunks: list[_Chunk]) -> bool:
        if not chunks:
            return False
        (chunk,) = chunks
        with self._signal.changed:
            self._signal.wait(lambda: chunk.poses is not None or chunk.error is not None)
        if chunk.error is not None:
            raise chunk.error
        assert chunk.poses is not None
        while chunk.frames:
            frame, poses = chunk.frames.popleft(), chunk.poses.popleft()
            if self._tracker is not None:
                size = (frame.image.shape[0], frame.image.shape[1])
                poses = self._tracker.update(poses, frame_index=frame.index, image_size=size)
            if self._smoother is not None:
                poses = self._smoother.update(poses, frame.time_s)
            self.results.put((frame, poses))
            del frame  # it would live on while the next one is tracked
        return True

    def _predict_chunk(self, frames: list[Frame], wanted: list[bool]) -> list[Poses]:
        """Poses of successive frames: first where people are looked for, then one frame further each time."""
        images = [frame.image for frame, due in zip(frames, wanted, strict=True) if due]
        self._signal.check()
        looked = iter(self._find_people(images) if images else ())
        found = [next(looked) if due else None for due in wanted]
        steps: list[int] = []  # since people were looked for, or since the frames before these
        for due in wanted:
            steps.append(0 if due else steps[-1] + 1 if steps else 1)
        done: dict[int, Poses] = {}
        for step in sorted(set(steps)):
            places = [place for place, its_step in enumerate(steps) if its_step == step]
            images = [frames[place].image for place in places]
            people = []
            for place, image in zip(places, images, strict=True):
                boxes = found[place]
                if boxes is None:
                    before = done[place - 1] if place else self._last
                    assert before is not None  # people are looked for in the first frame of all
                    boxes = carried_boxes(before, (image.shape[0], image.shape[1]))
                people.append(boxes)
            self._signal.check()
            poses = self._predict(images, [boxes for boxes, _ in people], [scores for _, scores in people])
            done.update(zip(places, poses if self._keep_all else map(without_repeats, poses), strict=True))
        self._last = done[len(frames) - 1]
        return [done[place] for place in range(len(frames))]


def _stage(work: Callable[[], None], close: Callable[[BaseException | None], None]) -> None:
    """Runs a stage to its end and passes on how it ended."""
    try:
        work()
    except StoppedError:
        return
    except BaseException as error:
        close(error)
    else:
        close(None)
