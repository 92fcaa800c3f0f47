"""COCO's evaluation of person boxes, with intervals, and what a threshold finds and makes up.

Convention:
    Boxes are xyxy pixels, areas without the "+ 1" of older tools, as COCO counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.detectors import NamedPersonDetector, PersonDetector, detect_people
from wholepose.errors import WholeposeError, require
from wholepose.evaluation.arrangement import Arrangement, arrange
from wholepose.evaluation.bootstrap import (
    REPLICATES,
    Interval,
    average_precision_samples,
    image_weights,
    interval,
    ratio_samples,
)
from wholepose.evaluation.coco_ap import RECALLS, THRESHOLDS
from wholepose.evaluation.matching import match
from wholepose.evaluation.prediction import read_photos

BOX_STATISTICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR", "ARS", "ARM", "ARL")
"""Names of COCO's twelve box numbers, in COCO's order. S: areas below 32^2 px; M: to 96^2; L: above. AR1 and AR10: with
the best one and ten detections an image, AR with a hundred."""

MAX_DETECTIONS = 100
"""Detections an image that count, the best scored."""

RANKING_THRESHOLD = 0.01
"""Lowest score of the detections that are ranked: average precision wants the doubtful ones too."""


@dataclass(frozen=True, eq=False)
class FoundBoxes:
    """The boxes that a detector found, M of them.

    Attributes:
        image_rows: (M,) int64 row of each one's image in the annotations' image columns.
        boxes: (M, 4) float64 xyxy pixels.
        scores: (M,) float64.
        failures: Images that could not be read, one message each.
    """

    image_rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    failures: list[str]


@dataclass(frozen=True)
class Figure:
    """A number and the interval that holds it with 95 % confidence; None: nothing to measure it on."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True, eq=False)
class BoxScores:
    """What boxes are worth.

    Attributes:
        statistics: Each of ``BOX_STATISTICS``; intervals of AP, AP50, AP75 and AR.
        at_threshold: ``recall`` and ``precision`` at an overlap of .5, of detections from the threshold on, and
            ``false_positives`` an image without people; empty where no threshold was given.
        curve: (10, 101) float64 precision at each of ``THRESHOLDS`` and ``RECALLS``; None where nobody is to be found.
        people: People to find.
        empty_images: Images without people.
        detections: How many were ranked.
    """

    statistics: dict[str, Figure]
    at_threshold: dict[str, Figure]
    curve: NDArray[np.float64] | None
    people: int
    empty_images: int
    detections: int


def find_boxes(
    detector: PersonDetector, annotations: AnnotationSet, *, advance: Callable[[int], None] = lambda _images: None
) -> FoundBoxes:
    """Asks a detector about every image.

    Args:
        detector: A file of boxes is asked without reading the images.
        annotations: Which images.
        advance: Told after each image.

    Returns:
        What it found.
    """
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    failures = []
    every = list(range(len(annotations.image_ids)))
    blank = np.zeros((1, 1, 3), dtype=np.uint8)
    named = isinstance(detector, NamedPersonDetector)
    for row, image in ((row, blank) for row in every) if named else read_photos(annotations, every):
        if isinstance(image, WholeposeError):
            failures.append(str(image))
        else:
            found = detect_people(detector, [image], [str(annotations.image_files[row])])[0]
            rows.append(np.full(len(found), row, dtype=np.int64))
            boxes.append(found.boxes.astype(np.float64))
            scores.append(found.scores.astype(np.float64))
        advance(1)
    return FoundBoxes(np.concatenate(rows), np.concatenate(boxes), np.concatenate(scores), failures)


