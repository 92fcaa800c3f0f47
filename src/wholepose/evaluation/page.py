"""``report.html``: an evaluation as one page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wholepose.evaluation.cases import Case
from wholepose.evaluation.charts import LINE_COLORS, Line, body_chart, kinds_chart, line_chart
from wholepose.evaluation.coco_ap import RECALLS, THRESHOLDS
from wholepose.evaluation.scoring import Scores
from wholepose.skeletons import Skeleton

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6368; --line: #d9dce0; --back: #ffffff; --panel: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a0a5ab; --line: #3a3d42; --back: #17191c; --panel: #202327; } }
body { margin: 2rem auto; max-width: 1080px; padding: 0 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.note, figcaption, caption { color: var(--soft); font-size: .87rem; margin: .3rem 0; text-align: left; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
td small { color: var(--soft); display: block; font-size: .75rem; line-height: 1.1; }
.scroll { overflow-x: auto; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--panel); border-radius: 8px; padding: .8rem; min-width: 0; }
figure img { max-width: 100%; display: block; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg text.on-bar { fill: #111; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .grid.strong { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .limb { stroke: var(--soft); stroke-width: 1.5; opacity: .6; } svg .bar { fill: var(--line); }
svg .dot { stroke: var(--back); stroke-width: 1; }
ul.warnings { background: var(--panel); border-left: 4px solid #e69f00; padding: .6rem .6rem .6rem 2rem; }
code { background: var(--panel); padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
details { margin-top: .6rem; } summary { cursor: pointer; }
"""

_METRIC_WORDS = {
    "pck_torso_0.2": "PCK, within 0.2 of the torso (left shoulder to right hip)",
    "pck_box_0.2": "PCK, within 0.2 of the box's longer side",
    "pck_box_0.1": "PCK, within 0.1 of the box's longer side",
    "pck_head_0.5": "PCK, within half the head (top to neck)",
    "auc_box_0.2": "area under the curve of PCK, 0 to 0.2 of the box's longer side",
    "epe_px": "mean distance from the label, pixels",
    "error_sigmas": "mean distance from the label, sigmas of the keypoint's kind",
    "nme_interocular": "face error over the distance of the outer eye corners",
}


def report_page(
    document: Mapping[str, Any], scores: Scores, skeleton: Skeleton, worst: Sequence[Case], median: Sequence[Case]
) -> str:
    """Lays the report out.

    Args:
        document: What ``report_document`` gives.
        scores: The numbers behind it, for the curves.
        skeleton: Of the annotations.
        worst: Cases to show.
        median: Cases to show.

    Returns:
        The page, HTML.
    """
    subject = document["model"] or document["results"] or "results"
    counts = document["counts"]
    facts = [
        f"protocol {document['protocol']}",
        f"boxes: {document['boxes']}" if document["boxes"] else "results from a file",
        f"{counts['images']} images",
        f"{counts['people_to_find']} people to find, {counts['people_with_a_detection']} with a detection",
        f"{counts['detections']} detections ranked",
    ]
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in document["warnings"])
    sections = [
        f"<h1>{escape(str(subject))}</h1>",
        f'<p class="note">{escape(str(document["annotations"]))} · {escape(" · ".join(facts))}</p>',
        f"<p><code>{escape(document['command'])}</code></p>",
        f'<ul class="warnings">{warnings}</ul>' if warnings else "",
        "<h2>Average precision and recall</h2>",
        _parts_table(document),
        "<h2>Distances</h2>",
        _metrics_table(document),
        "<h2>Precision and recall</h2>",
        _curves(scores),
        "<h2>Keypoints</h2>",
        _keypoints(document, skeleton),
        "<h2>Do the scores mean what they say?</h2>",
        _reliability(document),
        _cases("Worst cases", worst),
        _cases("Median cases", median),
    ]
    return html_page(str(subject), sections)


def html_page(subject: str, sections: Sequence[str]) -> str:
    """Puts sections into a page.

    Args:
        subject: What was evaluated.
        sections: HTML; empty ones are left out.

    Returns:
        The page, HTML.
    """
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(subject)}: evaluation</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _parts_table(document: Mapping[str, Any]) -> str:
    columns = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    head = "".join(f"<th>{column}</th>" for column in ("part", *columns, "people"))
    rows = []
    for name, part in document["parts"].items():
        cells = "".join(
            f"<td>{_value(part[column])}{_bounds(part['intervals'].get(column))}</td>" for column in columns
        )
        rows.append(f"<tr><td>{name.replace('_', ' ')}</td>{cells}<td>{part['n']}</td></tr>")
    note = (
        "COCO keypoint evaluation at similarities of .50 to .95, 20 detections an image. A part counts its own "
        "keypoints alone. " + _interval_note(document)
    )
    return f'<div class="scroll"><table><caption>{note}</caption><tr>{head}</tr>{"".join(rows)}</table></div>'


def _metrics_table(document: Mapping[str, Any]) -> str:
    rows = []
    for name, words in _METRIC_WORDS.items():
        value, bounds = document["metrics"][name], document["metric_intervals"][name]
        digits = 2 if name in ("epe_px", "error_sigmas") else 3
        rows.append(
            f"<tr><td>{escape(words)}</td><td><code>{name}</code></td><td>{_value(value, digits)}"
            f"{_bounds(bounds, digits)}</td><td>{document['metric_counts'][name]}</td></tr>"
        )
    head = "<tr><th>measure</th><th>name</th><th>value</th><th>of</th></tr>"
    note = "PCK counts the keypoints of people without a detection as wrong; errors are means over people who have one."
    return f'<div class="scroll"><table><caption>{note}</caption>{head}{"".join(rows)}</table></div>'


