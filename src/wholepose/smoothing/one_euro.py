"""OneEuroSmoother: a low-pass filter that opens with speed, frame by frame without looking ahead.

After Casiez, Roussel and Vogel, "1 Euro Filter" (CHI 2012), with speeds counted in the person's own size and with each
step scaled by how sure the keypoint is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses
from wholepose.skeletons import Skeleton
from wholepose.smoothing.trust import gain_matrices, score_trust, usual_variance


@dataclass
class _State:
    """What is remembered of one person."""

    time_s: float
    keypoints: NDArray[np.float64]  # (K, 2) px
    velocities: NDArray[np.float64]  # (K, 2) px/s
    seen_s: NDArray[np.float64]  # (K,) when each keypoint was last seen; -inf: never


class OneEuroSmoother:
    """Smooths the keypoints of tracked people, causally: a frame's result is there at once.

    A keypoint at rest is smoothed strongly, a fast one hardly, so that it does not lag. One with a low score or a
    large covariance moves less, along the direction in which it is uncertain.
    """

    def __init__(
        self,
        *,
        min_cutoff_hz: float = 1.5,
        speed_gain: float = 4.0,
        velocity_cutoff_hz: float = 1.0,
        max_gap_s: float = 0.5,
    ) -> None:
        """Starts with nobody.

        Args:
            min_cutoff_hz: Cut-off frequency at rest; lower is smoother.
            speed_gain: By how many hertz the cut-off rises for a speed of one body size (root of the box's area) a
                second; higher lags less.
            velocity_cutoff_hz: Cut-off for the speed itself.
            max_gap_s: After so long out of sight a person, or a keypoint, starts anew.

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
        self._time_s, self._skeleton = time_s, poses.skeleton
        trust = score_trust(poses.scores)[..., None, None] * np.eye(2)
        if poses.covariances is not None:
            usual = usual_variance(poses.covariances, poses.scores > 0)
            trust = trust @ gain_matrices(poses.covariances, usual)
        sides = np.maximum(poses.boxes[:, 2:] - poses.boxes[:, :2], 1.0)
        sizes = np.sqrt(sides.prod(axis=1, dtype=np.float64))
        smoothed = poses.keypoints.astype(np.float64)
        for row, track_id in enumerate(track_ids):
            smoothed[row] = self._step(
                track_id, smoothed[row], poses.scores[row] > 0, trust[row], float(sizes[row]), time_s
            )
        self._states = {
            track_id: state for track_id, state in self._states.items() if time_s - state.time_s <= self._max_gap_s
        }
        return replace(poses, keypoints=smoothed.astype(np.float32))

    def _step(
        self,
        track_id: int,
        keypoints: NDArray[np.float64],
        seen: NDArray[np.bool_],
        trust: NDArray[np.float64],
        size: float,
        time_s: float,
    ) -> NDArray[np.float64]:
        """One person's (K, 2) keypoints, smoothed."""
        state = self._states.get(track_id)
        if state is None or time_s - state.time_s > self._max_gap_s:
            seen_s = np.where(seen, time_s, -np.inf)
            self._states[track_id] = _State(time_s, keypoints, np.zeros_like(keypoints), seen_s)
            return keypoints
        elapsed = time_s - state.seen_s  # (K,)
        known = seen & (elapsed <= self._max_gap_s)
        elapsed = np.where(known, elapsed, time_s - state.time_s)
        step = np.where(known[:, None], keypoints - state.keypoints, 0)
        step = (trust @ step[..., None])[..., 0]  # doubtful measurements say little of the speed too
        change = step / elapsed[:, None] - state.velocities
        velocities = state.velocities + _alpha(self._velocity_cutoff_hz, elapsed)[:, None] * change
        speeds = np.hypot(velocities[:, 0], velocities[:, 1]) / size
        cutoffs_hz = self._min_cutoff_hz + self._speed_gain * speeds
        moved = state.keypoints + _alpha(cutoffs_hz, elapsed)[:, None] * step
        anew = seen & ~known
        result = np.where(anew[:, None], keypoints, moved)
        velocities[anew] = 0
        self._states[track_id] = _State(time_s, result, velocities, np.where(seen, time_s, state.seen_s))
        return np.where(seen[:, None], result, keypoints)


def _alpha(cutoff_hz: NDArray[np.float64] | float, elapsed_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of a step that a first-order low-pass filter takes."""
    rate = 2 * math.pi * elapsed_s * cutoff_hz
    return rate / (rate + 1)


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
