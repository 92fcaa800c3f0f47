"""Which keypoints are scored, and which people count, for the whole person and for each part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.skeletons import COCO17, Skeleton

PARTS = ("whole", "body", "feet", "face", "left_hand", "right_hand")
"""What is scored, in the order of every table and report."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What of an annotation set is scored.

    Attributes:
        scored: (K,) bool: keypoints that the annotations are scored on and the results can hold.
        visible: (N, K) bool: labelled keypoints among those.
        columns: For each of ``PARTS`` the indices of its scored keypoints, int64; empty where the set has none.
        ignored: For each of ``PARTS`` (N,) bool: people whose detections are neither right nor wrong.
    """

    scored: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    columns: dict[str, NDArray[np.int64]]
    ignored: dict[str, NDArray[np.bool_]]

    def counted(self, part: str) -> int:
        """How many people a part is scored on."""
        return int((~self.ignored[part]).sum())


def select(annotations: AnnotationSet, provided: NDArray[np.bool_] | None = None) -> Selection:
    """Decides what is scored.

    A crowd is ignored, and so is a person with no labelled keypoint of the part. Halpe and COCO-WholeBody count only 17
    of their keypoints in ``num_keypoints``, so labels are counted anew, as xtcocotools does. In files of COCO's own 17
    keypoints ``num_keypoints`` decides, as in pycocotools.

    Args:
        annotations: The labelled people.
        provided: (K,) bool: keypoints that the results can hold; all when None.

    Returns:
        The selection.
    """
    scored = annotations.scored if provided is None else annotations.scored & provided
    visible = (annotations.visibility > 0) & scored
    columns = part_columns(annotations.skeleton, scored)
    ignored = {}
    for part, indices in columns.items():
        counts = visible[:, indices].sum(axis=1)
        if part == "whole" and annotations.source_skeleton is COCO17:
            counts = annotations.counts
        ignored[part] = annotations.crowds | (counts == 0)
    return Selection(scored, visible, columns, ignored)


def part_columns(skeleton: Skeleton, scored: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    """Indices of the scored keypoints of each of ``PARTS``: int64 arrays, empty for a part that the skeleton lacks."""
    columns = {"whole": np.flatnonzero(scored).astype(np.int64)}
    for part in PARTS[1:]:
        indices = np.array(skeleton.parts.get(part, ()), dtype=np.int64)
        columns[part] = indices[scored[indices]]
    return columns