def _interval_note(document: Mapping[str, Any]) -> str:
    replicates = document["bootstrap"]["replicates"]
    return f"In small print: 95 % intervals, bootstrap over images, {replicates} draws." if replicates else ""


def _curves(scores: Scores) -> str:
    whole = scores.parts["whole"].precision
    if whole is None:
        return '<p class="note">Nobody is to be found, so there is no curve.</p>'
    recalls = RECALLS.tolist()
    lines = [
        Line(f"similarity {THRESHOLDS[row]:.2f}", recalls, whole[row].tolist(), color)
        for row, color in zip((0, 5, 8), LINE_COLORS, strict=False)
    ]
    lines.append(Line("mean of .50 to .95", recalls, whole.mean(axis=0).tolist(), LINE_COLORS[3]))
    by_part = [
        Line(name.replace("_", " "), recalls, part.precision.mean(axis=0).tolist(), color)
        for (name, part), color in zip(scores.parts.items(), LINE_COLORS, strict=True)
        if part.precision is not None
    ]
    return (
        '<div class="grid2">'
        f"<figure>{line_chart(lines, 'recall', 'precision')}<figcaption>Whole person.</figcaption></figure>"
        f"<figure>{line_chart(by_part, 'recall', 'precision')}"
        "<figcaption>Each part, mean of similarities .50 to .95.</figcaption></figure></div>"
    )


def _keypoints(document: Mapping[str, Any], skeleton: Skeleton) -> str:
    values: list[float | None] = []
    titles, rows = [], []
    for row in document["per_keypoint"]:
        errors = row["errors"]
        right = None if errors is None else errors["good"] + errors["jitter"]
        values.append(right)
        told = "not labelled" if right is None else f"{right:.1%} right, {row['epe_px']:.1f} px off, n = {row['n']}"
        titles.append(f"{row['index']} {row['name']}: {told}")
        if row["n"]:
            shares = "".join(
                f"<td>{'' if errors is None else format(errors[kind], '.1%')}</td>"
                for kind in ("good", "jitter", "inversion", "swap", "miss")
            )
            rows.append(
                f"<tr><td>{row['index']} {escape(row['name'])}</td><td>{row['n']}</td>{shares}"
                f"<td>{_value(row['epe_px'], 1)}</td><td>{_value(row['error_sigmas'], 1)}</td>"
                f"<td>{_value(row['pck_torso_0.2'])}</td>"
                f"<td>{_value(row['pck_box_0.2'])}</td></tr>"
            )
    head = "".join(
        f"<th>{word}</th>"
        for word in (
            *("keypoint", "n", "good", "jitter", "inversion", "swap", "miss"),
            *("px off", "sigmas off", "PCK torso", "PCK box"),
        )
    )
    return (
        f"<figure>{body_chart(skeleton, values, titles)}<figcaption>Share of each keypoint that is right (similarity "
        "to the label of at least .5), on people with a detection. Point at a dot to see its numbers.</figcaption>"
        "</figure>"
        f"<h2>Kinds of error</h2><figure>{kinds_chart(document['error_kinds'])}<figcaption>After Ronchi and Perona "
        "(ICCV 2017): good at least .85 similar; jitter at least .5; inversion on the mirror keypoint; swap on another "
        "person; miss near none of these.</figcaption></figure>"
        f'<details><summary>All keypoints</summary><div class="scroll"><table><tr>{head}</tr>{"".join(rows)}'
        "</table></div></details>"
    )


def _reliability(document: Mapping[str, Any]) -> str:
    calibration = document["calibration"]
    bins = [each for each in calibration["bins"] if each["n"]]
    if not bins:
        return '<p class="note">No keypoint was judged.</p>'
    line = Line(
        "keypoints", [each["score"] for each in bins], [each["right"] for each in bins], LINE_COLORS[0], marks=True
    )
    total = sum(each["n"] for each in bins)
    shares = [each["n"] / total for each in calibration["bins"]]
    chart = line_chart([line], "score of a keypoint", "share that is right", diagonal=True, bars=shares)
    return (
        f'<div class="grid2"><figure>{chart}'
        f"<figcaption>{total} keypoints in bins of 0.1; bars show how many have such a score. On the dashed line a "
        "score is a probability. Expected "
        f"calibration error {_value(calibration['expected_calibration_error'])}, Brier score "
        f"{_value(calibration['brier'])}."
        "</figcaption></figure></div>"
    )


def _cases(title: str, cases: Sequence[Case]) -> str:
    if not any(case.picture for case in cases):
        return ""
    figures = "".join(
        f'<figure><img alt="labelled and detected keypoints" src="data:image/jpeg;base64,{case.picture}">'
        f"<figcaption>similarity {case.similarity:.3f} · image {case.image_id} · person {case.person_id}</figcaption>"
        "</figure>"
        for case in cases
        if case.picture
    )
    note = '<p class="note">Left as labelled, right as detected.</p>'
    return f'<h2>{title}</h2>{note}<div class="grid2">{figures}</div>'


def _value(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _bounds(bounds: Sequence[float] | None, digits: int = 3) -> str:
    return "" if bounds is None else f"<small>{bounds[0]:.{digits}f} – {bounds[1]:.{digits}f}</small>"
