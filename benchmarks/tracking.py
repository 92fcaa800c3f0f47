"""Tracks simulated people with ours and simpler trackers, and prints MOTA, IDF1 and id switches.

    python benchmarks/tracking.py                # crossing people, with occlusion, misses and false alarms
    python benchmarks/tracking.py --scenes 50 --json tracking.json

Where the library `trackers` (Roboflow) is installed its SORT, ByteTrack and OC-SORT join the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from motion_data import SIZE, Frame, crossing_walkers, observe

from wholepose.evaluation.tracking import tracking_scores
from wholepose.geometry import box_iou
from wholepose.poses import Poses
from wholepose.tracking import PoseTracker, assign

FRAMES = 150

Update = Callable[[Poses, int], NDArray[np.int64]]


class IouTracker:
    """The plain way: the overlap with where a person's box was last, best pairs first made."""

    def __init__(self, max_missing_frames: int = 45, min_iou: float = 0.3) -> None:
        self._max_missing_frames, self._min_iou = max_missing_frames, min_iou
        self._tracks: dict[int, tuple[NDArray[np.float64], int]] = {}
        self._next_id = 0

    def __call__(self, poses: Poses, frame: int) -> NDArray[np.int64]:
        self._tracks = {
            track_id: (box, seen)
            for track_id, (box, seen) in self._tracks.items()
            if frame - seen <= self._max_missing_frames
        }
        known = list(self._tracks)
        boxes = np.array([self._tracks[track_id][0] for track_id in known]).reshape(-1, 4)
        overlaps = box_iou(boxes, poses.boxes)
        rows, people = assign(np.where(overlaps >= self._min_iou, overlaps, 0))
        track_ids = np.full(len(poses), -1, dtype=np.int64)
        track_ids[people] = np.array(known, dtype=np.int64)[rows] if len(rows) else []
        for person in np.flatnonzero(track_ids < 0):
            track_ids[person] = self._next_id
            self._next_id += 1
        for track_id, box in zip(track_ids.tolist(), poses.boxes.astype(np.float64), strict=True):
            self._tracks[track_id] = (box, frame)
        return track_ids


def ours(**options: float) -> Callable[[], Update]:
    def make() -> Update:
        tracker = PoseTracker(**options)

        def update(poses: Poses, frame: int) -> NDArray[np.int64]:
            track_ids = tracker.update(poses, frame_index=frame, image_size=SIZE).track_ids
            assert track_ids is not None
            return track_ids

        return update

    return make


def library(name: str) -> Callable[[], Update]:
    def make() -> Update:
        import supervision
        import trackers

        tracker = getattr(trackers, name)(lost_track_buffer=45)

        def update(poses: Poses, _frame: int) -> NDArray[np.int64]:
            detections = supervision.Detections(
                xyxy=poses.boxes.copy(),
                confidence=poses.box_scores.copy(),
                class_id=np.zeros(len(poses), int),
                data={"row": np.arange(len(poses))},
            )
            found = tracker.update(detections)
            track_ids = np.full(len(poses), -1, dtype=np.int64)
            track_ids[found.data["row"] if len(found) else []] = found.tracker_id if len(found) else []
            return track_ids

        return update

    return make


def run(make: Callable[[], Update], scenes: list[list[Frame]], stride: int = 1) -> tuple[dict[str, float], float]:
    """Mean scores over scenes, and milliseconds of CPU time a frame."""
    totals: list[dict[str, float]] = []
    seconds, count = 0.0, 0
    for scene in scenes:
        update = make()
        pairs = []
        for index, frame in enumerate(scene[::stride]):
            started = time.process_time()
            track_ids = update(frame.found, index * stride)
            seconds += time.process_time() - started
            count += 1
            kept = track_ids >= 0  # a library may hold a doubtful person back
            pairs.append(((frame.true_ids, frame.true_boxes), (track_ids[kept], frame.found.boxes[kept])))
        totals.append(dataclasses.asdict(tracking_scores(pairs)))
    means = {name: float(np.mean([each[name] for each in totals])) for name in totals[0]}
    return means, 1000 * seconds / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    methods: dict[str, Callable[[], Update]] = {"plain IoU": IouTracker, "wholepose": ours()}
    if importlib.util.find_spec("trackers"):
        methods |= {name: library(f"{name}Tracker") for name in ("SORT", "ByteTrack", "OCSORT")}
    rows = []
    print(
        f"{'people':>6} {'stride':>6}  {'tracker':<12} {'MOTA':>6} {'IDF1':>6} "
        f"{'switches':>8} {'lost':>6} {'ms/frame':>8}"
    )
    for people in (2, 4, 8):
        scenes = [observe(crossing_walkers(seed, people), FRAMES, seed) for seed in range(options.scenes)]
        for stride in (1, 5):
            for name, make in methods.items():
                means, milliseconds = run(make, scenes, stride)
                rows.append(
                    {"people": people, "stride": stride, "tracker": name, "ms_per_frame": milliseconds, **means}
                )
                print(
                    f"{people:>6} {stride:>6}  {name:<12} {means['mota']:>6.3f} {means['idf1']:>6.3f} "
                    f"{means['switches']:>8.2f} {means['misses']:>6.1f} {milliseconds:>8.3f}"
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
