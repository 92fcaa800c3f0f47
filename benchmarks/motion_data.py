"""People made of sticks who walk, cross, turn back and hide each other: motion of which everything is known.

Only for figures and tests: no picture is drawn. A camera looks at people who walk across it at different depths; the
simulated detector misses those who are hidden, mixes up limbs where people overlap, and errs by a little everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import box_iou
from wholepose.poses import Poses
from wholepose.skeletons import HALPE26

SIZE = (480, 854)
FPS = 30.0


@dataclass(frozen=True)
class Walker:
    height_px: float
    ground_y: float
    start_x: float
    speed_px: float  # a frame
    phase: float
    cadence: float  # strides a frame
    turns: tuple[int, ...] = ()  # frames at which the walk turns round

    def x(self, frame: int) -> tuple[float, float]:
        """Place and direction."""
        place, direction, last = self.start_x, float(np.sign(self.speed_px)), 0
        for turn in (*self.turns, 10**9):
            steps = min(frame, turn) - last
            place += direction * abs(self.speed_px) * steps
            if frame <= turn:
                return place, direction
            direction, last = -direction, turn
        return place, direction

    def keypoints(self, frame: int) -> NDArray[np.float64]:
        """(26, 2) pixels."""
        x, direction = self.x(frame)
        height = self.height_px
        angle = 2 * np.pi * (self.phase + self.cadence * frame)
        points: dict[str, NDArray[np.float64]] = {}
        hip = np.array([x, self.ground_y - 0.52 * height + 0.012 * height * np.cos(2 * angle)])
        neck = hip + np.array([0.03 * direction, -0.30]) * height
        points["hip"], points["neck"] = hip, neck
        points["head"] = neck + np.array([0.01 * direction, -0.18]) * height
        points["nose"] = neck + np.array([0.06 * direction, -0.09]) * height
        for side, sign in (("left", 1.0), ("right", -1.0)):
            swing = np.sin(angle + (0 if sign > 0 else np.pi))
            across = 0.025 * sign * height
            points[f"{side}_eye"] = neck + np.array([0.05 * direction, -0.105]) * height + [across * 0.5, 0]
            points[f"{side}_ear"] = neck + np.array([0.01 * direction, -0.10]) * height + [across * 0.8, 0]
            points[f"{side}_shoulder"] = neck + np.array([across, 0.03 * height])
            points[f"{side}_hip"] = hip + np.array([across, 0])
            points[f"{side}_elbow"] = points[f"{side}_shoulder"] + _limb(0.17 * height, -0.45 * swing, direction)
            points[f"{side}_wrist"] = points[f"{side}_elbow"] + _limb(0.15 * height, -0.45 * swing + 0.3, direction)
            points[f"{side}_knee"] = points[f"{side}_hip"] + _limb(0.25 * height, 0.5 * swing, direction)
            bend = 0.5 * swing - 0.35 * max(0.0, float(np.cos(angle + (0 if sign > 0 else np.pi)))) - 0.05
            ankle = points[f"{side}_knee"] + _limb(0.24 * height, bend, direction)
            points[f"{side}_ankle"] = ankle
            points[f"{side}_big_toe"] = ankle + np.array([0.10 * direction, 0.03]) * height
            points[f"{side}_small_toe"] = ankle + np.array([0.08 * direction, 0.035]) * height
            points[f"{side}_heel"] = ankle + np.array([-0.03 * direction, 0.03]) * height
        return np.stack([points[name] for name in HALPE26.keypoint_names])


def _limb(length: float, angle: float, direction: float) -> NDArray[np.float64]:
    return np.array([direction * np.sin(angle), np.cos(angle)]) * length


def boxes_of(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    margin = 0.06 * (high - low) + 1
    return np.concatenate([low - margin, high + margin], axis=1)


@dataclass(frozen=True)
class Frame:
    true_ids: NDArray[np.int64]
    true_keypoints: NDArray[np.float64]
    true_boxes: NDArray[np.float64]
    found: Poses  # without track numbers


def crossing_walkers(seed: int, people: int) -> list[Walker]:
    """People on two sides who walk through each other; every third turns back in the middle of it."""
    random = np.random.default_rng([seed, people])
    walkers = []
    for person in range(people):
        height = random.uniform(140, 230)
        direction = 1 if person % 2 == 0 else -1
        speed = direction * random.uniform(1.8, 4.0) * height / 180
        start = SIZE[1] / 2 - speed * random.uniform(55, 95)
        turns = (int(random.integers(65, 85)),) if person % 3 == 2 else ()
        walkers.append(
            Walker(
                height,
                SIZE[0] - 12 - random.uniform(0, 55),
                start,
                speed,
                random.random(),
                1 / random.uniform(28, 36),
                turns,
            )
        )
    return walkers


def observe(walkers: list[Walker], frames: int, seed: int, *, miss: float = 0.04, noise: float = 0.012) -> list[Frame]:
    """What a detector and a pose model make of the scene.

    Args:
        walkers: The people.
        frames: How many frames.
        seed: Of the errors.
        miss: Share of visible people who are missed at random.
        noise: Standard deviation of a keypoint, as a share of the person's height.
    """
    random = np.random.default_rng([seed, 7])
    depth = np.argsort([-walker.ground_y for walker in walkers])  # the nearest first
    result = []
    for frame in range(frames):
        keypoints = np.stack([walker.keypoints(frame) for walker in walkers])
        boxes = boxes_of(keypoints)
        inside = (boxes[:, 2] > 0) & (boxes[:, 0] < SIZE[1])
        found: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]] = []
        in_front: list[int] = []
        for person in depth.tolist():
            if not inside[person]:
                continue
            hidden, mixed = _hidden(keypoints[person], [boxes[other] for other in in_front])
            nearest = max(in_front, key=lambda other: box_iou(boxes[[person]], boxes[[other]])[0, 0], default=None)
            in_front.append(person)
            if random.random() < (0.95 if hidden > 0.6 else miss + 0.3 * hidden):
                continue
            height = walkers[person].height_px
            seen = keypoints[person].copy()
            scores = random.uniform(0.75, 0.95, len(seen))
            scores[mixed] = random.uniform(0.1, 0.6, int(mixed.sum()))
            if nearest is not None and mixed.any():  # limbs of who is in front
                wrong = mixed & (random.random(len(seen)) < 0.4)
                seen[wrong] = keypoints[nearest][wrong]
            spread = noise * height * np.where(mixed, 3, 1)[:, None]
            seen = seen + random.normal(size=seen.shape) * spread
            box = boxes[person] + random.normal(size=4) * 0.03 * height
            found.append((seen, scores, box, float(random.uniform(0.6, 0.95))))
        if random.random() < 0.03:  # a coat on a chair
            ghost = keypoints[0] + random.uniform(-300, 300, 2)
            found.append((ghost, random.uniform(0.2, 0.5, 26), boxes_of(ghost[None])[0], 0.4))
        order = random.permutation(len(found))
        result.append(
            Frame(
                true_ids=np.flatnonzero(inside),
                true_keypoints=keypoints[inside],
                true_boxes=boxes[inside],
                found=_poses([found[index] for index in order]),
            )
        )
    return result


def _hidden(keypoints: NDArray[np.float64], fronts: list[NDArray[np.float64]]) -> tuple[float, NDArray[np.bool_]]:
    """The share of a person behind others, and which keypoints are."""
    covered = np.zeros(len(keypoints), np.bool_)
    for front in fronts:
        middle, half = (front[0] + front[2]) / 2, (front[2] - front[0]) / 2 * 0.6  # a body fills its box in part
        covered |= (
            (np.abs(keypoints[:, 0] - middle) < half) & (keypoints[:, 1] > front[1]) & (keypoints[:, 1] < front[3])
        )
    return float(covered.mean()), covered


def _poses(found: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]]) -> Poses:
    if not found:
        return Poses.empty(HALPE26)
    keypoints, scores, boxes, box_scores = (np.stack(column) for column in zip(*found, strict=True))
    return Poses(keypoints, scores, boxes, box_scores, HALPE26)
