"""OneEuroSmoother: a low-pass filter that opens with speed, frame by frame without looking ahead.

After Casiez, Roussel and Vogel, "1 Euro Filter" (CHI 2012), with speeds counted in the person's own size, and in two
steps: first the body as a whole, whose place many keypoints tell together and which therefore needs little smoothing,
then each keypoint against the body, by how sure the keypoint is. So a doubtful keypoint goes where the body goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses
from wholepose.skeletons import Skeleton
from wholepose.smoothing.trust import gain_matrices, score_trust, usual_variance

_BODY_SPEED_GAIN = 4.0  # times that of a keypoint: the median of many needs less smoothing
_BODY_VELOCITY_CUTOFF_HZ = 3.0
_FEWEST_KEYPOINTS = 4
_SURE = 0.7  # of the trust in a score


@dataclass
class _State:
    """What is remembered of one person."""

    time_s: float
    keypoints: NDArray[np.float64]  # (K, 2) px
    velocities: NDArray[np.float64]  # (K, 2) px/s, against the body
    body_velocity: NDArray[np.float64]  # (2,) px/s
    seen_s: NDArray[np.float64]  # (K,) when each keypoint was last seen; -inf: never


class OneEuroSmoother:
    """Smooths the keypoints of tracked people, causally: a frame's result is there at once.

    A keypoint at rest is smoothed strongly, a fast one hardly, so that it does not lag. One with a low score or a
    large covariance moves less against the body, along the direction in which it is uncertain.
    """

    def __init__(
        self,
        *,
        min_cutoff_hz: float = 1.5,
        speed_gain: float = 10.0,
        velocity_cutoff_hz: float = 3.0,
        max_gap_s: float = 0.5,
    ) -> None:
        """Starts with nobody.

        Args:
            min_cutoff_hz: Cut-off frequency at rest; lower is smoother.
            speed_gain: By how many hertz the cut-off rises for a speed of one body size (root of the box's area) a
                second; higher lags less.
            velocity_cutoff_hz: Cut-off for the speed itself.
            max_gap_s: After so long out of sight a person, or a keypoint, starts anew; seen in the frame before, they
                were not out of sight, however long ago that was.

        Raises:
            ValueError: An argument is not positive (``speed_gain``: negative).
        """
        for name, value in (
            ("min_cutoff_hz", min_cutoff_hz),
            ("velocity_cutoff_hz", velocity_cutoff_hz),
            ("max_gap_s", max_gap_s),
        ):
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if not speed_gain >= 0:
            raise ValueError(f"speed_gain must be 0 or more, not {speed_gain}")
        self._min_cutoff_hz = min_cutoff_hz
        self._speed_gain = speed_gain
        self._velocity_cutoff_hz = velocity_cutoff_hz
        self._max_gap_s = max_gap_s
        self._states: dict[int, _State] = {}
        self._skeleton: Skeleton | None = None
        self._time_s = -math.inf

    def update(self, poses: Poses, time_s: float) -> Poses:
        """Smooths the people of a frame.

        Args:
            poses: People with track numbers; nobody is fine.
            time_s: The frame's time in seconds, later than the last one's.

        Returns:
            The same people with smoothed keypoints. Scores and covariances stay those of the measurement. A keypoint
            of score 0 is missing and stays as it is.

        Raises:
            ValueError: There are no track numbers, one comes twice, the time does not rise, or the skeleton changed.
        """
        if not time_s > self._time_s:
            raise ValueError(f"time {time_s} s does not come after {self._time_s} s")
        if self._skeleton is not None and poses.skeleton is not self._skeleton:
            raise ValueError(f"the people before were {self._skeleton!r} and these are {poses.skeleton!r}")
        track_ids = track_numbers(poses)
        gap_s = max(self._max_gap_s, time_s - self._time_s)  # nobody was out of sight between two frames
        self._time_s, self._skeleton = time_s, poses.skeleton
        of_scores = score_trust(poses.scores)
        sure = of_scores >= _SURE
        trust = of_scores[..., None, None] * np.eye(2)
        if poses.covariances is not None:
            usual = usual_variance(poses.covariances, poses.scores > 0)
            trust = gain_matrices(poses.covariances, usual, of_scores)
        sides = np.maximum(poses.boxes[:, 2:] - poses.boxes[:, :2], 1.0)
        sizes = np.sqrt(sides.prod(axis=1, dtype=np.float64))
        smoothed = poses.keypoints.astype(np.float64)
        for row, track_id in enumerate(track_ids):
            smoothed[row] = self._step(
                track_id, smoothed[row], poses.scores[row] > 0, sure[row], trust[row], float(sizes[row]), time_s, gap_s
            )
        self._states = {track_id: state for track_id, state in self._states.items() if time_s - state.time_s <= gap_s}
        return replace(poses, keypoints=smoothed.astype(np.float32))

    def _step(
        self,
        track_id: int,
        keypoints: NDArray[np.float64],
        seen: NDArray[np.bool_],
        sure: NDArray[np.bool_],
        trust: NDArray[np.float64],
        size: float,
        time_s: float,
        gap_s: float,
    ) -> NDArray[np.float64]:
        """One person's (K, 2) keypoints, smoothed."""
        state = self._states.get(track_id)
        if state is None or time_s - state.time_s > gap_s:
            seen_s = np.where(seen, time_s, -np.inf)
            self._states[track_id] = _State(time_s, keypoints, np.zeros_like(keypoints), np.zeros(2), seen_s)
            return keypoints
        known = seen & (time_s - state.seen_s <= gap_s)
        elapsed_s = time_s - state.time_s
        steps = keypoints - state.keypoints
        body_step, body_velocity = self._move_body(steps[known & sure], state.body_velocity, elapsed_s, size)
        # Doubtful measurements say little of the speed, too.
        rest = np.where(known[:, None], (trust @ (steps - body_step)[..., None])[..., 0], 0)
        velocities = state.velocities + _alpha(self._velocity_cutoff_hz, elapsed_s) * (
            rest / elapsed_s - state.velocities
        )
        cutoffs_hz = self._min_cutoff_hz + self._speed_gain * np.hypot(velocities[:, 0], velocities[:, 1]) / size
        moved = state.keypoints + body_step + _alpha(cutoffs_hz, elapsed_s)[:, None] * rest
        anew = seen & ~known
        result = np.where(anew[:, None], keypoints, moved)
        velocities[anew] = 0
        self._states[track_id] = _State(time_s, result, velocities, body_velocity, np.where(seen, time_s, state.seen_s))
        return np.where(seen[:, None], result, keypoints)

    def _move_body(
        self, steps: NDArray[np.float64], velocity: NDArray[np.float64], elapsed_s: float, size: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The step of the whole body and its velocity, from the steps (M, 2) of its sure keypoints."""
        if len(steps) < _FEWEST_KEYPOINTS:
            return np.zeros(2), velocity * 0
        step = np.median(steps, axis=0)
        velocity = velocity + _alpha(_BODY_VELOCITY_CUTOFF_HZ, elapsed_s) * (step / elapsed_s - velocity)
        cutoff_hz = self._min_cutoff_hz + _BODY_SPEED_GAIN * self._speed_gain * float(np.hypot(*velocity)) / size
        return _alpha(cutoff_hz, elapsed_s) * step, velocity


def _alpha(cutoff_hz: NDArray[np.float64] | float, elapsed_s: float) -> NDArray[np.float64]:
    """The share of a step that a first-order low-pass filter takes."""
    rate = 2 * math.pi * elapsed_s * np.asarray(cutoff_hz, dtype=np.float64)
    return np.asarray(rate / (rate + 1))


def track_numbers(poses: Poses) -> list[int]:
    """The track numbers of the people of a frame.

    Raises:
        ValueError: There are none, or one comes twice.
    """
    if poses.track_ids is None:
        if len(poses):
            raise ValueError("people need track_ids to be smoothed over time; see wholepose.tracking.PoseTracker")
        return []
    track_ids: list[int] = poses.track_ids.tolist()
    if len(set(track_ids)) != len(track_ids):
        raise ValueError(f"a track number comes twice in one frame: {track_ids}")
    return track_ids
