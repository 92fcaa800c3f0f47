"""Skeletons: which keypoints a person has, how they hang together, and how one convention converts into another.

Convention:
    Left and right are always the person's own. A keypoint is known by its index in its skeleton; names are shared
    between skeletons where the point is the same.
"""

from wholepose.skeletons.conversion import Conversion, conversion, convert_keypoints
from wholepose.skeletons.skeleton import Edge, Skeleton
from wholepose.skeletons.tables import (
    COCO17,
    COCO_WHOLEBODY133,
    HALPE26,
    HALPE136,
    LSP14,
    MPII16,
    OPENPOSE_BODY25,
    OPENPOSE_FACE70,
    OPENPOSE_HAND21,
    SKELETONS,
    get_skeleton,
)

__all__ = [
    "COCO17",
    "COCO_WHOLEBODY133",
    "HALPE26",
    "HALPE136",
    "LSP14",
    "MPII16",
    "OPENPOSE_BODY25",
    "OPENPOSE_FACE70",
    "OPENPOSE_HAND21",
    "SKELETONS",
    "Conversion",
    "Edge",
    "Skeleton",
    "conversion",
    "convert_keypoints",
    "get_skeleton",
]
