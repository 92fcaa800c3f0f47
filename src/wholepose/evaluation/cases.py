"""Pictures of the worst and the median people, label and detection side by side, for a report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholepose.data.annotations import AnnotationSet
from wholepose.data.photos import PhotoStore
from wholepose.draw import draw_poses
from wholepose.errors import WholeposeError
from wholepose.evaluation.results import Results
from wholepose.evaluation.scoring import Scores
from wholepose.poses import Poses

CASES_EACH = 4
_HEIGHT_PX, _LARGEST_WIDTH_PX = 300, 400
_MARGIN = 0.15


@dataclass(frozen=True)
class Case:
    """One person.

    Attributes:
        similarity: Mean similarity of the keypoints to their labels, 0 to 1.
        image_id: Of the photo.
        person_id: Annotation id.
        picture: A JPEG in base64: left as labelled, right as detected; None where the photo cannot be read.
    """

    similarity: float
    image_id: int
    person_id: int
    picture: str | None


def choose_cases(
    annotations: AnnotationSet, results: Results, scores: Scores, *, count: int = CASES_EACH
) -> tuple[list[Case], list[Case]]:
    """Draws the worst and the median people.

    Args:
        annotations: The labelled people.
        results: What ``scores.localization`` refers to: the detections each person was held against.
        scores: The numbers.
        count: How many of each.

    Returns:
        The worst, worst first, and those about the median, among people who have a detection.
    """
    found = np.flatnonzero(scores.localization.found & scores.localization.visible.any(axis=1))
    values = scores.localization.person_similarities()[found]
    order = found[np.argsort(values, kind="stable")]
    start = max(0, (len(order) - count) // 2)
    store = PhotoStore()
    worst, median = order[:count], order[start : start + count]
    return tuple(  # type: ignore[return-value]
        [_case(annotations, results, scores, int(person), store) for person in people] for people in (worst, median)
    )


def _case(annotations: AnnotationSet, results: Results, scores: Scores, person: int, store: PhotoStore) -> Case:
    row = int(annotations.image_rows[person])
    height, width = annotations.image_sizes[row].tolist()
    try:
        photo = store.read(annotations.image_files[row], (height, width)) if annotations.image_files else None
    except WholeposeError:
        photo = None
    return Case(
        similarity=float(scores.localization.person_similarities()[person]),
        image_id=int(annotations.image_ids[row]),
        person_id=int(annotations.person_ids[person]),
        picture=None if photo is None else _picture(annotations, results, scores, person, photo),
    )


def _picture(
    annotations: AnnotationSet, results: Results, scores: Scores, person: int, photo: NDArray[np.uint8]
) -> str:
    detection = int(scores.localization.detections[person])
    scored = scores.selection.scored
    box = annotations.file_boxes[person]
    # A detection far off is drawn as far as the picture goes: the person is what it is about.
    margin = _MARGIN * (box[2:] - box[:2]).max()
    low = np.clip(np.floor(box[:2] - margin), 0, np.array(photo.shape[1::-1]) - 1).astype(int)
    high = np.clip(np.ceil(box[2:] + margin), low + 1, np.array(photo.shape[1::-1])).astype(int)
    part = photo[low[1] : high[1], low[0] : high[0]]
    scale = min(_HEIGHT_PX / part.shape[0], _LARGEST_WIDTH_PX / part.shape[1])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    small = np.asarray(cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def drawn(keypoints: NDArray[np.floating], shown: NDArray[np.bool_]) -> NDArray[np.uint8]:
        places = np.clip((keypoints - low) * scale, -1e5, 1e5)
        poses = Poses(
            keypoints=np.where(shown[:, None], places, 0)[None].astype(np.float32),
            scores=shown[None].astype(np.float32),
            boxes=(np.concatenate([box[:2] - low, box[2:] - low])[None] * scale).astype(np.float32),
            box_scores=np.ones(1, dtype=np.float32),
            skeleton=annotations.skeleton,
        )
        return draw_poses(small, poses)

    labelled = drawn(annotations.keypoints[person], scores.localization.visible[person])
    detected = drawn(results.keypoints[detection], scored & (results.keypoint_scores[detection] > 0))
    gap = np.full((size[1], 6, 3), 128, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.concatenate([labelled, gap, detected], axis=1)).save(stream, format="JPEG", quality=82)
    return base64.b64encode(stream.getvalue()).decode("ascii")
