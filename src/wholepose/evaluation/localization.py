"""How far each keypoint is from its label: PCK, its area under the curve, end-point error, normalised mean error.

A labelled person is held against one detection: the one made in that person's box where boxes come from ground truth,
else the one that the COCO assignment gives it at a similarity of 0.1. A keypoint of somebody without a detection counts
as wrong in PCK and in the area under its curve; errors in pixels are means over people who have one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.arrangement import Arrangement
from wholepose.evaluation.matching import match
from wholepose.evaluation.results import Results
from wholepose.evaluation.selection import Selection

PAIRING_SIMILARITY = 0.1
"""Less alike than this, a detection and a person have nothing to do with each other (Ronchi and Perona 2017)."""

RIGHT_SIMILARITY = 0.5
"""A keypoint at least this similar to its label, on a scale of 0 to 1, is about right."""

EYE_CORNERS = (36, 45)
"""Outer corners of the eyes among the 68 points of a face."""


@dataclass(frozen=True, eq=False)
class Localization:
    """N labelled people, K keypoints each, and where their detections have them.

    Attributes:
        counted: (N,) bool: people to be found.
        detections: (N,) int64 row of each one's detection, -1 for none.
        visible: (N, K) bool: keypoints held against their labels: labelled, scored, of people to be found.
        distances: (N, K) float64 px; infinite where there is no detection.
        similarities: (N, K) float64: exp(-d^2 / (2 area (2 sigma)^2)); 0 where there is no detection.
    """

    counted: NDArray[np.bool_]
    detections: NDArray[np.int64]
    visible: NDArray[np.bool_]
    distances: NDArray[np.float64]
    similarities: NDArray[np.float64]

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) bool: people to be found who have a detection."""
        return self.counted & (self.detections >= 0)

    def person_similarities(self) -> NDArray[np.float64]:
        """(N,) float64: mean similarity of each person's keypoints; NaN for those not counted."""
        counts = self.visible.sum(axis=1)
        totals = np.where(self.visible, self.similarities, 0).sum(axis=1)
        return np.asarray(np.where(self.counted & (counts > 0), totals / np.maximum(counts, 1), np.nan))


def localize(
    annotations: AnnotationSet,
    results: Results,
    selection: Selection,
    arrangement: Arrangement,
    similarity: NDArray[np.float64],
) -> Localization:
    """Pairs people with detections and measures every keypoint.

    Args:
        annotations: The labelled people.
        results: The detections that ``arrangement`` was made from, or, where ``results.labels`` says in whose box each
            was made, any others of the same annotations.
        selection: What is scored.
        arrangement: Who shares an image with whom.
        similarity: (P,) of its pairs, whole person.

    Returns:
        The measurements.
    """
    counted = ~selection.ignored["whole"]
    detections = np.full(len(annotations), -1, dtype=np.int64)
    if results.labels is not None:
        detections[results.labels] = np.arange(len(results))
    else:
        thresholds = np.array([PAIRING_SIMILARITY])
        people = match(arrangement, similarity, selection.ignored["whole"], annotations.crowds, thresholds).people[0]
        matched = np.flatnonzero(people >= 0)
        detections[arrangement.people[people[matched]]] = arrangement.detections[matched]
    detections[~counted] = -1
    found = detections >= 0
    distances = np.full(annotations.visibility.shape, np.inf)
    offsets = results.keypoints[detections[found]] - annotations.keypoints[found]
    distances[found] = np.sqrt(np.square(offsets).sum(axis=-1))
    reach = np.square(2 * annotations.skeleton.sigmas) * (annotations.areas[:, None] + np.spacing(1))
    visible = selection.visible & counted[:, None]
    return Localization(counted, detections, visible, distances, np.exp(-np.square(distances) / reach / 2))


