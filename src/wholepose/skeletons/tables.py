"""The skeletons that wholepose knows, and the tables they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError
from wholepose.skeletons.skeleton import Edge, Skeleton

Color = tuple[int, int, int]

# Left limbs are green to blue-green, right limbs red to orange, the middle violet, the face grey.
_LEFT_ARM, _LEFT_LEG, _LEFT_FOOT = (40, 220, 90), (0, 190, 170), (120, 235, 150)
_RIGHT_ARM, _RIGHT_LEG, _RIGHT_FOOT = (255, 120, 30), (240, 60, 70), (255, 185, 90)
_LEFT_HEAD, _RIGHT_HEAD, _MIDDLE, _FACE = (150, 230, 130), (255, 160, 120), (150, 110, 255), (225, 225, 235)
_FINGERS: Mapping[str, Color] = {
    "thumb": (255, 95, 95),
    "forefinger": (255, 200, 60),
    "middle_finger": (90, 220, 110),
    "ring_finger": (70, 165, 255),
    "pinky_finger": (215, 110, 255),
}

_BODY17 = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
_HALPE_FEET = ("left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel", "right_heel")
_COCO_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
_FACE68 = tuple(f"face-{index}" for index in range(68))
_HAND21 = ("hand_root", *(f"{finger}{joint}" for finger in _FINGERS for joint in range(1, 5)))
_LEFT_HAND21 = tuple(f"left_{name}" for name in _HAND21)
_RIGHT_HAND21 = tuple(f"right_{name}" for name in _HAND21)

# iBUG numbering of the 68 face points, mirrored: jaw, brows, nostrils, eyes, outer lips, inner lips.
_FACE_PAIRS = (
    *((index, 16 - index) for index in range(8)),
    *((17 + index, 26 - index) for index in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
    *((60, 64), (61, 63), (65, 67)),
)
# The same points as lines: first and last index, and whether the line closes.
_FACE_LINES = (
    *((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False)),
    *((36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True)),
)

# COCO's constants for its 17 keypoints; the Halpe protocol's for the rest.
_SIGMAS = {
    **dict.fromkeys(("nose",), 0.026),
    **dict.fromkeys(("left_eye", "right_eye"), 0.025),
    **dict.fromkeys(("left_ear", "right_ear"), 0.035),
    **dict.fromkeys(("left_shoulder", "right_shoulder"), 0.079),
    **dict.fromkeys(("left_elbow", "right_elbow"), 0.072),
    **dict.fromkeys(("left_wrist", "right_wrist"), 0.062),
    **dict.fromkeys(("left_hip", "right_hip"), 0.107),
    **dict.fromkeys(("left_knee", "right_knee"), 0.087),
    **dict.fromkeys(("left_ankle", "right_ankle"), 0.089),
    **dict.fromkeys(("head", "neck", "hip", "head_top", "upper_neck", "thorax", "pelvis", "mid_hip"), 0.08),
    **dict.fromkeys(_HALPE_FEET, 0.089),
    **dict.fromkeys((*_FACE68, *_HAND21, *_LEFT_HAND21, *_RIGHT_HAND21, "left_pupil", "right_pupil"), 0.015),
}

# COCO-WholeBody measured its own for feet, face and hands (Jin et al., ECCV 2020, evaluation code).
_COCO_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_COCO_FACE_SIGMAS = (
    *(0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041),
    *(0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012),
    *(0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034),
    *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008),
    *(0.008, 0.008, 0.010, 0.008),
)
_COCO_HAND_SIGMAS = (
    *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024),
    *(0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031),
)


Line = tuple[str, str, Color]


def _sides(left_color: Color, right_color: Color, *lines: tuple[str, str]) -> list[Line]:
    """The same lines on both sides of the body; ``{}`` stands for the side."""
    colors = {"left": left_color, "right": right_color}
    return [(a.format(side), b.format(side), color) for side, color in colors.items() for a, b in lines]


def _trunk(hip: str, neck: str, head: str) -> list[Line]:
    """A trunk that hangs on its spine, whose keypoints have other names in each skeleton."""
    spine: list[Line] = [(hip, neck, _MIDDLE), (neck, head, _MIDDLE)]
    shoulders = _sides(_LEFT_ARM, _RIGHT_ARM, (neck, "{}_shoulder"))
    return [*spine, *shoulders, *_sides(_LEFT_LEG, _RIGHT_LEG, (hip, "{}_hip"))]


def _hand(prefix: str) -> list[Line]:
    """The five fingers of one hand, from its root to the tips."""
    lines: list[Line] = []
    for finger, color in _FINGERS.items():
        joints = [f"{prefix}hand_root", *(f"{prefix}{finger}{joint}" for joint in range(1, 5))]
        lines += [(start, end, color) for start, end in pairwise(joints)]
    return lines


def _face() -> list[Line]:
    lines: list[Line] = []
    for first, last, closed in _FACE_LINES:
        points = [f"face-{index}" for index in range(first, last + 1)]
        ends = points[1:] + points[: int(closed)]
        lines += [(start, end, _FACE) for start, end in zip(points, ends, strict=False)]
    return lines


_ARMS = _sides(_LEFT_ARM, _RIGHT_ARM, ("{}_shoulder", "{}_elbow"), ("{}_elbow", "{}_wrist"))
_LEGS = _sides(_LEFT_LEG, _RIGHT_LEG, ("{}_hip", "{}_knee"), ("{}_knee", "{}_ankle"))
_HEAD = _sides(_LEFT_HEAD, _RIGHT_HEAD, ("nose", "{}_eye"), ("{}_eye", "{}_ear"))
_TOES = [("{}_ankle", "{}_big_toe"), ("{}_ankle", "{}_small_toe"), ("{}_ankle", "{}_heel")]
_FEET = _sides(_LEFT_FOOT, _RIGHT_FOOT, *_TOES)
_FLAT_TRUNK: list[Line] = [
    ("left_shoulder", "right_shoulder", _MIDDLE),
    ("left_hip", "right_hip", _MIDDLE),
    *_sides(_LEFT_LEG, _RIGHT_LEG, ("{}_shoulder", "{}_hip")),
]
_WRISTS = _sides(_LEFT_ARM, _RIGHT_ARM, ("{}_wrist", "{}_hand_root"))
# Neck and mid hip are seldom labelled, so the trunk must not hang on them alone.
_HALPE_SPINE: list[Line] = [("hip", "neck", _MIDDLE), ("neck", "head", _MIDDLE)]
_HALPE_BODY = [*_ARMS, *_LEGS, *_HEAD, *_FLAT_TRUNK, *_HALPE_SPINE]
_FACE_AND_HANDS = [*_face(), *_WRISTS, *_hand("left_"), *_hand("right_")]


def _flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices, in order of the first: ``left_x`` with ``right_x``, and the face by its own table."""
    mirrors = {f"face-{a}": f"face-{b}" for a, b in _FACE_PAIRS}
    mirrors |= {f"left_{name[6:]}": name for name in names if name.startswith("right_")}
    place = {name: index for index, name in enumerate(names)}
    pairs = [sorted((place[a], place[b])) for a, b in mirrors.items() if a in place and b in place]
    return tuple((first, second) for first, second in sorted(pairs))


