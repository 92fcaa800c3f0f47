"""PoseTracker: gives people of successive frames their numbers.

A person of a frame and a person known from before are compared by how well the keypoints fit where they were expected
(object keypoint similarity, with the uncertainty of the expectation) and by how much the boxes overlap. The best pairs
of all are made at once. Somebody who hides moves on at the velocity last seen, less and less surely, and is
recognised where that leads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import box_iou
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton
from wholepose.tracking.assignment import assign
from wholepose.tracking.track import Track, box_size

_SMALLEST_SIGMA = 0.08  # what matters is the error of the expected place, not how well people label
_FEWEST_KEYPOINTS = 4
_POSE_SHARE = 0.6
_BOX_MARGIN = 0.1  # of the keypoints' extent, on each side
_TRIAL_FRAMES = 3  # a person seen less often is soon forgotten: most likely a false alarm


class PoseTracker:
    """Numbers people from 0 in the order in which they appear; a number is never used twice."""

    def __init__(
        self,
        *,
        max_missing_frames: int = 45,
        min_similarity: float = 0.15,
        keypoint_threshold: float = 0.3,
    ) -> None:
        """Starts with nobody.

        Args:
            max_missing_frames: For how many frames somebody may be out of sight and keep the number; who was seen
                in fewer than three, for three at most.
            min_similarity: In [0, 1]; people less alike than this are not the same.
            keypoint_threshold: Keypoints that score below this are not compared.

        Raises:
            ValueError: An argument is out of range.
        """
        if max_missing_frames < 0:
            raise ValueError(f"max_missing_frames must be 0 or more, not {max_missing_frames}")
        if not 0 < min_similarity <= 1:
            raise ValueError(f"min_similarity must lie in (0, 1], not {min_similarity}")
        if not 0 <= keypoint_threshold <= 1:
            raise ValueError(f"keypoint_threshold must lie in [0, 1], not {keypoint_threshold}")
        self._max_missing_frames = max_missing_frames
        self._min_similarity = min_similarity
        self._threshold = keypoint_threshold
        self._tracks: list[Track] = []
        self._next_id = 0
        self._frame_index: int | None = None
        self._step = 1
        self._image_size: tuple[int, int] | None = None
        self._skeleton: Skeleton | None = None

    def update(self, poses: Poses, *, frame_index: int, image_size: tuple[int, int]) -> Poses:
        """Takes in the people of a frame.

        Args:
            poses: The people found; leave doubtful ones and repetitions out before. Nobody is fine.
            frame_index: The frame's place in the video, larger than the last one's; frames may be left out.
            image_size: (height, width) of the frame in pixels. Where it differs from the frame before, what is known
                of people is scaled along.

        Returns:
            The same people in the same order with ``track_ids`` set.

        Raises:
            ValueError: The frame does not come after the last one, or the skeleton changed.
        """
        if self._frame_index is not None and frame_index <= self._frame_index:
            raise ValueError(f"frame {frame_index} does not come after frame {self._frame_index}")
        if self._skeleton is not None and poses.skeleton is not self._skeleton:
            raise ValueError(f"the people before were {self._skeleton!r} and these are {poses.skeleton!r}")
        self._skeleton = poses.skeleton
        self._move_on(frame_index, image_size)
        columns = _tracked_keypoints(poses.skeleton)
        keypoints = poses.keypoints[:, columns].astype(np.float64)
        scores, boxes = poses.scores[:, columns].astype(np.float64), poses.boxes.astype(np.float64)

        rows, people = assign(self._gains(keypoints, scores, boxes, poses.skeleton.sigmas[columns]))
        track_ids = np.full(len(poses), -1, dtype=np.int64)
        for row, person in zip(rows.tolist(), people.tolist(), strict=True):
            track = self._tracks[row]
            track.correct(keypoints[person], scores[person], boxes[person], self._threshold, track.missed)
            track_ids[person] = track.track_id
        for person in np.flatnonzero(track_ids < 0).tolist():
            track_ids[person] = self._next_id
            self._tracks.append(Track.begin(self._next_id, keypoints[person], scores[person], boxes[person]))
            self._next_id += 1
        self._forget(image_size)
        return replace(poses, track_ids=track_ids)

    def predicted_boxes(self) -> NDArray[np.float32]:
        """Where to look for people in the next frame without a detector.

        Returns:
            (M, 4) float32 xyxy pixels, one box for each person seen in the last frame: the extent of the keypoints
            with a margin, moved as the person moves. Somebody hidden has none: the box would hold who hides them.
        """
        boxes = [self._predicted_box(track) for track in self._tracks if track.missed == 0]
        return np.array(boxes, dtype=np.float32).reshape(-1, 4)

    def _predicted_box(self, track: Track) -> NDArray[np.float64]:
        seen = track.keypoints[track.scores >= self._threshold]
        low, high = track.box[:2], track.box[2:]
        if len(seen) >= _FEWEST_KEYPOINTS and (np.ptp(seen, axis=0) > 0).all():
            low, high = seen.min(axis=0), seen.max(axis=0)
            margin = _BOX_MARGIN * (high - low)
            low, high = low - margin, high + margin
        move = track.velocity * self._step
        return np.concatenate([low + move, high + move])

    def _move_on(self, frame_index: int, image_size: tuple[int, int]) -> None:
        """Brings all tracks to the time and the pixels of a frame."""
        if self._frame_index is not None:
            self._step = frame_index - self._frame_index
            for track in self._tracks:
                track.predict(self._step)
        if self._image_size is not None and image_size != self._image_size:
            height, width = image_size
            factors = np.array([width / self._image_size[1], height / self._image_size[0]])
            for track in self._tracks:
                track.rescale(factors)
        self._frame_index, self._image_size = frame_index, image_size
        self._tracks = [track for track in self._tracks if track.missed - 1 <= self._patience(track)]

    def _patience(self, track: Track) -> int:
        """For how many frames a track may go unseen, at least those between two that are looked at."""
        limit = self._max_missing_frames
        if track.hits < _TRIAL_FRAMES:
            limit = min(limit, _TRIAL_FRAMES * self._step)
        return max(limit, self._step - 1)

    def _gains(
        self,
        keypoints: NDArray[np.float64],
        scores: NDArray[np.float64],
        boxes: NDArray[np.float64],
        sigmas: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(T, N): how much speaks for each pair of a track and a person; 0 where they are too unlike."""
        gains = np.zeros((len(self._tracks), len(boxes)))
        if not gains.size:
            return gains
        sizes = np.array([box_size(box) for box in boxes])
        overlaps = box_iou(np.stack([track.box for track in self._tracks]), boxes)
        tolerances = 2 * np.maximum(sigmas, _SMALLEST_SIGMA)
        for row, track in enumerate(self._tracks):
            compared = (scores >= self._threshold) & (track.scores >= self._threshold * 0.5)  # (N, K)
            distances = np.square(keypoints - track.keypoints).sum(-1)
            spread = np.square((sizes[:, None] + track.size) / 2 * tolerances)
            unsure = float(track.spread[0, 0])
            kernel = np.exp(-distances / (2 * (spread + unsure)))
            counts = compared.sum(axis=1)
            pose = (kernel * compared).sum(axis=1) / np.maximum(counts, 1)
            similarity = np.where(
                counts >= _FEWEST_KEYPOINTS, _POSE_SHARE * pose + (1 - _POSE_SHARE) * overlaps[row], overlaps[row]
            )
            # Of two tracks that fit, the one whose place is better known: a density, not only a likeness.
            known = np.mean(spread / (spread + unsure), axis=1)
            gains[row] = np.where(similarity >= self._min_similarity, similarity * np.sqrt(known), 0)
        return gains

    def _forget(self, image_size: tuple[int, int]) -> None:
        """Drops those who walked out of the picture."""
        height, width = image_size
        limit = np.array([width, height])
        self._tracks = [
            track
            for track in self._tracks
            if track.missed == 0 or ((track.box[2:] > -track.size) & (track.box[:2] < limit + track.size)).all()
        ]


def _tracked_keypoints(skeleton: Skeleton) -> NDArray[np.int64]:
    """Body and feet, where the skeleton has a body: faces and hands say nothing more of who it is."""
    chosen = [index for part in ("body", "feet") for index in skeleton.parts.get(part, ())]
    return np.array(chosen or range(skeleton.num_keypoints), dtype=np.int64)
