"""Throughput of ``predict_dataset`` with one worker and with two, in turns, each with one CPU thread.

    python benchmarks/scaling.py [--pictures 400] [--rounds 3] [--workers 2]

The pictures are made: coarse noise of 640x480, as JPEG, one person each (the whole picture), read from the disk,
decoded, predicted by the embedded model and written as Parquet. A job begins with the start of its workers, some
seconds whatever its size; the rate is taken from the first result to the last.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
from pathlib import Path

import cv2
import numpy as np

from wholepose import PoseEstimator
from wholepose.distributed import DatasetOptions, DatasetReport, predict_dataset


def write_pictures(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        noise = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])


def rates(folder: Path, workers: int) -> tuple[float, float]:
    """Pictures a second while all workers are busy, and over the whole job with the start of the workers."""
    seen: list[tuple[float, int]] = []

    def note(report: DatasetReport) -> None:
        seen.append((report.seconds, report.looked_at))

    with tempfile.TemporaryDirectory() as out:
        report = predict_dataset(
            folder,
            out,
            make_estimator=functools.partial(PoseEstimator.from_pretrained, detector=None, threads=1),
            options=DatasetOptions(whole_image=True),
            workers=workers,
            pictures_per_part=16,
            on_progress=note,
        )
    assert not report.failures
    # The first results of all workers come at about the same time, and so do the last.
    (start, before), (end, after) = seen[workers - 1], seen[-workers]
    return (after - before) / (end - start), report.looked_at / report.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=options.workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.pictures)
        for _ in range(options.rounds):
            (one, one_job), (many, many_job) = rates(Path(folder), 1), rates(Path(folder), options.workers)
            ratios.append(many / one)
            print(
                f"1 worker {one:.1f}/s ({one_job:.1f} with its start), {options.workers} workers {many:.1f}/s "
                f"({many_job:.1f}): {ratios[-1]:.2f} x",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
