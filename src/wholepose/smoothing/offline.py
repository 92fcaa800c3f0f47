"""Smoothing of a whole recording: a local polynomial about each frame, fitted to what lies before and after.

With evenly spaced frames and keypoints that are all equally sure this is the Savitzky-Golay filter: no delay, and peaks
keep their height. Written as weighted least squares it also takes uneven times, missing frames and doubtful keypoints,
which a fixed convolution (SciPy's ``savgol_filter``) does not.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.formats.frame import PoseFrame
from wholepose.poses import Poses
from wholepose.smoothing.one_euro import track_numbers
from wholepose.smoothing.trust import score_trust, usual_variance

_CHUNK = 256
_SMOOTHED_TOGETHER = 32  # frames; more hold more in memory, fewer do more work twice
_FILLED_TRUST = 0.02  # enough to hold a curve that nothing else holds, too little to bend one
_RIDGE = 1e-9  # lets a window of too few frames fall back to a lower degree


def smooth_sequence(
    frames: Sequence[PoseFrame],
    *,
    window_s: float = 0.3,
    degree: int = 2,
    max_gap_s: float = 0.25,
    threshold: float = 0.3,
    frame_rate: float = 30.0,
) -> list[PoseFrame]:
    """Smooths the keypoints of tracked people over a recording and fills short gaps.

    Args:
        frames: In order; people need track numbers.
        window_s: Length of the stretch of time to which a polynomial is fitted.
        degree: Of the polynomial.
        max_gap_s: Gaps of no more than this between two sightings are filled; 0 fills none.
        threshold: A keypoint that scores below this is not seen: a gap.
        frame_rate: Frames a second, where frames have no time.

    Returns:
        As many frames. Filled keypoints are marked in ``filled`` and score as the less sure of the two sightings
        around them. A person who was out of sight altogether for so short a time is added to the frames in between,
        after the others, by track number. Keypoints that are neither seen nor filled stay as they were.

    Raises:
        ValueError: People have no track numbers, one comes twice, the times or the skeleton do not fit, or an argument
            is out of range.
    """
    _check(window_s, degree, max_gap_s, threshold, frame_rate)
    if not frames:
        return []
    if len({frame.poses.skeleton for frame in frames}) > 1:
        raise ValueError("the frames have people of different skeletons; convert() them first")
    times_s = np.array([_time_s(frame, frame_rate) for frame in frames], np.float64)
    if not (np.diff(times_s) > 0).all():
        raise ValueError("the times of the frames must rise")
    rows_of_track: dict[int, list[tuple[int, int]]] = {}
    for place, frame in enumerate(frames):
        for person, track_id in enumerate(track_numbers(frame.poses)):
            rows_of_track.setdefault(track_id, []).append((place, person))
    results = [_Result(frame) for frame in frames]
    for track_id, rows in rows_of_track.items():
        track = _Recording(frames, times_s, rows, threshold)
        track.fill(max_gap_s)
        keypoints = track.smooth(window_s, degree)
        for row in range(len(track.times_s)):
            results[track.first + row].take(track, row, track_id, keypoints[row])
    return [result.frame() for result in results]


class DelayedSmoother:
    """Does what ``smooth_sequence`` does while frames come: the same answers, given a little later.

    Only the second or so of frames that an answer depends on is in memory.
    """

    def __init__(
        self,
        *,
        window_s: float = 0.3,
        degree: int = 2,
        max_gap_s: float = 0.25,
        threshold: float = 0.3,
        frame_rate: float = 30.0,
    ) -> None:
        """Starts without frames; the arguments are those of ``smooth_sequence``.

        Args:
            window_s: Length of the stretch of time to which a polynomial is fitted.
            degree: Of the polynomial.
            max_gap_s: Longest gap that is filled.
            threshold: A keypoint that scores below this is not seen.
            frame_rate: Frames a second, where frames have no time.

        Raises:
            ValueError: An argument is out of range.
        """
        _check(window_s, degree, max_gap_s, threshold, frame_rate)
        self._smooth = partial(
            smooth_sequence,
            window_s=window_s,
            degree=degree,
            max_gap_s=max_gap_s,
            threshold=threshold,
            frame_rate=frame_rate,
        )
        self._frame_rate = frame_rate
        self._reach_s = (window_s / 2 + max_gap_s) * (1 + 1e-6)  # a gap in the window may end beyond it
        self._held: list[PoseFrame] = []
        self._times_s: list[float] = []
        self._done = 0  # of those held; they stay for what comes after them

    def push(self, frame: PoseFrame) -> list[PoseFrame]:
        """Takes the next frame.

        Args:
            frame: The one after that of the last call.

        Returns:
            The frames that nothing to come can change, smoothed, each once and in order; mostly none, then many.

        Raises:
            ValueError: As ``smooth_sequence``.
        """
        self._held.append(frame)
        self._times_s.append(_time_s(frame, self._frame_rate))
        ready = bisect.bisect_left(self._times_s, self._times_s[-1] - self._reach_s)
        if ready - self._done < _SMOOTHED_TOGETHER:
            return []
        given = self._smooth(self._held)[self._done : ready]
        first = bisect.bisect_left(self._times_s, self._times_s[ready] - self._reach_s)
        self._held, self._times_s, self._done = self._held[first:], self._times_s[first:], ready - first
        return given

    def finish(self) -> list[PoseFrame]:
        """Gives the frames that are left, at the end."""
        left = self._smooth(self._held)[self._done :]
        self._held, self._times_s, self._done = [], [], 0
        return left


def _check(window_s: float, degree: int, max_gap_s: float, threshold: float, frame_rate: float) -> None:
    if not window_s > 0 or not frame_rate > 0:
        raise ValueError(f"window_s and frame_rate must be positive, not {window_s} and {frame_rate}")
    if not 0 <= degree <= 5 or not max_gap_s >= 0 or not 0 <= threshold <= 1:
        raise ValueError(
            f"degree must lie in 0 to 5, max_gap_s be 0 or more and threshold lie in [0, 1], "
            f"not {degree}, {max_gap_s} and {threshold}"
        )


def _time_s(frame: PoseFrame, frame_rate: float) -> float:
    return frame.frame_index / frame_rate if frame.time_s is None else frame.time_s


class _Recording:
    """One person from the first frame to the last; arrays of T frames."""

    def __init__(
        self, frames: Sequence[PoseFrame], times_s: NDArray[np.float64], rows: list[tuple[int, int]], threshold: float
    ) -> None:
        self.first = rows[0][0]
        count = rows[-1][0] - self.first + 1
        poses = frames[self.first].poses
        keypoint_count = poses.skeleton.num_keypoints
        self.times_s = times_s[self.first : self.first + count]
        self.person = np.full(count, -1)  # the person's row in each frame; -1 where absent
        self.keypoints = np.zeros((count, keypoint_count, 2))
        self.scores = np.zeros((count, keypoint_count))
        self.boxes = np.zeros((count, 4))
        self.box_scores = np.zeros(count)
        self.variances = np.ones((count, keypoint_count, 2))  # of x and y, as multiples of the usual one
        for place, person in rows:
            poses, row = frames[place].poses, place - self.first
            self.person[row] = person
            self.keypoints[row], self.scores[row] = poses.keypoints[person], poses.scores[person]
            self.boxes[row], self.box_scores[row] = poses.boxes[person], poses.box_scores[person]
            if poses.covariances is not None:
                covariances = poses.covariances[person : person + 1]
                usual = usual_variance(covariances, poses.scores[person : person + 1] >= threshold)
                self.variances[row] = np.maximum(covariances[0][:, [0, 1], [0, 1]] / usual[0], 1)
        self.seen = (self.scores >= threshold) & (self.scores > 0) & (self.person >= 0)[:, None]
        self.filled = np.zeros_like(self.seen)

    def fill(self, max_gap_s: float) -> None:
        """Puts straight lines into short gaps."""
        before, after, share = _around(self.seen, self.times_s, max_gap_s)
        self.filled = ~self.seen & (before >= 0)
        columns = np.arange(self.seen.shape[1])
        low, high = np.maximum(before, 0), np.maximum(after, 0)
        line = self.keypoints[low, columns] * (1 - share)[..., None] + self.keypoints[high, columns] * share[..., None]
        self.keypoints = np.where(self.filled[..., None], line, self.keypoints)
        less_sure = np.minimum(self.scores[low, columns], self.scores[high, columns])
        self.scores = np.where(self.filled, less_sure, self.scores)
        # The person as a whole, where absent.
        present = (self.person >= 0)[:, None]
        before, after, share = _around(present, self.times_s, max_gap_s)
        low, high, gap = np.maximum(before, 0)[:, 0], np.maximum(after, 0)[:, 0], ~present[:, 0] & (before >= 0)[:, 0]
        self.added = gap & self.filled.any(axis=1)
        self.boxes = np.where(gap[:, None], self.boxes[low] * (1 - share) + self.boxes[high] * share, self.boxes)
        self.box_scores = np.where(gap, np.minimum(self.box_scores[low], self.box_scores[high]), self.box_scores)

    def smooth(self, window_s: float, degree: int) -> NDArray[np.float64]:
        """(T, K, 2): the value at each frame of the polynomial fitted to the window about it."""
        trust = np.where(self.seen, np.square(score_trust(self.scores)), 0)
        weights = np.where(self.filled, _FILLED_TRUST, trust)[..., None] / self.variances  # (T, K, 2)
        result = self.keypoints.copy()
        half = window_s / 2 * (1 + 1e-6)
        starts = np.searchsorted(self.times_s, self.times_s - half)
        ends = np.searchsorted(self.times_s, self.times_s + half, side="right")
        powers = np.arange(degree + 1)
        ridge = _RIDGE * np.diag((powers > 0).astype(np.float64))
        for start in range(0, len(self.times_s), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(self.times_s)))
            width = int((ends[rows] - starts[rows]).max())
            window = starts[rows, None] + np.arange(width)
            inside = window < ends[rows, None]
            window = np.minimum(window, len(self.times_s) - 1)
            offsets = (self.times_s[window] - self.times_s[rows, None]) / half
            basis = offsets[..., None] ** powers * inside[..., None]  # (R, W, P)
            weighted = weights[window]  # (R, W, K, 2)
            total = np.maximum(weighted.sum(axis=1, where=inside[..., None, None]), 1e-12)
            matrices = np.einsum("rwp,rwq,rwka->rkapq", basis, basis, weighted, optimize=True) / total[..., None, None]
            # Differences from the frame itself: the ridge then pulls towards it, and large coordinates cost no digits.
            steps = self.keypoints[window] - self.keypoints[rows, None]
            sides = np.einsum("rwp,rwka->rkap", basis, weighted * steps, optimize=True) / total[..., None]
            matrices = matrices + ridge
            matrices[..., 0, 0] += 1e-12
            result[rows] += np.linalg.solve(matrices, sides[..., None])[..., 0, 0]
        return np.where((self.seen | self.filled)[..., None], result, self.keypoints)


def _around(
    seen: NDArray[np.bool_], times_s: NDArray[np.float64], max_gap_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The sightings around each gap of (T, C) that is short enough.

    Returns:
        (T, C) the row of the sighting before and of the one after, -1 where there is no gap or one too long, and the
        share of the time between them that has passed, 0 there.
    """
    count = len(seen)
    rows = np.arange(count)[:, None]
    before = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, rows, count)[::-1], axis=0)[::-1]
    inside = ~seen & (before >= 0) & (after < count)
    low, high = np.maximum(before, 0), np.minimum(after, count - 1)
    length_s = times_s[high] - times_s[low]
    short = inside & (length_s <= max_gap_s + 1e-9)
    share = np.where(short, (times_s[:, None] - times_s[low]) / np.where(length_s > 0, length_s, 1), 0)
    return np.where(short, before, -1), np.where(short, after, -1), share