def _skeleton(
    name: str,
    parts: Mapping[str, Sequence[str]],
    lines: Sequence[Line],
    sigmas: Sequence[float] | None = None,
) -> Skeleton:
    """Puts a skeleton together from the names of the keypoints of each part, in order."""
    names = tuple(keypoint for part in parts.values() for keypoint in part)
    place = {keypoint: index for index, keypoint in enumerate(names)}
    return Skeleton(
        name=name,
        keypoint_names=names,
        parts={part: tuple(place[keypoint] for keypoint in keypoints) for part, keypoints in parts.items()},
        edges=tuple(Edge(place[start], place[end], color) for start, end, color in lines),
        flip_pairs=_flip_pairs(names),
        sigmas=np.array([_SIGMAS[keypoint] for keypoint in names] if sigmas is None else sigmas),
    )


_HALPE26_PARTS = {"body": (*_BODY17, "head", "neck", "hip"), "feet": _HALPE_FEET}
_FACE_AND_HAND_PARTS = {"face": _FACE68, "left_hand": _LEFT_HAND21, "right_hand": _RIGHT_HAND21}

HALPE136 = _skeleton("halpe136", {**_HALPE26_PARTS, **_FACE_AND_HAND_PARTS}, [*_HALPE_BODY, *_FEET, *_FACE_AND_HANDS])
"""Halpe-FullBody: 17 COCO body keypoints, head top, neck, mid hip, 6 feet, 68 face, 2 x 21 hand."""

HALPE26 = _skeleton("halpe26", _HALPE26_PARTS, [*_HALPE_BODY, *_FEET])
"""The body and feet of Halpe-FullBody."""

COCO17 = _skeleton("coco17", {"body": _BODY17}, [*_ARMS, *_LEGS, *_HEAD, *_FLAT_TRUNK])
"""COCO person keypoints."""