def score_boxes(
    annotations: AnnotationSet,
    found: FoundBoxes,
    *,
    threshold: float | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> BoxScores:
    """Scores boxes.

    Args:
        annotations: The labelled people; crowds excuse detections on them and are not to be found.
        found: The detections.
        threshold: Of the score, for ``at_threshold``.
        replicates: Draws of the bootstrap over images; 0 for no intervals.
        seed: Of the draws.

    Returns:
        The scores.

    Raises:
        ConfigError: faster-coco-eval is not installed.
    """
    images = len(annotations.image_ids)
    labelled = annotations.file_boxes
    sides = labelled[:, 2:] - labelled[:, :2]
    areas = np.where(np.isfinite(annotations.areas), annotations.areas, sides.prod(axis=1))
    arrangement = arrange(images, annotations.image_rows, found.image_rows, found.scores, max_detections=MAX_DETECTIONS)
    overlap = _overlaps(arrangement, found.boxes, labelled, annotations.crowds)
    weights = image_weights(images, replicates, seed)
    people = int((~annotations.crowds).sum())
    statistics = {name: Figure(None) for name in BOX_STATISTICS}
    curve = None
    if people:
        values, curve = _coco_statistics(annotations, found, areas)
        intervals: dict[str, Interval | None] = {}
        if replicates:
            matches = match(arrangement, overlap, annotations.crowds, annotations.crowds, THRESHOLDS)
            precision, recall = average_precision_samples(
                arrangement, matches, found.scores, annotations.crowds, RECALLS, weights
            )
            columns = {"AP": precision.mean(axis=1), "AP50": precision[:, 0], "AP75": precision[:, 5]}
            intervals = {name: interval(each) for name, each in (columns | {"AR": recall.mean(axis=1)}).items()}
        statistics = {name: Figure(value, intervals.get(name)) for name, value in values.items()}
    empty = np.bincount(annotations.image_rows, minlength=images) == 0
    at_threshold: dict[str, Figure] = {}
    if threshold is not None:
        at_threshold = _at_threshold(annotations, arrangement, overlap, found.scores, threshold, empty, weights)
    return BoxScores(statistics, at_threshold, curve, people, int(empty.sum()), len(arrangement.detections))


def _overlaps(
    arrangement: Arrangement, found: NDArray[np.float64], labelled: NDArray[np.float64], crowds: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(P,) intersection over union of each pair; over the detection alone where a crowd is labelled."""
    people = arrangement.people[arrangement.pair_people]
    a, b = found[arrangement.detections[arrangement.pair_detections]], labelled[people]
    both = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0).prod(axis=1)
    size_a, size_b = (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
    union = np.where(crowds[people], size_a, size_a + size_b - both)
    return np.asarray(np.where(union > 0, both / np.where(union > 0, union, 1), 0.0))


def _coco_statistics(
    annotations: AnnotationSet, found: FoundBoxes, areas: NDArray[np.float64]
) -> tuple[dict[str, float | None], NDArray[np.float64] | None]:
    """COCO's twelve numbers and the precision curves, as faster-coco-eval counts them."""
    api = require("faster_coco_eval", "train")
    core = require("faster_coco_eval.core.faster_eval_api", "train")
    frame: dict[str, Any] = {
        "images": [{"id": row} for row in range(len(annotations.image_ids))],
        "categories": [{"id": 1, "name": "person"}],
    }
    people = [
        {**_entry(number, row, box), "area": float(area), "iscrowd": int(crowd)}
        for number, (row, box, area, crowd) in enumerate(
            zip(annotations.image_rows, annotations.file_boxes, areas, annotations.crowds, strict=True), 1
        )
    ]
    order = np.argsort(-found.scores, kind="stable")
    detections = []
    for number, index in enumerate(order, 1):
        entry = _entry(number, found.image_rows[index], found.boxes[index])
        area = entry["bbox"][2] * entry["bbox"][3]
        detections.append({**entry, "area": area, "iscrowd": 0, "score": float(found.scores[index])})
    evaluator = core.COCOeval_faster(
        api.COCO({**frame, "annotations": people}),
        api.COCO({**frame, "annotations": detections}),
        iouType="bbox",
        print_function=_silent,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = [float(value) for value in evaluator.all_stats[: len(BOX_STATISTICS)]]
    precision = np.asarray(evaluator.eval["precision"], dtype=np.float64)[:, :, 0, 0, -1]
    statistics = {name: None if value < 0 else value for name, value in zip(BOX_STATISTICS, values, strict=True)}
    return statistics, precision if (precision >= 0).all() else None


def _entry(number: int, row: int, box: NDArray[np.float64]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return {"id": number, "image_id": int(row), "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _silent(*_: object) -> None:
    """Takes what the library would print."""


def _at_threshold(
    annotations: AnnotationSet,
    arrangement: Arrangement,
    overlap: NDArray[np.float64],
    scores: NDArray[np.float64],
    threshold: float,
    empty: NDArray[np.bool_],
    weights: NDArray[np.uint16],
) -> dict[str, Figure]:
    images = arrangement.images
    kept = scores[arrangement.detections] >= threshold
    usable = np.where(kept[arrangement.pair_detections], overlap, -1.0)
    matches = match(arrangement, usable, annotations.crowds, annotations.crowds, np.array([0.5]))
    rows = arrangement.detection_images

    def per_image(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(rows[chosen], minlength=images).astype(np.float64)

    right = per_image(kept & matches.right[0])
    counted = per_image(kept & ~matches.ignored[0])
    wanted = np.bincount(annotations.image_rows[~annotations.crowds], minlength=images).astype(np.float64)
    made_up = per_image(kept) * empty
    return {
        "recall": _ratio(right, wanted, weights),
        "precision": _ratio(right, counted, weights) if wanted.sum() else Figure(None),  # nothing could be right
        "false_positives": _ratio(made_up, empty.astype(np.float64), weights),
    }


def _ratio(totals: NDArray[np.float64], counts: NDArray[np.float64], weights: NDArray[np.uint16]) -> Figure:
    if not counts.sum():
        return Figure(None)
    bounds = interval(ratio_samples(totals, counts, weights)) if len(weights) else None
    return Figure(float(totals.sum() / counts.sum()), bounds)