@dataclass
class _Added:
    """A person put into a frame."""

    track_id: int
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    box: NDArray[np.float64]
    box_score: float
    filled: NDArray[np.bool_]


class _Result:
    """A frame in the making."""

    def __init__(self, frame: PoseFrame) -> None:
        self._frame = frame
        self._keypoints = frame.poses.keypoints.astype(np.float64)
        self._scores = frame.poses.scores.copy()
        known = frame.filled if frame.filled is not None else np.zeros(frame.poses.scores.shape, np.bool_)
        self._filled = known.copy()
        self._added: list[_Added] = []

    def take(self, track: _Recording, row: int, track_id: int, keypoints: NDArray[np.float64]) -> None:
        """Takes a person's smoothed keypoints."""
        person = int(track.person[row])
        if person >= 0:
            self._keypoints[person] = keypoints
            self._scores[person] = track.scores[row]
            self._filled[person] |= track.filled[row]
        elif track.added[row]:
            box, box_score = track.boxes[row], float(track.box_scores[row])
            self._added.append(_Added(track_id, keypoints, track.scores[row], box, box_score, track.filled[row]))

    def frame(self) -> PoseFrame:
        """The frame with all people."""
        poses = replace(
            self._frame.poses, keypoints=self._keypoints.astype(np.float32), scores=self._scores.astype(np.float32)
        )
        filled = self._filled
        if self._added:
            self._added.sort(key=lambda person: person.track_id)
            poses = Poses.concatenate([poses, _poses(self._added, poses)])
            filled = np.concatenate([filled, np.stack([person.filled for person in self._added])])
        return replace(self._frame, poses=poses, filled=filled if filled.any() else None)


def _poses(added: list[_Added], like: Poses) -> Poses:
    """People put into a frame, with the optional arrays that the frame's own people have."""
    scores = np.stack([person.scores for person in added]).astype(np.float32)
    boxes = np.stack([person.box for person in added]).astype(np.float32)
    optional: dict[str, Any] = {}
    if like.raw_scores is not None:
        optional["raw_scores"] = scores
    if like.covariances is not None:  # nothing was measured: as uncertain as the person is large
        spread = np.square(np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1) / 10)
        optional["covariances"] = np.broadcast_to(
            spread[:, None, None, None] * np.eye(2, dtype=np.float32), (*scores.shape, 2, 2)
        )
    return Poses(
        keypoints=np.stack([person.keypoints for person in added]).astype(np.float32),
        scores=scores,
        boxes=boxes,
        box_scores=np.array([person.box_score for person in added], dtype=np.float32),
        skeleton=like.skeleton,
        track_ids=np.array([person.track_id for person in added], dtype=np.int64),
        **optional,
    )