COCO_WHOLEBODY133 = _skeleton(
    "coco_wholebody133",
    {"body": _BODY17, "feet": _COCO_FEET, **_FACE_AND_HAND_PARTS},
    [*_ARMS, *_LEGS, *_HEAD, *_FLAT_TRUNK, *_FEET, *_FACE_AND_HANDS],
    [*(_SIGMAS[name] for name in _BODY17), *_COCO_FEET_SIGMAS, *_COCO_FACE_SIGMAS, *_COCO_HAND_SIGMAS * 2],
)
"""COCO-WholeBody: like Halpe without head top, neck and mid hip, with the feet in another order and its own sigmas."""

_RIGHT_LEG_UP = ("right_ankle", "right_knee", "right_hip")
_LEFT_LEG_DOWN = ("left_hip", "left_knee", "left_ankle")
_ACROSS_THE_ARMS = (
    *("right_wrist", "right_elbow", "right_shoulder"),
    *("left_shoulder", "left_elbow", "left_wrist"),
)

MPII16 = _skeleton(
    "mpii16",
    {
        "body": (
            *(*_RIGHT_LEG_UP, *_LEFT_LEG_DOWN),
            *("pelvis", "thorax", "upper_neck", "head_top"),
            *_ACROSS_THE_ARMS,
        )
    },
    [*_ARMS, *_LEGS, *_trunk("pelvis", "thorax", "upper_neck"), ("upper_neck", "head_top", _MIDDLE)],
)
"""MPII Human Pose."""

LSP14 = _skeleton(
    "lsp14",
    {"body": (*_RIGHT_LEG_UP, *_LEFT_LEG_DOWN, *_ACROSS_THE_ARMS, "neck", "head_top")},
    [*_ARMS, *_LEGS, *_FLAT_TRUNK, ("neck", "head_top", _MIDDLE)],
)
"""Leeds Sports Pose."""

OPENPOSE_BODY25 = _skeleton(
    "openpose_body25",
    {
        "body": (
            *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist"),
            *("left_shoulder", "left_elbow", "left_wrist", "mid_hip"),
            *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
            *("right_eye", "left_eye", "right_ear", "left_ear"),
        ),
        "feet": _COCO_FEET,
    },
    [*_ARMS, *_LEGS, *_HEAD, *_trunk("mid_hip", "neck", "nose"), *_FEET],
)
"""OpenPose BODY_25; its neck and mid hip are by definition the middle of the shoulders and of the hips."""

OPENPOSE_HAND21 = _skeleton("openpose_hand21", {"hand": _HAND21}, _hand(""))
"""One hand of OpenPose; its keypoints belong to whichever hand the document names."""

OPENPOSE_FACE70 = _skeleton("openpose_face70", {"face": (*_FACE68, "right_pupil", "left_pupil")}, _face())
"""The face of OpenPose: the 68 points and two pupils."""

SKELETONS: Mapping[str, Skeleton] = MappingProxyType(
    {
        skeleton.name: skeleton
        for skeleton in (
            *(HALPE136, HALPE26, COCO17, COCO_WHOLEBODY133, MPII16, LSP14),
            *(OPENPOSE_BODY25, OPENPOSE_HAND21, OPENPOSE_FACE70),
        )
    }
)
"""All of the above by name."""


def get_skeleton(name: str) -> Skeleton:
    """Finds a skeleton by its name.

    Args:
        name: A key of ``SKELETONS``, or one of those, a dot and the name of a part, as in ``"halpe136.left_hand"``.

    Raises:
        ConfigError: There is none of that name; the message lists those there are.
    """
    whole, _, part = name.partition(".")
    if whole not in SKELETONS or (part and part not in SKELETONS[whole].parts):
        raise ConfigError(f"unknown skeleton {name!r}; choose one of {', '.join(SKELETONS)}, or SKELETON.PART")
    return SKELETONS[whole].part(part) if part else SKELETONS[whole]


def restore_skeleton(
    name: str,
    keypoint_names: tuple[str, ...],
    parts: Mapping[str, tuple[int, ...]],
    edges: tuple[Edge, ...],
    flip_pairs: tuple[tuple[int, int], ...],
    sigmas: NDArray[np.float64],
) -> Skeleton:
    """Unpickles a skeleton: the known one of that name if it has the same keypoints, else a new one."""
    whole, _, part = name.partition(".")
    if whole in SKELETONS and (not part or part in SKELETONS[whole].parts):
        known = get_skeleton(name)
        if known.keypoint_names == keypoint_names:
            return known
    return Skeleton(name, keypoint_names, parts, edges, flip_pairs, sigmas)
