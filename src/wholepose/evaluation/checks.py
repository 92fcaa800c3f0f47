"""Why a result would be 0 or nothing at all, said before anything runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.errors import AnnotationError
from wholepose.evaluation.results import Results
from wholepose.evaluation.selection import PARTS, select
from wholepose.poses import SCORE_FLOOR

AREA_OF_BOX = 0.53
"""Share of a person's box that the person covers: what CrowdPose and xtcocotools put in for a missing area."""


def areas_from_boxes(annotations: AnnotationSet) -> AnnotationSet:
    """The same people, with 0.53 x width x height of the box for an area that is missing or 0."""
    sides = annotations.file_boxes[:, 2:] - annotations.file_boxes[:, :2]
    return replace(
        annotations, areas=np.where(annotations.areas > 0, annotations.areas, AREA_OF_BOX * sides.prod(axis=1))
    )


def check_annotations(annotations: AnnotationSet, provided: NDArray[np.bool_]) -> list[str]:
    """Looks for what would make every score 0 or empty.

    Args:
        annotations: The labelled people.
        provided: (K,) bool: keypoints of their skeleton that the model or the results hold.

    Returns:
        Warnings about what lowers or empties part of the result.

    Raises:
        AnnotationError: Nothing could be scored; the message says why and what to do.
    """
    path, skeleton = annotations.path, annotations.skeleton
    if not len(annotations):
        raise AnnotationError(f"{path}: holds no people, so there is nothing to score (AP would be -1)")
    if not annotations.labelled.any():
        raise AnnotationError(f"{path}: nobody in it has a labelled keypoint, so there is nothing to score")
    if not (annotations.labelled & provided).any():
        raise AnnotationError(
            f"{path}: labels {_some_names(annotations, annotations.labelled)}, none of which the results hold: "
            "another skeleton (AP would be 0)"
        )
    selection = select(annotations, provided)
    people = ~selection.ignored["whole"]
    miscounted = annotations.miscounted()
    denied = int((annotations.visibility[miscounted] > 0).sum())
    contradiction = (
        f"{int(miscounted.sum())} people have num_keypoints 0 in the file although {denied} keypoints of theirs are "
        "labelled; correct or delete the field"
    )
    if not people.any():
        raise AnnotationError(
            f"{path}: none of its {len(annotations)} people counts: {int(annotations.crowds.sum())} are crowds, "
            f"{contradiction if denied else 'the others have no labelled keypoint'} (AP would be -1)"
        )
    areas = annotations.areas[people]
    missing, empty = int(np.isnan(areas).sum()), int((areas <= 0).sum())
    remedy = "write the areas into the file, or take 0.53 x width x height of the boxes with --area-from-boxes"
    if missing:
        raise AnnotationError(
            f"{path}: {missing} of {len(areas)} people have no 'area', which keypoint similarity is measured against; "
            f"{remedy}"
        )
    if empty == len(areas):
        raise AnnotationError(f"{path}: every 'area' is 0, so no keypoint could be right (AP would be 0); {remedy}")
    warnings = []
    if denied:
        warnings.append(f"{contradiction}, or they are not scored")
    if empty:
        warnings.append(f"{empty} of {len(areas)} people have an 'area' of 0 and can never be found; {remedy}")
    absent = annotations.labelled & ~provided
    if absent.any():
        warnings.append(
            f"{int(absent.sum())} labelled keypoints that the results do not hold are not scored: "
            f"{_some_names(annotations, absent)}"
        )
    parts = [part for part in PARTS if part in skeleton.parts and not selection.counted(part)]
    if parts:
        warnings.append(f"nobody has a labelled keypoint of {', '.join(parts)}; these are null in the report")
    return warnings


def check_labelled_boxes(annotations: AnnotationSet, provided: NDArray[np.bool_]) -> list[str]:
    """Looks for people who count but whose own box shows nothing of them.

    Args:
        annotations: The labelled people, in whose boxes a model is to find them.
        provided: (K,) bool: keypoints of their skeleton that the model holds.

    Returns:
        A warning if there are some.

    Raises:
        AnnotationError: It is so of all of them.
    """
    people = ~select(annotations, provided).ignored["whole"]
    hidden = people & ~annotations.in_sight()
    what = (
        f"{int(hidden.sum())} of {int(people.sum())} people with labelled keypoints have a box without an area, or "
        "outside their image, and cannot be found in it"
    )
    if people.any() and hidden.sum() == people.sum():
        raise AnnotationError(f"{annotations.path}: {what} (AP would be 0); `wholepose data check` lists them")
    return [f"{what}; `wholepose data check` lists them"] if hidden.any() else []


def check_results(annotations: AnnotationSet, results: Results, name: str) -> list[str]:
    """Looks for what would make detections count for nothing.

    Args:
        annotations: The labelled people.
        results: The detections, in the annotations' skeleton.
        name: What to call the results in a message.

    Returns:
        Warnings.

    Raises:
        AnnotationError: No detection lies in an image that the annotations hold.
    """
    if not len(results):
        return [f"{name}: holds no detection of a person, so every AP is 0"]
    known = np.isin(results.image_ids, annotations.image_ids)
    strangers = np.unique(results.image_ids[~known])
    if not known.any():
        raise AnnotationError(
            f"{name}: none of its {len(results)} detections is on an image of {annotations.path} (AP would be 0): "
            f"its image ids are {_some(strangers)}, theirs {_some(np.unique(annotations.image_ids))}"
        )
    warnings = []
    if len(strangers):
        warnings.append(
            f"{int((~known).sum())} detections lie on {len(strangers)} images that the annotations do not hold "
            f"and are left out: ids {_some(strangers)}"
        )
    scores = results.scores[known]
    if len(scores) > 1 and (scores == scores[0]).all():
        warnings.append(f"every detection has the same score, {scores[0]:g}: their ranking, and so AP, is arbitrary")
    columns = select(annotations, results.provided).columns["whole"]
    places = results.keypoints[known][:, columns]
    if len(columns) and np.abs(places).max(initial=0) <= 2:
        warnings.append("every keypoint lies within 2 pixels of the corner: coordinates must be pixels, not fractions")
    elif _outside(annotations, results.select(known), columns) > 0.5:
        warnings.append(
            "more than half of the keypoints lie outside their images: are these the right images, in their full size?"
        )
    return warnings


def _outside(annotations: AnnotationSet, results: Results, columns: NDArray[np.int64]) -> float:
    """Share of the confident keypoints that lie outside their image, among images of known size."""
    order = np.argsort(annotations.image_ids)
    rows = order[np.searchsorted(annotations.image_ids[order], results.image_ids)]
    limits = annotations.image_sizes[rows][:, None, ::-1]
    places = results.keypoints[:, columns]
    judged = (results.keypoint_scores[:, columns] > SCORE_FLOOR) & (limits > 0).all(axis=2)
    outside = ((places < 0) | (places > limits)).any(axis=2)
    return float((outside & judged).sum() / max(1, judged.sum()))


def _some(ids: NDArray[np.int64]) -> str:
    return ", ".join(map(str, ids[:5].tolist())) + (" ..." if len(ids) > 5 else "")


def _some_names(annotations: AnnotationSet, mask: NDArray[np.bool_]) -> str:
    names = [annotations.skeleton.keypoint_names[index] for index in np.flatnonzero(mask)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
