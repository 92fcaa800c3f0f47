"""From a video to poses, stage by stage: decode, find people, find keypoints, each in a thread of its own.

At most ``MAX_FRAMES_IN_FLIGHT`` frames are between the file and the caller, whatever is slow. People are looked for in
every n-th frame; in the frames between, each one's box is carried on from the pose of the frame before, as RTMPose's
tracker does. What is carried never crosses the next frame with a detection, so that the frames of several such
intervals are predicted together: all those with detections in one batch, then all those after them, and so on. The
answer is that of going frame by frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
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
            tracker: Numbers the people.
            smoother: Comes last.
            keep_all: Keep people who look like repetitions of others, as where the caller gave the boxes.

        Raises:
            ValueError: ``detect_every`` is below 1.
        """
        if detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, not {detect_every}")
        self._pipeline = _Pipeline(reader, find_people, predict, detect_every, tracker, smoother, keep_all)
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


@dataclass
class _Looked:
    """A frame, and its people if they were looked for in it."""

    frame: Frame
    people: tuple[Boxes, NDArray[np.float32]] | None


class _Pipeline:
    """The threads, and the channels between them."""

    def __init__(
        self,
        reader: VideoReader,
        find_people: FindPeople,
        predict: BatchPredictor,
        detect_every: int,
        tracker: Tracker | None,
        smoother: Smoother | None,
        keep_all: bool,
    ) -> None:
        self.reader = reader
        self.skipped_frames = 0
        self._find_people, self._predict = find_people, predict
        self._detect_every = detect_every
        self._tracker, self._smoother, self._keep_all = tracker, smoother, keep_all
        height, width = reader.info.size
        if reader.info.is_live:
            self._room, self._window = _LIVE_IN_FLIGHT, 1
        else:
            self._room = max(_FEWEST_IN_FLIGHT, min(MAX_FRAMES_IN_FLIGHT, MAX_BYTES_IN_FLIGHT // (height * width * 3)))
            self._window = self._room // 2  # the other half is being decoded and detected meanwhile
            if self._window > detect_every:
                self._window -= self._window % detect_every
        self._signal = Signal()
        self._decoded: Channel[Frame] = Channel(self._signal)
        self._looked: Channel[_Looked] = Channel(self._signal)
        self.results: Channel[tuple[Frame, Poses]] = Channel(self._signal)
        self._since_detection = detect_every
        self._shape: tuple[int, ...] = ()
        self._last: Poses | None = None  # of the frame before those at hand
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        stages: tuple[tuple[str, Callable[[], None], Callable[[BaseException | None], None]], ...] = (
            ("decode", self._decode, self._decoded.close),
            ("detect", self._detect, self._looked.close),
            ("poses", self._find_keypoints, self.results.close),
        )
        for name, work, close in stages:
            thread = threading.Thread(target=_stage, args=(work, close), name=f"wholepose-{name}")
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
            elif self._signal.stopped:
                raise StoppedError
            if self._room <= 0:
                return False
            self._room -= 1
            return True

    # The stages. Each keeps its frames in locals of a call that ends before it waits for more, so that a frame lives
    # no longer than its place among those in flight.

    def _decode(self) -> None:
        try:
            while self._decode_one():
                pass
        finally:
            self.reader.close()

    def _decode_one(self) -> bool:
        live = self.reader.info.is_live
        if not live:
            self._take_room(wait=True)
        frame = next(self.reader, None)
        if frame is None:
            return False
        if live and not self._take_room(wait=False):
            self.skipped_frames += 1
        else:
            self._decoded.put(frame)
        return True

    def _detect(self) -> None:
        while self._detect_some(self._decoded.take(1, self._window)):
            pass

    def _detect_some(self, frames: list[Frame]) -> bool:
        wanted = []
        for frame in frames:
            due = self._since_detection >= self._detect_every or frame.image.shape != self._shape
            self._since_detection, self._shape = 1 if due else self._since_detection + 1, frame.image.shape
            wanted.append(due)
        images = [frame.image for frame, due in zip(frames, wanted, strict=True) if due]
        found = iter(self._find_people(images) if images else ())
        for frame, due in zip(frames, wanted, strict=True):
            self._looked.put(_Looked(frame, next(found) if due else None))
        return bool(frames)

    def _find_keypoints(self) -> None:
        while self._find_keypoints_of(self._looked.take(self._window, self._window)):
            pass

    def _find_keypoints_of(self, looked: list[_Looked]) -> bool:
        for each, poses in zip(looked, self._predict_window(looked), strict=True):
            frame = each.frame
            if self._tracker is not None:
                size = (frame.image.shape[0], frame.image.shape[1])
                poses = self._tracker.update(poses, frame_index=frame.index, image_size=size)
            if self._smoother is not None:
                poses = self._smoother.update(poses, frame.time_s)
            self.results.put((frame, poses))
        return bool(looked)

    def _predict_window(self, looked: list[_Looked]) -> list[Poses]:
        """Poses of successive frames: first where people were looked for, then one frame further each time."""
        if not looked:
            return []
        steps: list[int] = []  # since people were looked for, or since the frames before these
        for each in looked:
            steps.append(0 if each.people is not None else steps[-1] + 1 if steps else 1)
        done: dict[int, Poses] = {}
        for step in sorted(set(steps)):
            places = [place for place, its_step in enumerate(steps) if its_step == step]
            people = []
            for place in places:
                found, image = looked[place].people, looked[place].frame.image
                if found is None:
                    before = done[place - 1] if place else self._last
                    assert before is not None  # people are looked for in the first frame of all
                    found = carried_boxes(before, (image.shape[0], image.shape[1]))
                people.append(found)
            images = [looked[place].frame.image for place in places]
            poses = self._predict(images, [boxes for boxes, _ in people], [scores for _, scores in people])
            done.update(zip(places, poses if self._keep_all else map(without_repeats, poses), strict=True))
        self._last = done[len(looked) - 1]
        return [done[place] for place in range(len(looked))]


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
