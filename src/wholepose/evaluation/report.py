"""``report.json``: every number of an evaluation, with what it takes to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.bootstrap import Interval
from wholepose.evaluation.calibration import BINS, Calibration
from wholepose.evaluation.error_kinds import KINDS
from wholepose.evaluation.scoring import PartScore, Scores

_DECIMALS = 6
_KEYPOINT_METRICS = (
    "pck_torso_0.2",
    "pck_box_0.2",
    "pck_box_0.1",
    "pck_head_0.5",
    "auc_box_0.2",
    "epe_px",
    "error_sigmas",
)


@dataclass(frozen=True)
class Settings:
    """What was evaluated, and how.

    Attributes:
        command: The command line that repeats it.
        protocol: ``"default"`` or ``"mmpose0"``.
        annotations: The annotation file.
        boxes: ``"gt"``, the name of a detector or of a file of boxes; None where results came from a file.
        results: The results file, None where a model ran.
        model: Name of the weights, likewise.
        model_sha256: Of the weights' file, likewise.
        flip_test: Whether mirrored crops were averaged in.
        zoom: Whether faces and hands were looked at again.
        suppression: ``"hard"``, ``"soft"`` or ``"none"``: how repeated people were removed.
        replicates: Draws of the bootstrap; 0 for no intervals.
        seed: Of the draws.
        version: Of wholepose.
        warnings: What was said before and after it ran.
    """

    command: str
    protocol: str
    annotations: str
    boxes: str | None = None
    results: str | None = None
    model: str | None = None
    model_sha256: str | None = None
    flip_test: bool = False
    zoom: bool = False
    suppression: str = "none"
    replicates: int = 0
    seed: int = 0
    version: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)


def report_document(annotations: AnnotationSet, scores: Scores, settings: Settings) -> dict[str, Any]:
    """The report as plain lists, dictionaries and numbers.

    Args:
        annotations: What was scored against.
        scores: The numbers.
        settings: How they came about.

    Returns:
        ``parts`` (each of ``selection.PARTS`` with AP, AP50, AP75, APM, APL, AR, ``n`` people and ``intervals``),
        ``metrics``, ``metric_intervals`` and ``metric_counts``, ``per_keypoint``, ``error_kinds`` of each part,
        ``calibration``, ``counts``, and the settings. What nothing labelled allows to measure is None.
    """
    localization = scores.localization
    return {
        "parts": {name: _part(part) for name, part in scores.parts.items()},
        "metrics": {name: _number(metric.value) for name, metric in scores.metrics.items()},
        "metric_intervals": {name: _interval(metric.interval) for name, metric in scores.metrics.items()},
        "metric_counts": {name: metric.count for name, metric in scores.metrics.items()},
        "per_keypoint": _keypoints(annotations, scores),
        "error_kinds": {
            name: error_shares(scores.kinds[:, columns]) for name, columns in scores.selection.columns.items()
        },
        "calibration": _calibration(scores.calibration),
        "protocol": settings.protocol,
        "boxes": settings.boxes,
        "command": settings.command,
        "annotations": settings.annotations,
        "results": settings.results,
        "model": settings.model,
        "model_sha256": settings.model_sha256,
        "skeleton": annotations.skeleton.name,
        "scored_keypoints": np.flatnonzero(scores.selection.scored).tolist(),
        "flip_test": settings.flip_test,
        "zoom": settings.zoom,
        "suppression": settings.suppression,
        "bootstrap": {"replicates": settings.replicates, "seed": settings.seed, "resampled": "images", "level": 0.95},
        "counts": {
            "images": len(annotations.image_ids),
            "people": len(annotations),
            "crowds": int(annotations.crowds.sum()),
            "people_to_find": int(localization.counted.sum()),
            "people_with_a_detection": int(localization.found.sum()),
            "detections": scores.detections,
        },
        "warnings": list(settings.warnings),
        "wholepose": settings.version,
    }


def error_shares(kinds: NDArray[np.int8]) -> dict[str, float] | None:
    """Share of each of ``KINDS`` among the keypoints judged; None where none is."""
    judged = kinds[kinds >= 0]
    if not len(judged):
        return None
    counts = np.bincount(judged, minlength=len(KINDS)) / len(judged)
    return {kind: round(float(share), _DECIMALS) for kind, share in zip(KINDS, counts, strict=True)}


def _part(part: PartScore) -> dict[str, Any]:
    names = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    return {
        **{name: _number(part.statistics[name]) for name in names},
        "n": part.people,
        "intervals": {name: _interval(part.intervals.get(name)) for name in ("AP", "AP50", "AP75", "AR")},
    }


def _keypoints(annotations: AnnotationSet, scores: Scores) -> list[dict[str, Any]]:
    part_of = {index: name for name, indices in annotations.skeleton.parts.items() for index in indices}
    means = {name: scores.keypoint_metrics[name].by_keypoint() for name in _KEYPOINT_METRICS}
    visible = scores.localization.visible
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(annotations.skeleton.keypoint_names):
        rows.append(
            {
                "index": index,
                "name": name,
                "part": part_of[index],
                "n": int(visible[:, index].sum()),
                **{metric: _number(values[index]) for metric, values in means.items()},
                "errors": error_shares(scores.kinds[:, index]),
            }
        )
    return rows


def _calibration(calibration: Calibration) -> dict[str, Any]:
    bins: list[Mapping[str, Any]] = [
        {
            "from": round(place / BINS, _DECIMALS),
            "to": round((place + 1) / BINS, _DECIMALS),
            "n": int(calibration.counts[place]),
            "score": _number(calibration.mean_scores[place]),
            "right": _number(calibration.right[place]),
        }
        for place in range(BINS)
    ]
    return {
        "right_means": "similarity to the label above 0.5",
        "bins": bins,
        "expected_calibration_error": _number(calibration.expected_error),
        "brier": _number(calibration.brier),
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), _DECIMALS)


def _interval(bounds: Interval | None) -> list[float] | None:
    return None if bounds is None else [round(bound, _DECIMALS) for bound in bounds]
