"""Poses: the one type in which results travel.

Convention:
    Coordinates are (x, y) pixels of the upright image they were found in; the centre of its top-left pixel is (0, 0).
    Boxes are (x1, y1, x2, y2) in the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wholepose.skeletons import OPENPOSE_BODY25, OPENPOSE_FACE70, OPENPOSE_HAND21, Skeleton, conversion
from wholepose.skeletons import convert_keypoints as convert_keypoint_arrays

SCORE_FLOOR = 0.2
"""Keypoints below this do not count in a person's score (Halpe and COCO top-down protocol)."""


@dataclass(frozen=True, eq=False)
class Poses:
    """The keypoints of N people in one image.

    The arrays are copied on the way in and cannot be written to. They never hold NaN or infinity.

    Attributes:
        keypoints: (N, K, 2) float32 (x, y) pixels; may lie outside the image.
        scores: (N, K) float32 in [0, 1].
        boxes: (N, 4) float32 xyxy pixels of the person the keypoints were looked for in.
        box_scores: (N,) float32, the detector's.
        skeleton: What the K keypoints are.
        covariances: (N, K, 2, 2) float32 px^2, the uncertainty of each place; None where the model gives none.
        raw_scores: (N, K) float32, heatmap peaks before they were clipped to [0, 1]; None where unknown.
        track_ids: (N,) int64, the same number for the same person in every frame of a video; None outside videos.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    skeleton: Skeleton
    covariances: NDArray[np.float32] | None = None
    raw_scores: NDArray[np.float32] | None = None
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Copies, checks and freezes the arrays.

        Raises:
            ValueError: A shape does not fit the others or the skeleton, a value is not finite, or a score is outside
                [0, 1].
        """
        people, count = len(np.atleast_1d(self.keypoints)), self.skeleton.num_keypoints
        shapes = {
            "keypoints": (people, count, 2),
            "scores": (people, count),
            "boxes": (people, 4),
            "box_scores": (people,),
            "covariances": (people, count, 2, 2),
            "raw_scores": (people, count),
            "track_ids": (people,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _frozen(name, value, shape))
        if self.scores.size and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise ValueError(
                f"scores must lie in [0, 1], not in [{self.scores.min()}, {self.scores.max()}]; "
                "clip them, and hand the unclipped ones in as raw_scores"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Poses:
        """Chooses people.

        Args:
            index: A number (gives a Poses of one person), a slice, a mask of N bools or an array of numbers.

        Raises:
            IndexError: There is no such person, or the mask has another length.
        """
        if isinstance(index, tuple):  # which NumPy takes for one place in several dimensions
            index = list(index)
        chosen = np.arange(len(self))[np.asarray(index, dtype=np.int64) if _is_empty(index) else index]
        chosen = np.atleast_1d(chosen)
        if chosen.ndim != 1:
            raise IndexError(f"people are chosen by a number, a slice or a one-dimensional array, not by {index!r}")
        arrays: dict[str, Any] = {name: value[chosen] for name, value in self._arrays().items()}
        return replace(self, **arrays)

    def __iter__(self) -> Iterator[Poses]:
        return (self[person] for person in range(len(self)))

    def __repr__(self) -> str:
        return f"<Poses: {len(self)} people, {self.skeleton.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = (self.covariances, self.raw_scores, self.track_ids)  # through the constructor, which freezes them
        return Poses, (self.keypoints, self.scores, self.boxes, self.box_scores, self.skeleton, *arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are there, by field."""
        fields = ("keypoints", "scores", "boxes", "box_scores", "covariances", "raw_scores", "track_ids")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Poses:
        """Nobody: N = 0, with covariances and raw scores of that length."""
        count = skeleton.num_keypoints
        return cls(
            keypoints=np.zeros((0, count, 2), np.float32),
            scores=np.zeros((0, count), np.float32),
            boxes=np.zeros((0, 4), np.float32),
            box_scores=np.zeros(0, np.float32),
            skeleton=skeleton,
            covariances=np.zeros((0, count, 2, 2), np.float32),
            raw_scores=np.zeros((0, count), np.float32),
        )

    @staticmethod
    def concatenate(poses: Sequence[Poses]) -> Poses:
        """Puts people together, in order.

        Covariances, raw scores and track numbers are kept where everybody has them.

        Raises:
            ValueError: There is nothing to put together, or the skeletons differ.
        """
        if not poses:
            raise ValueError("no poses to put together; start from Poses.empty(skeleton)")
        skeletons = {each.skeleton for each in poses}
        if len(skeletons) > 1:
            names = ", ".join(sorted(skeleton.name for skeleton in skeletons))
            raise ValueError(f"poses of different skeletons cannot be put together: {names}; convert() them first")
        peopled = [each for each in poses if len(each)] or [poses[0]]
        arrays = [each._arrays() for each in peopled]
        shared = set.intersection(*(set(each) for each in arrays))
        joined: dict[str, Any] = dict.fromkeys(("covariances", "raw_scores", "track_ids"))
        joined |= {name: np.concatenate([each[name] for each in arrays]) for name in shared}
        return Poses(skeleton=poses[0].skeleton, **joined)

    def part(self, part_name: str) -> Poses:
        """One part of every person, such as ``"left_hand"``, in that part's own skeleton.

        The boxes stay those of the whole people.

        Raises:
            ValueError: The skeleton has no such part; the message lists those it has.
        """
        skeleton = self.skeleton.part(part_name)
        indices = np.array(self.skeleton.parts[part_name], dtype=np.int64)
        keypointwise = {"keypoints", "scores", "covariances", "raw_scores"}
        cut: dict[str, Any] = {
            name: value[:, indices] for name, value in self._arrays().items() if name in keypointwise
        }
        return replace(self, skeleton=skeleton, **cut)

    def convert(self, skeleton: Skeleton) -> Poses:
        """The same people in another skeleton, estimates of neck and mid hip included (see ``conversion``).

        A keypoint that this skeleton does not know is (0, 0) with score 0 and covariance 0.
        """
        table = conversion(self.skeleton, skeleton)
        keypoints, scores = convert_keypoint_arrays(self.keypoints, self.scores, self.skeleton, skeleton)
        converted: dict[str, Any] = {"keypoints": keypoints, "scores": scores}
        if self.raw_scores is not None:
            converted["raw_scores"] = table.apply_to_scores(self.raw_scores)
        if self.covariances is not None:
            converted["covariances"] = table.apply_to_covariances(self.covariances)
        return replace(self, skeleton=skeleton, **converted)

    def known(self, threshold: float) -> NDArray[np.bool_]:
        """(N, K) bool: keypoints that score ``threshold`` or more; one of score 0 is missing at any threshold."""
        return np.asarray((self.scores >= threshold) & (self.scores > 0))

    def instance_scores(self) -> NDArray[np.float32]:
        """(N,) float32: the box's score times the mean of the keypoint scores above ``SCORE_FLOOR``; 0 if none is."""
        counted = self.scores > SCORE_FLOOR
        totals = np.where(counted, self.scores, 0).sum(axis=1, dtype=np.float64)
        means = totals / np.maximum(counted.sum(axis=1), 1)
        return np.asarray(self.box_scores * means, dtype=np.float32)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO keypoint results, one dictionary a person.

        Args:
            image_id: The image's number in the annotation file.
            category_id: 1 is COCO's person.

        Returns:
            ``image_id``, ``category_id``, ``keypoints`` as 3 K numbers x, y, score, ``score`` (``instance_scores``) and
            ``bbox`` as x, y, width, height; plain Python numbers. A ``track_id`` where there are track numbers.
        """
        triples = _triples(self)
        boxes_xywh = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        results: list[dict[str, Any]] = [
            {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": score, "bbox": box}
            for keypoints, score, box in zip(triples, self.instance_scores().tolist(), boxes_xywh.tolist(), strict=True)
        ]
        if self.track_ids is not None:
            for result, track_id in zip(results, self.track_ids.tolist(), strict=True):
                result["track_id"] = track_id
        return results

    def to_openpose(self) -> dict[str, Any]:
        """OpenPose's document, version 1.3: BODY_25, and face and hands where the skeleton has them.

        A missing keypoint is 0, 0, 0, as in OpenPose; the pupils always are.

        Returns:
            ``{"version": 1.3, "people": [...]}`` with plain Python numbers; ``person_id`` is the track number, or -1.
        """
        fields = {"pose": _triples(self.convert(OPENPOSE_BODY25))}
        for part_name, field, target in (
            ("face", "face", OPENPOSE_FACE70),
            ("left_hand", "hand_left", OPENPOSE_HAND21),
            ("right_hand", "hand_right", OPENPOSE_HAND21),
        ):
            known = part_name in self.skeleton.parts
            fields[field] = _triples(self.part(part_name).convert(target)) if known else [[]] * len(self)
        track_ids = np.full(len(self), -1) if self.track_ids is None else self.track_ids
        people = [
            {
                "person_id": [int(track_ids[person])],
                **{f"{field}_keypoints_2d": triples[person] for field, triples in fields.items()},
                **{f"{field}_keypoints_3d": [] for field in fields},
            }
            for person in range(len(self))
        ]
        return {"version": 1.3, "people": people}


def _triples(poses: Poses) -> list[list[float]]:
    """x, y, score of every keypoint of each person, one list a person."""
    triples = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
    flat: list[list[float]] = triples.reshape(len(poses), 3 * poses.skeleton.num_keypoints).tolist()
    return flat


def _is_empty(index: object) -> bool:
    """Whether an index is a list or array of nothing, whose dtype says nothing either."""
    return isinstance(index, (list, tuple, np.ndarray)) and np.size(index) == 0 and np.asarray(index).dtype != np.bool_


def _frozen(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only copy of the dtype of its field, checked."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
        array = np.array(value, dtype=np.int64 if name == "track_ids" else np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; element {np.argwhere(~np.isfinite(array))[0].tolist()} is not")
    array.setflags(write=False)
    return array
