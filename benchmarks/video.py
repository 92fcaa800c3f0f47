"""Speed of videos: the pipeline beside a serial loop, in turns, with the share of time in which no network runs.

    python benchmarks/video.py [--model NAME|PATH] [--detector SPEC] [--frames 120] [--rounds 5] [--people 1]

The clip is 640x360 and made for it: a camera moves over a picture of people, of whom the best box is taken. The result
is drawn and written as H.264. The serial loop does the same work with the same parts, one after the other, each network
on all cores. The last table says what a frame costs in CPU time, stage by stage, with each network on one core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wholepose import PoseEstimator, draw_poses, load_image
from wholepose.detectors import Detections
from wholepose.runtimes import on_threads
from wholepose.tracking import PoseTracker
from wholepose.video_pipeline import carried_boxes
from wholepose.videos import VideoWriter, open_video

SIZE = (360, 640)
DETECT_EVERY = 5


class Busy:
    """Wraps the networks' classes; knows for how long at least one network was at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running, self._since, self.seconds = 0, 0.0, 0.0

    def watch(self, kind: type, method: str) -> None:
        function = getattr(kind, method)

        def timed(*arguments: Any, **more: Any) -> Any:
            with self._lock:
                if not self._running:
                    self._since = time.perf_counter()
                self._running += 1
            try:
                return function(*arguments, **more)
            finally:
                with self._lock:
                    self._running -= 1
                    if not self._running:
                        self.seconds += time.perf_counter() - self._since

        setattr(kind, method, timed)


class Stages:
    """CPU time of the whole process by stage, where stages run one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def write_clip(path: Path, frames: int) -> None:
    """A camera with a little grain moves over a picture of synthetic people."""
    picture = load_image(Path(__file__).parent.parent / "examples" / "people_3.jpg")
    noise = np.random.default_rng(0)
    with VideoWriter(path, 30) as writer:
        for index in range(frames):
            angle = index / 15
            x, y = 3 * np.cos(angle) - 4, 20 * np.sin(1.3 * angle) - 45
            matrix = np.array([[0.9, 0, x], [0, 0.9, y]])
            image = cv2.warpAffine(picture, matrix, SIZE[::-1], borderMode=cv2.BORDER_REPLICATE)
            grain = noise.integers(-4, 5, image.shape, dtype=np.int16)
            writer.write(np.clip(image + grain, 0, 255).astype(np.uint8), index / 30)


def serial(estimator: PoseEstimator, most: int, source: Path, target: Path, stages: Stages) -> list[int]:
    """Decode, detect, find keypoints, draw, encode; one frame after the other. How many people each frame has."""
    tracker, before, people = PoseTracker(), None, []
    with open_video(source) as reader, VideoWriter(target, reader.info.frame_rate) as writer:
        while True:
            with stages("decode"):
                frame = next(reader, None)
            if frame is None:
                break
            with stages("detect"):
                if before is None or len(people) % DETECT_EVERY == 0:
                    found: Detections = estimator.detector.detect([frame.image])[0]  # type: ignore[union-attr]
                    boxes, scores = found.boxes[:most], found.scores[:most]
                else:
                    boxes, scores = carried_boxes(before, SIZE)
            with stages("poses"):
                before = poses = estimator.predict(frame.image, boxes, box_scores=scores)
            with stages("track"):
                poses = tracker.update(poses, frame_index=frame.index, image_size=SIZE)
            with stages("draw"):
                drawn = draw_poses(frame.image, poses, show_ids=True)
            with stages("encode"):
                writer.write(drawn, frame.time_s)
            people.append(len(poses))
        with stages("encode"):
            writer.close()
    return people


def pipelined(estimator: PoseEstimator, most: int, source: Path, target: Path, _stages: Stages) -> list[int]:
    """The same through ``predict_video``, drawn and encoded in a thread of its own, as the command line does."""
    people = []
    waiting: deque[Any] = deque()
    with (
        open_video(source) as reader,
        VideoWriter(target, reader.info.frame_rate) as writer,
        ThreadPoolExecutor(max_workers=1) as thread,
    ):

        def write(frame: Any, poses: Any) -> None:
            writer.write(draw_poses(frame.image, poses, show_ids=True), frame.time_s)

        for frame, poses in estimator.predict_video(reader, detect_every=DETECT_EVERY, max_people=most):
            waiting.append(thread.submit(write, frame, poses))
            if len(waiting) > 4:
                waiting.popleft().result()
            people.append(len(poses))
        while waiting:
            waiting.popleft().result()
    return people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="default")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--people", type=int, default=1, help="most people a frame")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    estimator = PoseEstimator.from_pretrained(options.model, detector=options.detector, threads=options.threads)
    assert estimator.detector is not None
    on_one_core = PoseEstimator(on_threads(estimator.runtime, 1), on_threads(estimator.detector, 1))
    busy, stages, ignored = Busy(), Stages(), Stages()
    busy.watch(type(estimator.runtime), "predict")
    busy.watch(type(estimator.detector), "detect")
    rates: dict[str, list[float]] = {"serial": [], "pipeline": []}
    shares: dict[str, list[float]] = {"serial": [], "pipeline": []}
    people: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.mp4"
        write_clip(source, options.frames)
        pipelined(estimator, options.people, source, Path(folder) / "warm.mp4", ignored)
        for _ in range(options.rounds):
            for name, run in (("serial", serial), ("pipeline", pipelined)):
                busy.seconds = 0.0
                start = time.perf_counter()
                people = run(estimator, options.people, source, Path(folder) / f"{name}.mp4", ignored)
                wall = time.perf_counter() - start
                rates[name].append(len(people) / wall)
                shares[name].append(1 - busy.seconds / wall)
        serial(on_one_core, options.people, source, Path(folder) / "stages.mp4", stages)
    print(f"{np.mean(people):.2f} people a frame, {options.frames} frames, {options.rounds} rounds, medians and range")
    print(f"{'':10} {'frames/s':>9} {'':15} {'without a network':>18}")
    for name, each in rates.items():
        span = f"({min(each):.1f} to {max(each):.1f})"
        print(f"{name:10} {statistics.median(each):9.1f} {span:15} {100 * statistics.median(shares[name]):16.1f} %")
    ratios = [fast / slow for fast, slow in zip(rates["pipeline"], rates["serial"], strict=True)]
    print(f"overlap: {statistics.median(ratios):.2f} x the serial loop ({min(ratios):.2f} to {max(ratios):.2f})")
    total = sum(stages.seconds.values())
    print(f"CPU time a frame: {1e3 * total / options.frames:.1f} ms, of which")
    for name, seconds in stages.seconds.items():
        print(f"  {name:8} {1e3 * seconds / options.frames:6.1f} ms {100 * seconds / total:5.1f} %")


if __name__ == "__main__":
    main()
