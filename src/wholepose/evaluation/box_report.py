"""``report.json`` and ``report.html`` of an evaluation of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.boxes import MAX_DETECTIONS, BoxScores, Figure, FoundBoxes
from wholepose.evaluation.charts import LINE_COLORS, Line, line_chart
from wholepose.evaluation.coco_ap import RECALLS, THRESHOLDS
from wholepose.evaluation.page import html_page
from wholepose.outputs import atomic_path, write_json

_DECIMALS = 6
_WORDS = {
    "AP": "average precision, overlaps .50 to .95",
    "AP50": "average precision, overlap .50",
    "AP75": "average precision, overlap .75",
    "APS": "AP of people below 32 x 32 px",
    "APM": "AP of people from 32 x 32 to 96 x 96 px",
    "APL": "AP of larger people",
    "AR1": "average recall, the best detection an image",
    "AR10": "average recall, the best 10 an image",
    "AR": "average recall, the best 100 an image",
    "ARS": "AR of people below 32 x 32 px",
    "ARM": "AR of people from 32 x 32 to 96 x 96 px",
    "ARL": "AR of larger people",
    "recall": "share of people found, overlap .50",
    "precision": "share of detections that are right, overlap .50",
    "false_positives": "detections an image without people",
}


def box_document(
    annotations: AnnotationSet,
    scores: BoxScores,
    *,
    detector: str,
    threshold: float | None,
    command: str,
    replicates: int,
    seed: int,
    version: str,
) -> dict[str, Any]:
    """The report as plain dictionaries and numbers.

    Args:
        annotations: What was scored against.
        scores: The numbers.
        detector: Name of the detector or of the file of boxes.
        threshold: Of the score, for ``at_threshold``.
        command: The command line that repeats it.
        replicates: Draws of the bootstrap.
        seed: Of the draws.
        version: Of wholepose.

    Returns:
        ``statistics`` and ``at_threshold`` (each name with ``value`` and ``interval``, None where nothing labelled
        allows to measure it), ``counts``, and how it came about.
    """
    return {
        "task": "boxes",
        "statistics": {name: _entry(figure) for name, figure in scores.statistics.items()},
        "at_threshold": {name: _entry(figure) for name, figure in scores.at_threshold.items()},
        "threshold": threshold,
        "detector": detector,
        "annotations": str(annotations.path),
        "command": command,
        "bootstrap": {"replicates": replicates, "seed": seed, "resampled": "images", "level": 0.95},
        "counts": {
            "images": len(annotations.image_ids),
            "images_without_people": scores.empty_images,
            "people_to_find": scores.people,
            "crowds": int(annotations.crowds.sum()),
            "detections": scores.detections,
            "detections_an_image_at_most": MAX_DETECTIONS,
        },
        "wholepose": version,
    }


def box_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """The numbers of a document as rows of a table: name, value, interval and what it is; a head comes first."""
    rows = [["measure", "value", "", "what"]]
    for name, entry in (document["statistics"] | document["at_threshold"]).items():
        if entry["value"] is not None:
            bounds = entry["interval"]
            rows.append(
                [
                    name,
                    f"{entry['value']:.3f}",
                    "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]",
                    _WORDS[name] + (f", scores from {document['threshold']:g} on" if name not in _RANKED else ""),
                ]
            )
    return rows


_RANKED = frozenset(name for name in _WORDS if name[:2] in ("AP", "AR"))


def box_page(document: Mapping[str, Any], scores: BoxScores) -> str:
    """Lays the report out as one HTML page.

    Args:
        document: What ``box_document`` gives.
        scores: The numbers behind it, for the curves.
    """
    counts = document["counts"]
    facts = [
        str(document["annotations"]),
        f"{counts['images']} images, {counts['images_without_people']} without people",
        f"{counts['people_to_find']} people to find",
        f"{counts['detections']} detections ranked",
    ]
    head, *rows = box_rows(document)
    cells = "".join(
        f"<tr><td>{escape(what)} ({name})</td><td>{value}<small>{bounds[1:-1]}</small></td></tr>"
        for name, value, bounds, what in rows
    )
    chart = ""
    if scores.curve is not None:
        recalls = RECALLS.tolist()
        lines = [
            Line(f"overlap {THRESHOLDS[row]:.2f}", recalls, scores.curve[row].tolist(), color)
            for row, color in zip((0, 5, 8), LINE_COLORS, strict=False)
        ]
        lines.append(Line("mean of .50 to .95", recalls, scores.curve.mean(axis=0).tolist(), LINE_COLORS[3]))
        chart = f"<figure>{line_chart(lines, 'recall', 'precision')}</figure>"
    replicates = document["bootstrap"]["replicates"]
    note = f"In small print: 95 % intervals, bootstrap over images, {replicates} draws." if replicates else ""
    return html_page(
        document["detector"],
        [
            f"<h1>{escape(document['detector'])}: boxes</h1>",
            f'<p class="note">{escape(" · ".join(facts))}</p>',
            f"<p><code>{escape(document['command'])}</code></p>",
            f'<div class="scroll"><table><caption>{note}</caption>'
            f"<tr><th>{head[0]}</th><th>{head[1]}</th></tr>{cells}</table></div>",
            "<h2>Precision and recall</h2>" if chart else "",
            chart,
        ],
    )


def write_box_reports(
    folder: str | Path, document: Mapping[str, Any], annotations: AnnotationSet, found: FoundBoxes, scores: BoxScores
) -> list[Path]:
    """Writes ``boxes.json`` (COCO results), ``report.html`` and ``report.json``.

    Args:
        folder: Made if it is missing.
        document: What ``box_document`` gives.
        annotations: What was scored against.
        found: The detections.
        scores: The numbers.

    Returns:
        The files written.

    Raises:
        OSError: A file cannot be written; those named before are whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "boxes.json", folder / "report.html", folder / "report.json"]
    boxes = found.boxes.round(3)
    write_json(
        written[0],
        [
            {
                "image_id": int(annotations.image_ids[row]),
                "category_id": 1,
                "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                "score": round(score, 5),
            }
            for row, (x1, y1, x2, y2), score in zip(
                found.image_rows, boxes.tolist(), found.scores.tolist(), strict=True
            )
        ],
    )
    with atomic_path(written[1]) as temporary:
        temporary.write_text(box_page(document, scores), encoding="utf-8", newline="\n")
    write_json(written[2], document)
    return written


def _entry(figure: Figure) -> dict[str, Any]:
    bounds = figure.interval
    return {
        "value": None if figure.value is None else round(figure.value, _DECIMALS),
        "interval": None if bounds is None else [round(bound, _DECIMALS) for bound in bounds],
    }
