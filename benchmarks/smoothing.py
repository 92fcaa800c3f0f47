"""Smooths simulated walking with noise, and prints the error and the acceleration error before and after.

    python benchmarks/smoothing.py
    python benchmarks/smoothing.py --json smoothing.json

Error: mean distance of a keypoint from its true place. Acceleration error: mean distance of its second difference
from the true one, which is what the eye sees as jitter. Both as a share of the person's height, in thousandths.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from motion_data import FPS, SIZE, Walker, boxes_of

from wholepose.formats import PoseFrame
from wholepose.poses import Poses
from wholepose.skeletons import HALPE26
from wholepose.smoothing import OneEuroSmoother, smooth_sequence


def walk(frames: int = 200, seed: int = 0, noise: float = 0.012) -> tuple[NDArray[np.float64], list[PoseFrame], float]:
    """A person who walks across the picture, as a model sees them.

    A tenth of the keypoints are doubtful for a while, with five times the error, a score and a covariance that say so;
    all others err by ``noise`` of the height.

    Returns:
        The true keypoints (T, 26, 2), the frames, and the person's height in pixels.
    """
    random = np.random.default_rng([seed, 11])
    walker = Walker(200.0, 460.0, 60.0, 3.0, float(random.random()), 1 / 33, (120,))
    truth = np.stack([walker.keypoints(frame) for frame in range(frames)])
    doubtful = np.zeros((frames, 26), np.bool_)
    for start in range(0, frames, 10):
        doubtful[start : start + 10] = random.random(26) < 0.1
    deviation = noise * walker.height_px * np.where(doubtful, 5.0, 1.0)
    seen = truth + random.normal(size=truth.shape) * deviation[..., None]
    scores = np.where(doubtful, random.uniform(0.32, 0.5, doubtful.shape), random.uniform(0.75, 0.95, doubtful.shape))
    # A heatmap's covariance is its bell's width plus what is uncertain.
    bell = (0.03 * walker.height_px) ** 2
    covariances = (bell * np.where(doubtful, 6.0, 1.0))[..., None, None] * np.eye(2)
    boxes = boxes_of(truth)
    result = [
        PoseFrame(
            index,
            index / FPS,
            Poses(
                seen[[index]],
                scores[[index]],
                boxes[[index]],
                np.ones(1),
                HALPE26,
                covariances[[index]],
                None,
                np.zeros(1),
            ),
            "walk",
            SIZE,
        )
        for index in range(frames)
    ]
    return truth, result, walker.height_px


def errors(truth: NDArray[np.float64], keypoints: NDArray[np.floating], height: float) -> tuple[float, float]:
    """Mean error and mean acceleration error, thousandths of the height."""
    difference = keypoints.astype(np.float64) - truth
    place = np.linalg.norm(difference, axis=-1).mean()
    acceleration = np.linalg.norm(np.diff(difference, n=2, axis=0), axis=-1).mean()
    return 1000 * float(place) / height, 1000 * float(acceleration) / height


def smoothed(frames: list[PoseFrame], method: str) -> NDArray[np.floating]:
    """(T, 26, 2) keypoints after a method; ``plain`` ones are not told scores and covariances."""
    if method.endswith("plain"):
        frames = [
            PoseFrame(
                frame.frame_index,
                frame.time_s,
                Poses(
                    frame.poses.keypoints,
                    np.full(frame.poses.scores.shape, 0.9),
                    frame.poses.boxes,
                    frame.poses.box_scores,
                    HALPE26,
                    track_ids=frame.poses.track_ids,
                ),
            )
            for frame in frames
        ]
    if method == "none":
        return np.concatenate([frame.poses.keypoints for frame in frames])
    if method.startswith("One-Euro"):
        smoother = OneEuroSmoother()
        return np.concatenate([smoother.update(frame.poses, frame.time_s or 0.0).keypoints for frame in frames])
    return np.concatenate([frame.poses.keypoints for frame in smooth_sequence(frames)])


METHODS = ("none", "One-Euro, plain", "One-Euro", "Savitzky-Golay, plain", "Savitzky-Golay")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'noise':>6}  {'smoothing':<22} {'error':>7} {'acceleration error':>19}")
    for noise in (0.006, 0.012, 0.024):
        walks = [walk(seed=seed, noise=noise) for seed in range(options.walks)]
        for method in METHODS:
            each = [errors(truth, smoothed(frames, method), height) for truth, frames, height in walks]
            place, acceleration = np.mean(each, axis=0).tolist()
            rows.append({"noise": noise, "smoothing": method, "error": place, "acceleration_error": acceleration})
            print(f"{1000 * noise:>6.0f}  {method:<22} {place:>7.2f} {acceleration:>19.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