@dataclass(frozen=True, eq=False)
class Metric:
    """A mean over values that each belong to a person, and mostly to one of its keypoints.

    Attributes:
        values: (N, K) or (N,) float64, 0 where not counted.
        counted: The same shape, bool.
    """

    values: NDArray[np.float64]
    counted: NDArray[np.bool_]

    def mean(self) -> float | None:
        """The mean of what counts; None if nothing does."""
        number = int(self.counted.sum())
        return float(self.values.sum() / number) if number else None

    def by_keypoint(self) -> list[float | None]:
        """K means of (N, K) values."""
        totals, counts = self.values.sum(axis=0), self.counted.sum(axis=0)
        return [float(total / count) if count else None for total, count in zip(totals, counts, strict=True)]

    def by_image(self, rows: NDArray[np.int64], images: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum of the values and their number in each image, (I,) each, for people in image ``rows`` (N,)."""
        flat = self.values.reshape(len(rows), -1).sum(axis=1), self.counted.reshape(len(rows), -1).sum(axis=1)
        totals, counts = (np.bincount(rows, weights=each, minlength=images).astype(np.float64) for each in flat)
        return totals, counts

    def only(self, keypoints: NDArray[np.int64]) -> Metric:
        """The same over some keypoints of (N, K) values."""
        return Metric(self.values[:, keypoints], self.counted[:, keypoints])


def metrics(annotations: AnnotationSet, localization: Localization) -> dict[str, Metric]:
    """Every metric, by the name that reports use.

    ``pck_torso_0.2``: share of keypoints within 0.2 of the distance from left shoulder to right hip; ``pck_box_0.2``
    and ``pck_box_0.1``: of the longer side of the labelled box; ``pck_head_0.5``: within half the distance from the
    head's top to the neck (PCKh). ``auc_box_0.2``: area under the curve of PCK against thresholds of 0 to 0.2 box
    sides, over 0.2. ``epe_px``: mean distance in pixels. ``error_sigmas``: mean distance in sigmas, a keypoint's sigma
    being the constant of its kind times the square root of the person's area: about how far people who label it differ
    (Lin et al., COCO keypoint evaluation; a similarity of exp(-1/8) at one sigma). ``nme_interocular``: mean distance
    of a face's points over the distance of the outer eye corners, averaged over faces. Labels fix every norm; a person
    without those it needs is left out.
    """
    box_sides = (annotations.file_boxes[:, 2:] - annotations.file_boxes[:, :2]).max(axis=1, initial=0)
    torsos = _span(annotations, ("left_shoulder",), ("right_hip",))
    heads = _span(annotations, ("head", "head_top"), ("neck", "upper_neck"))

    def within(norms: NDArray[np.float64], share: float) -> Metric:
        return _normalized(localization, norms, lambda distances: distances <= share)

    found = localization.found[:, None] & localization.visible
    sigmas = annotations.skeleton.sigmas * np.sqrt(np.maximum(annotations.areas, 0))[:, None]
    known = found & (sigmas > 0)
    in_sigmas = np.divide(localization.distances, sigmas, out=np.zeros(known.shape), where=known)
    return {
        "pck_torso_0.2": within(torsos, 0.2),
        "pck_box_0.2": within(box_sides, 0.2),
        "pck_box_0.1": within(box_sides, 0.1),
        "pck_head_0.5": within(heads, 0.5),
        "auc_box_0.2": _normalized(localization, box_sides, lambda distances: np.clip(1 - distances / 0.2, 0, 1)),
        "epe_px": Metric(np.where(found, localization.distances, 0), found),
        "error_sigmas": Metric(in_sigmas, known),
        "nme_interocular": _face_error(annotations, localization),
    }


def _normalized(
    localization: Localization,
    norms: NDArray[np.float64],
    value: Callable[[NDArray[np.float64]], NDArray[np.generic]],
) -> Metric:
    counted = localization.visible & (norms > 0)[:, None]
    distances = localization.distances / np.where(norms > 0, norms, 1)[:, None]
    return Metric(np.where(counted, value(distances), 0).astype(np.float64), counted)


def _face_error(annotations: AnnotationSet, localization: Localization) -> Metric:
    face = np.array(annotations.skeleton.parts.get("face", ()), dtype=np.int64)
    if len(face) <= max(EYE_CORNERS):
        return Metric(np.zeros(len(annotations)), np.zeros(len(annotations), dtype=np.bool_))
    left, right = (annotations.skeleton.keypoint_names[face[corner]] for corner in EYE_CORNERS)
    norms = _span(annotations, (left,), (right,))
    visible = localization.visible[:, face]
    counts = visible.sum(axis=1)
    counted = localization.found & (norms > 0) & (counts > 0)
    totals = np.where(visible & counted[:, None], localization.distances[:, face], 0).sum(axis=1)
    errors = totals / np.maximum(counts, 1) / np.where(norms > 0, norms, 1)
    return Metric(np.where(counted, errors, 0), counted)


def _span(annotations: AnnotationSet, start: Sequence[str], end: Sequence[str]) -> NDArray[np.float64]:
    """(N,) distance of two labelled keypoints, each called by one of several names; 0 where one is not labelled."""
    names = annotations.skeleton.keypoint_names
    known = [next((names.index(name) for name in choices if name in names), None) for choices in (start, end)]
    ends = [index for index in known if index is not None]
    if len(ends) < 2:
        return np.zeros(len(annotations))
    places = annotations.keypoints[:, ends].astype(np.float64)
    both = (annotations.visibility[:, ends] > 0).all(axis=1)
    return np.asarray(np.where(both, np.sqrt(np.square(places[:, 0] - places[:, 1]).sum(axis=-1)), 0))
