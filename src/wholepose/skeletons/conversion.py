"""Keypoints of one skeleton as keypoints of another, by tables.

Three tables say how, in this order:

1. Keypoints of one name are one point; ``_SYNONYMS`` adds the points that two conventions call by different names.
2. ``_DEFINITIONS``: a keypoint that its own convention defines as the mean of others. OpenPose made its neck and mid
   hip that way, so they are exact wherever both shoulders or both hips are known.
3. ``_ESTIMATES``: a keypoint that people label by eye, put where it nearly is: a Halpe neck in the middle of the
   shoulders. Good enough to draw or to compare; a wrong label to train on, and left out by ``exact=True``.

Whatever no table gives is missing. Nothing is made up: a skeleton without hands gives no hands, and the pupils of
OpenPose's face stay empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wholepose.skeletons.skeleton import Skeleton

# (skeleton, its keypoint) -> the name under which the same point is known elsewhere. MPII's and LSP's annotators marked
# the same places of head top, upper neck and pelvis as Halpe's.
_SYNONYMS = {
    ("mpii16", "head_top"): "head",
    ("mpii16", "upper_neck"): "neck",
    ("mpii16", "pelvis"): "hip",
    ("lsp14", "head_top"): "head",
    # Not the neck that Halpe and LSP label, which sits higher.
    ("openpose_body25", "neck"): "shoulder_middle",
    ("openpose_body25", "mid_hip"): "hip_middle",
}

_SHOULDERS = ("left_shoulder", "right_shoulder")
_HIPS = ("left_hip", "right_hip")

# Name of a point -> the points whose mean it is by definition.
_DEFINITIONS = {"shoulder_middle": _SHOULDERS, "hip_middle": _HIPS}

# Name of a point -> what stands in for it, first choice first.
_ESTIMATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "neck": (("thorax",), ("shoulder_middle",), _SHOULDERS),
    "thorax": (("shoulder_middle",), _SHOULDERS),
    "hip": (("hip_middle",), _HIPS),
    "shoulder_middle": (("thorax",),),
    "hip_middle": (("hip",),),
}


@dataclass(frozen=True, eq=False)
class Conversion:
    """How the keypoints of one skeleton follow from those of another.

    Attributes:
        source: The skeleton to convert from.
        target: The skeleton to convert to.
        table: For each keypoint of the target the indices of the source keypoints whose mean it is; () is missing.
    """

    source: Skeleton
    target: Skeleton
    table: tuple[tuple[int, ...], ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(K_target,) bool: whether the source knows the keypoint."""
        return np.array([len(sources) > 0 for sources in self.table], dtype=np.bool_)

    def apply_to_keypoints(self, keypoints: NDArray[np.floating]) -> NDArray[np.floating]:
        """Converts places (..., K_source, 2) to (..., K_target, 2); a missing keypoint is (0, 0)."""
        self._check(keypoints.shape[-2:] == (self.source.num_keypoints, 2), "keypoints", keypoints.shape)
        converted = np.zeros((*keypoints.shape[:-2], len(self.table), 2), dtype=keypoints.dtype)
        for row, sources in enumerate(self.table):
            if sources:
                converted[..., row, :] = keypoints[..., list(sources), :].mean(axis=-2)
        return converted

    def apply_to_scores(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Converts scores, or visibilities, (..., K_source) to (..., K_target).

        A mean is as sure as the least sure of its sources; a missing keypoint has 0.
        """
        self._check(scores.shape[-1:] == (self.source.num_keypoints,), "scores", scores.shape)
        converted = np.zeros((*scores.shape[:-1], len(self.table)), dtype=scores.dtype)
        for row, sources in enumerate(self.table):
            if sources:
                converted[..., row] = scores[..., list(sources)].min(axis=-1)
        return converted

    def apply_to_covariances(self, covariances: NDArray[np.floating]) -> NDArray[np.floating]:
        """Converts covariances (..., K_source, 2, 2) to (..., K_target, 2, 2).

        The sources of a mean are taken as independent of each other; a missing keypoint has 0.
        """
        self._check(covariances.shape[-3:] == (self.source.num_keypoints, 2, 2), "covariances", covariances.shape)
        converted = np.zeros((*covariances.shape[:-3], len(self.table), 2, 2), dtype=covariances.dtype)
        for row, sources in enumerate(self.table):
            if sources:
                converted[..., row, :, :] = covariances[..., list(sources), :, :].sum(axis=-3) / len(sources) ** 2
        return converted

    def apply_to_marks(self, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Converts marks (..., K_source) bool to (..., K_target): set where that of any source is."""
        self._check(marks.shape[-1:] == (self.source.num_keypoints,), "marks", marks.shape)
        return np.stack([marks[..., list(sources)].any(axis=-1) for sources in self.table], axis=-1)

    def _check(self, fits: bool, what: str, shape: tuple[int, ...]) -> None:
        if not fits:
            raise ValueError(f"{what} of shape {shape} do not fit the {self.source!r} to convert from")


@lru_cache(maxsize=256)
def conversion(source: Skeleton, target: Skeleton, *, exact: bool = False) -> Conversion:
    """How the keypoints of ``target`` follow from those of ``source``.

    Args:
        source: The skeleton to convert from.
        target: The skeleton to convert to.
        exact: Only points that are the same by name or definition, for training labels; otherwise estimates of neck,
            thorax and mid hip are let in, for drawing and for other people's formats.

    Returns:
        The conversion; keypoints that the source cannot give are missing in it.
    """
    names, wanted = _point_names(source), _point_names(target)
    # A hand on its own has no side to get wrong: it fits either hand, but not a whole body, which has two.
    if _sides(names) | _sides(wanted) in ({"left"}, {"right"}) and _sides(names) != _sides(wanted):
        names, wanted = _without_side(names), _without_side(wanted)
    place = {name: index for index, name in enumerate(names)}
    table = []
    for name in wanted:
        choices: list[tuple[str, ...]] = [(name,)]
        if name in _DEFINITIONS:
            choices.append(_DEFINITIONS[name])
        if not exact:
            choices.extend(_ESTIMATES.get(name, ()))
        known = next((choice for choice in choices if all(point in place for point in choice)), ())
        table.append(tuple(place[point] for point in known))
    return Conversion(source, target, tuple(table))


def _point_names(skeleton: Skeleton) -> list[str]:
    """Names of the keypoints under which all skeletons know them."""
    whole = skeleton.name.partition(".")[0]
    return [_SYNONYMS.get((whole, name), name) for name in skeleton.keypoint_names]


def _sides(names: list[str]) -> set[str]:
    return {side for side in ("left", "right") for name in names if name.startswith(f"{side}_")}


def _without_side(names: list[str]) -> list[str]:
    return [name.removeprefix("left_").removeprefix("right_") for name in names]


def convert_keypoints(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    source: Skeleton,
    target: Skeleton,
    *,
    exact: bool = False,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Converts keypoints from one skeleton to another.

    Args:
        keypoints: (..., K_source, 2) pixels.
        scores: (..., K_source) scores or visibilities.
        source: The skeleton they are in.
        target: The skeleton to convert to.
        exact: As in ``conversion``.

    Returns:
        Keypoints (..., K_target, 2) and scores (..., K_target) of the dtypes given. A missing keypoint is (0, 0) with
        score 0. The score of a mean is the lowest of its sources, and where that is 0 the mean is missing too.

    Raises:
        ValueError: A shape does not fit the source.
    """
    convert = conversion(source, target, exact=exact)
    converted_scores = convert.apply_to_scores(scores)
    converted = convert.apply_to_keypoints(keypoints)
    is_mean = np.array([len(sources) > 1 for sources in convert.table], dtype=np.bool_)
    converted[is_mean & (converted_scores <= 0)] = 0
    return converted, converted_scores
