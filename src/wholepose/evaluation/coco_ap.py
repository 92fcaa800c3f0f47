"""COCO's average precision and recall, counted by faster-coco-eval.

The library gets the similarities ready made: its own are computed one image and one part at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import require
from wholepose.evaluation.arrangement import MAX_DETECTIONS, Arrangement

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Similarities from which a detection counts as right: .50, .55 ... .95."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read."""

STATISTICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""Names of COCO's ten keypoint numbers, in COCO's order. M: areas of 32^2 to 96^2 px; L: above."""


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """COCO's numbers.

    Attributes:
        statistics: Each of ``STATISTICS`` in [0, 1], or None where nobody is to be found.
        precision: (10, 101) float64: precision at each of ``THRESHOLDS`` and ``RECALLS``, all areas; None likewise.
    """

    statistics: dict[str, float | None]
    precision: NDArray[np.float64] | None


def average_precision(
    arrangement: Arrangement,
    similarity: NDArray[np.float64],
    *,
    areas: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowds: NDArray[np.bool_],
    scores: NDArray[np.float64],
    detected_areas: NDArray[np.float64],
) -> AveragePrecision:
    """Counts average precision and recall.

    Args:
        arrangement: Who shares an image with whom.
        similarity: (P,) of its pairs.
        areas: (N,) px^2 of the labelled people, in the order given to ``arrange``, as are the others.
        ignored: (N,) bool.
        crowds: (N,) bool.
        scores: (M,) of the detections.
        detected_areas: (M,) px^2.

    Returns:
        The numbers. With people to find and no detection all are 0.

    Raises:
        ConfigError: faster-coco-eval is not installed.
    """
    api = require("faster_coco_eval", "train")
    core = require("faster_coco_eval.core.faster_eval_api", "train")
    images = [{"id": row} for row in range(arrangement.images)]
    people = [
        {
            **_entry(number, row, areas[person]),
            "iscrowd": int(crowds[person]),
            "num_keypoints": int(not ignored[person]),
        }
        for number, (person, row) in enumerate(zip(arrangement.people, arrangement.person_images, strict=True), 1)
    ]
    found = [
        {**_entry(number, row, detected_areas[index]), "score": float(scores[index])}
        for number, (index, row) in enumerate(zip(arrangement.detections, arrangement.detection_images, strict=True), 1)
    ]

    evaluator = core.COCOeval_faster(
        _coco(api.COCO, images, people), _coco(api.COCO, images, found), iouType="keypoints", print_function=_silent
    )
    tables = _tables(arrangement, similarity)
    evaluator.computeOks = lambda image, _category: tables.get(int(image), [])
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.catIds = [1]
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = [float(value) for value in evaluator.all_stats]
    statistics = {name: None if value < 0 else value for name, value in zip(STATISTICS, values, strict=True)}
    precision = np.asarray(evaluator.eval["precision"], dtype=np.float64)[:, :, 0, 0, 0]
    return AveragePrecision(statistics, precision if (precision >= 0).all() else None)


def _entry(number: int, row: int, area: float) -> dict[str, Any]:
    return {"id": number, "image_id": int(row), "category_id": 1, "area": float(area)}


def _coco(kind: Any, images: list[dict[str, Any]], entries: list[dict[str, Any]]) -> Any:
    document = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "person"}]}
    return kind(document)


def _silent(*_: object) -> None:
    """Takes what the library would print."""


def _tables(arrangement: Arrangement, similarity: NDArray[np.float64]) -> Mapping[int, list[list[float]]]:
    """Similarities of each image as rows of detections and columns of people, plain numbers."""
    images = arrangement.detection_images[arrangement.pair_detections]
    tables: dict[int, list[list[float]]] = {}
    if not len(images):
        return tables
    starts = np.flatnonzero(np.r_[True, images[1:] != images[:-1]])
    for start, end in zip(starts, np.r_[starts[1:], len(images)], strict=True):
        detections = arrangement.pair_detections[[start, end - 1]]
        tables[int(images[start])] = similarity[start:end].reshape(detections[1] - detections[0] + 1, -1).tolist()
    return tables
