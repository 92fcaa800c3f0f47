"""Scores detections against labels: every number that a report holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.arrangement import Arrangement, arrange
from wholepose.evaluation.bootstrap import (
    REPLICATES,
    Interval,
    average_precision_samples,
    image_weights,
    interval,
    ratio_samples,
)
from wholepose.evaluation.calibration import Calibration, calibrate
from wholepose.evaluation.coco_ap import RECALLS, STATISTICS, THRESHOLDS, average_precision
from wholepose.evaluation.error_kinds import error_kinds
from wholepose.evaluation.localization import Localization, Metric, localize, metrics
from wholepose.evaluation.matching import match
from wholepose.evaluation.results import Results
from wholepose.evaluation.selection import PARTS, Selection, select
from wholepose.evaluation.similarity import similarities

_AP75 = 5  # index of .75 in THRESHOLDS


@dataclass(frozen=True, eq=False)
class PartScore:
    """Average precision and recall of the whole person or of one part.

    Attributes:
        people: How many people count.
        statistics: COCO's ten numbers by name (``coco_ap.STATISTICS``), None where nobody is to be found.
        intervals: 95 % intervals of AP, AP50, AP75 and AR; empty without bootstrap, None where nobody is to be found.
        precision: (10, 101) precision at each threshold and recall, or None.
    """

    people: int
    statistics: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    precision: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class MetricScore:
    """One number with its interval.

    Attributes:
        value: None where nothing that it needs is labelled.
        interval: 95 %; None likewise, or without bootstrap.
        count: How many keypoints, or faces, it is a mean of.
    """

    value: float | None
    interval: Interval | None
    count: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything measured.

    Attributes:
        parts: By name, in the order of ``selection.PARTS``.
        metrics: By name; see ``localization.metrics``.
        keypoint_metrics: (N, K) and (N,) values behind ``metrics``.
        kinds: (N, K) int8 index into ``error_kinds.KINDS``, -1 where nothing is judged.
        calibration: Whether keypoint scores mean what they say.
        selection: What was scored.
        localization: Who has which detection, and how far off each keypoint is.
        detections: How many detections were ranked for AP: at most 20 an image.
    """

    parts: Mapping[str, PartScore]
    metrics: Mapping[str, MetricScore]
    keypoint_metrics: Mapping[str, Metric]
    kinds: NDArray[np.int8]
    calibration: Calibration
    selection: Selection
    localization: Localization
    detections: int


def score(
    annotations: AnnotationSet,
    results: Results,
    *,
    each_person: Results | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Scores:
    """Scores detections.

    Detections on images that the annotations do not hold are left out. Where nothing can be measured the numbers are
    None; ``checks`` says beforehand why.

    Args:
        annotations: The labelled people; an area that is missing (NaN) counts as 0.
        results: The detections to rank, in the annotations' skeleton, rescored and suppressed.
        each_person: The detections made in the labelled people's own boxes before any was suppressed, with ``labels``:
            PCK, errors and calibration are then about those.
        replicates: Draws of the bootstrap; 0 for no intervals.
        seed: Of the draws.

    Returns:
        The scores.

    Raises:
        ValueError: The detections are in another skeleton.
        ConfigError: faster-coco-eval is not installed.
    """
    if results.skeleton is not annotations.skeleton:
        raise ValueError(f"results are in {results.skeleton.name}, annotations in {annotations.skeleton.name}")
    known = np.isin(results.image_ids, annotations.image_ids)
    if not known.all():
        results = results.select(known)
    arrangement, similarity, selection = arranged_similarities(annotations, results)
    areas = np.nan_to_num(annotations.areas, nan=0.0)
    images = arrangement.images
    person_images = np.searchsorted(np.sort(annotations.image_ids), annotations.person_image_ids)
    weights = image_weights(images, replicates, seed)
    detected_areas = results.areas(selection.columns["whole"])
    parts = {
        part: _score_part(
            arrangement,
            similarity[part],
            areas=areas,
            ignored=selection.ignored[part],
            crowds=annotations.crowds,
            scores=results.scores,
            detected_areas=detected_areas,
            weights=weights,
        )
        for part in PARTS
    }
    placed = results if each_person is None else each_person
    localization = localize(annotations, placed, selection, arrangement, similarity["whole"])
    measured = metrics(annotations, localization)
    return Scores(
        parts=parts,
        metrics={name: _score_metric(metric, person_images, images, weights) for name, metric in measured.items()},
        keypoint_metrics=measured,
        kinds=error_kinds(annotations, placed, arrangement, localization),
        calibration=calibrate(placed, localization),
        selection=selection,
        localization=localization,
        detections=len(arrangement.detections),
    )


def arranged_similarities(
    annotations: AnnotationSet, results: Results
) -> tuple[Arrangement, dict[str, NDArray[np.float64]], Selection]:
    """Brings people and detections together.

    Args:
        annotations: The labelled people.
        results: The detections, in the annotations' skeleton, all of them on images that the annotations hold.

    Returns:
        Who shares an image with whom (images in rising order of id), the similarity of each such pair by part, and what
        is scored.
    """
    selection = select(annotations, results.provided)
    image_ids = np.sort(annotations.image_ids)
    arrangement = arrange(
        len(image_ids),
        np.searchsorted(image_ids, annotations.person_image_ids),
        np.searchsorted(image_ids, results.image_ids),
        results.scores,
    )
    similarity = similarities(
        arrangement,
        results.keypoints,
        annotations.keypoints,
        selection.visible,
        np.nan_to_num(annotations.areas, nan=0.0),
        annotations.file_boxes,
        annotations.skeleton.sigmas,
        selection.columns,
    )
    return arrangement, similarity, selection


def _score_part(
    arrangement: Arrangement,
    similarity: NDArray[np.float64],
    *,
    areas: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowds: NDArray[np.bool_],
    scores: NDArray[np.float64],
    detected_areas: NDArray[np.float64],
    weights: NDArray[np.uint16],
) -> PartScore:
    people = int((~ignored).sum())
    if not people:
        return PartScore(0, dict.fromkeys(STATISTICS), {}, None)
    counted = average_precision(
        arrangement,
        similarity,
        areas=areas,
        ignored=ignored,
        crowds=crowds,
        scores=scores,
        detected_areas=detected_areas,
    )
    intervals: dict[str, Interval | None] = {}
    if len(weights):
        matches = match(arrangement, similarity, ignored, crowds, THRESHOLDS)
        precision, recall = average_precision_samples(arrangement, matches, scores, ignored, RECALLS, weights)
        intervals = {
            "AP": interval(precision.mean(axis=1)),
            "AP50": interval(precision[:, 0]),
            "AP75": interval(precision[:, _AP75]),
            "AR": interval(recall.mean(axis=1)),
        }
    return PartScore(people, counted.statistics, intervals, counted.precision)


def _score_metric(metric: Metric, rows: NDArray[np.int64], images: int, weights: NDArray[np.uint16]) -> MetricScore:
    count = int(metric.counted.sum())
    bounds = None
    if count and len(weights):
        totals, counts = metric.by_image(rows, images)
        bounds = interval(ratio_samples(totals, counts, weights))
    return MetricScore(metric.mean(), bounds, count)
