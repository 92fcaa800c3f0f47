"""Speed of videos: the pipeline beside a serial loop, in turns, with the share of time in which no network runs.

    python benchmarks/video.py [--model NAME|PATH] [--detector SPEC] [--frames 300] [--rounds 3]

One person walks through a clip of 640x360 that is made for it; the result is drawn and written as H.264. The serial
loop does the same work with the same parts, one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wholepose import PoseEstimator, draw_poses
from wholepose.tracking import PoseTracker
from wholepose.video_pipeline import carried_boxes
from wholepose.videos import VideoWriter, open_video

SIZE = (360, 640)
DETECT_EVERY = 5


class Busy:
    """Wraps the networks; knows for how long at least one was at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running, self._since, self.seconds = 0, 0.0, 0.0

    def wrap(self, function: Any) -> Any:
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

        return timed


def write_walk(path: Path, frames: int) -> None:
    """A clip of a drawn person who walks across a noisy background."""
    noise = np.random.default_rng(0)
    background = cv2.resize(noise.integers(60, 190, (45, 80, 3), dtype=np.uint8), SIZE[::-1])
    with VideoWriter(path, 30) as writer:
        for index in range(frames):
            image = background.copy()
            x, swing = 120 + index % 400, 30 * np.sin(index / 4)
            for start, end in (((0, 0), (0, 100)), ((0, 100), (swing, 190)), ((0, 100), (-swing, 190)),
                               ((0, 20), (-swing, 90)), ((0, 20), (swing, 90))):  # fmt: skip
                points = [(round(x + dx), round(110 + dy)) for dx, dy in (start, end)]
                cv2.line(image, points[0], points[1], (40, 40, 120), 22, cv2.LINE_AA)
            cv2.circle(image, (x, 80), 24, (210, 160, 140), cv2.FILLED, cv2.LINE_AA)
            writer.write(image, index / 30)


def serial(estimator: PoseEstimator, boxes: Any, source: Path, target: Path) -> int:
    """Decode, detect, find keypoints, draw, encode; one frame after the other."""
    tracker, before, done = PoseTracker(), None, 0
    with open_video(source) as reader, VideoWriter(target, reader.info.frame_rate) as writer:
        for frame in reader:
            if boxes is not None or before is None or done % DETECT_EVERY == 0:
                poses = estimator.predict(frame.image, boxes)
            else:
                carried, scores = carried_boxes(before, SIZE)
                poses = estimator.predict(frame.image, carried, box_scores=scores)
            before = poses
            poses = tracker.update(poses, frame_index=frame.index, image_size=SIZE)
            writer.write(draw_poses(frame.image, poses, show_ids=True), frame.time_s)
            done += 1
    return done


def pipelined(estimator: PoseEstimator, boxes: Any, source: Path, target: Path) -> int:
    """The same through ``predict_video``, drawn and encoded in a thread of its own, as the command line does."""
    done = 0
    waiting: deque[Any] = deque()
    with (
        open_video(source) as reader,
        VideoWriter(target, reader.info.frame_rate) as writer,
        ThreadPoolExecutor(max_workers=1) as thread,
    ):

        def write(frame: Any, poses: Any) -> None:
            writer.write(draw_poses(frame.image, poses, show_ids=True), frame.time_s)

        for frame, poses in estimator.predict_video(reader, boxes=boxes, detect_every=DETECT_EVERY):
            waiting.append(thread.submit(write, frame, poses))
            if len(waiting) > 4:
                waiting.popleft().result()
            done += 1
        while waiting:
            waiting.popleft().result()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="default", help="'none': the person's box is given in every frame")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    detector = None if options.detector == "none" else options.detector
    estimator = PoseEstimator.from_pretrained(options.model, detector=detector, threads=options.threads)
    boxes = None if detector else [[100, 40, 540, 320]]
    busy = Busy()
    estimator.runtime.predict = busy.wrap(estimator.runtime.predict)  # type: ignore[method-assign]
    if estimator.detector is not None:
        estimator.detector.detect = busy.wrap(estimator.detector.detect)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "walk.mp4"
        write_walk(source, options.frames)
        pipelined(estimator, boxes, source, Path(folder) / "warm.mp4")
        rates: dict[str, list[float]] = {"serial": [], "pipeline": []}
        shares: dict[str, list[float]] = {"serial": [], "pipeline": []}
        for _ in range(options.rounds):
            for name, run in (("serial", serial), ("pipeline", pipelined)):
                busy.seconds = 0.0
                start = time.perf_counter()
                done = run(estimator, boxes, source, Path(folder) / f"{name}.mp4")
                wall = time.perf_counter() - start
                rates[name].append(done / wall)
                shares[name].append(1 - busy.seconds / wall)
    print(f"{'':10} {'frames/s':>9} {'without a network':>18}")
    for name in rates:
        print(f"{name:10} {statistics.median(rates[name]):9.1f} {100 * statistics.median(shares[name]):16.1f} %")
    print(f"overlap: {statistics.median(rates['pipeline']) / statistics.median(rates['serial']):.2f} x the serial loop")


if __name__ == "__main__":
    main()
