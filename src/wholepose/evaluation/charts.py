"""Charts as SVG text, for a page that loads nothing from anywhere. Colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.error_kinds import KINDS
from wholepose.evaluation.figure import FIGURE_SIZE, LABELS, figure_points
from wholepose.skeletons import Skeleton

LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, told apart by people who see red and green alike."""

KIND_COLORS = dict(zip(KINDS, ("#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00"), strict=True))

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 42


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: For the key.
        x: Values in [0, 1].
        y: As many, in [0, 1].
        color: Any SVG colour.
        marks: A dot at every value.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    marks: bool = False


def line_chart(
    lines: Sequence[Line], x_title: str, y_title: str, *, diagonal: bool = False, bars: Sequence[float] = ()
) -> str:
    """A chart of lines over the unit square.

    Args:
        lines: What to draw; a line without values is left out.
        x_title: Below the axis.
        y_title: Beside the axis.
        diagonal: Draw where x equals y.
        bars: Shares, drawn as equally wide bars from left to right behind the lines.

    Returns:
        An ``<svg>`` element.
    """
    parts = [_axes(x_title, y_title)]
    for place, share in enumerate(bars):
        left, right, top = _x(place / len(bars)), _x((place + 1) / len(bars)), _y(share)
        parts.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{top}" width="{right - left - 2:.1f}" '
            f'height="{_y(0) - top:.1f}"><title>{share:.1%}</title></rect>'
        )
    if diagonal:
        parts.append(f'<line class="grid strong" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    shown = [line for line in lines if len(line.x)]
    for line in shown:
        places = " ".join(f"{_x(x)},{_y(y)}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline fill="none" stroke="{line.color}" stroke-width="2" points="{places}"/>')
        if line.marks:
            for x, y in zip(line.x, line.y, strict=True):
                title = f"<title>{x:.3f}: {y:.3f}</title>"
                parts.append(f'<circle cx="{_x(x)}" cy="{_y(y)}" r="4" fill="{line.color}">{title}</circle>')
    for place, line in enumerate(shown if len(shown) > 1 else []):
        y = _HEIGHT - _BOTTOM - 10 - 16 * (len(shown) - 1 - place)
        parts.append(f'<rect x="{_LEFT + 8}" y="{y - 8}" width="14" height="4" fill="{line.color}"/>')
        parts.append(f'<text x="{_LEFT + 27}" y="{y - 2}">{escape(line.label)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _axes(x_title: str, y_title: str) -> str:
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(f'<line class="grid" x1="{_x(tick)}" y1="{_y(0)}" x2="{_x(tick)}" y2="{_y(1)}"/>')
        parts.append(f'<line class="grid" x1="{_x(0)}" y1="{_y(tick)}" x2="{_x(1)}" y2="{_y(tick)}"/>')
        parts.append(f'<text x="{_x(tick)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{_x(0.5)}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_title)}</text>'
    )
    return "".join(parts)


def _x(value: float) -> float:
    return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float) -> float:
    return round(_HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM), 1)


def kinds_chart(shares: Mapping[str, Mapping[str, float] | None]) -> str:
    """One bar for each part, divided into the kinds of error.

    Args:
        shares: Part name to the share of each kind, or None to leave the part out.

    Returns:
        An ``<svg>`` element.
    """
    rows = [(name, each) for name, each in shares.items() if each is not None]
    width, bar = 640, 22
    parts = []
    for row, (name, each) in enumerate(rows):
        top = 26 + row * (bar + 8)
        parts.append(f'<text x="92" y="{top + 15}" text-anchor="end">{escape(name.replace("_", " "))}</text>')
        left = 100.0
        for kind in KINDS:
            length = each[kind] * (width - 110)
            title = f"<title>{escape(name.replace('_', ' '))}: {kind} {each[kind]:.1%}</title>"
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{length:.1f}" height="{bar}" fill="{KIND_COLORS[kind]}">'
                f"{title}</rect>"
            )
            if length > 40:
                parts.append(
                    f'<text class="on-bar" x="{left + length / 2:.1f}" y="{top + 15}" text-anchor="middle">'
                    f"{each[kind]:.0%}</text>"
                )
            left += length
    for place, kind in enumerate(KINDS):
        parts.append(f'<rect x="{100 + 100 * place}" y="4" width="12" height="12" fill="{KIND_COLORS[kind]}"/>')
        parts.append(f'<text x="{117 + 100 * place}" y="14">{kind}</text>')
    return f'<svg viewBox="0 0 {width} {30 + len(rows) * (bar + 8)}" role="img">{"".join(parts)}</svg>'


def body_chart(skeleton: Skeleton, values: Sequence[float | None], titles: Sequence[str]) -> str:
    """A drawn person with a coloured dot at each keypoint.

    Args:
        skeleton: Of the K values.
        values: K numbers in [0, 1], 1 is good; None leaves a keypoint grey.
        titles: K texts that appear when a dot is pointed at.

    Returns:
        An ``<svg>`` element.
    """
    points, known = figure_points(skeleton)
    height, width = FIGURE_SIZE
    parts = [_figure_limbs(skeleton, points, known)]
    fine = {index for name, indices in skeleton.parts.items() if name in LABELS or name == "hand" for index in indices}
    for index in np.flatnonzero(known).tolist():
        value = values[index]
        color = "#9aa0a6" if value is None else _shade(value)
        x, y = points[index]
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3.5 if index in fine else 7}" fill="{color}" class="dot">'
            f"<title>{escape(titles[index])}</title></circle>"
        )
    for name, (x, y) in LABELS.items():
        if name in skeleton.parts:
            parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{name.replace("_", " ")}</text>')
    for step in range(11):
        parts.append(f'<rect x="{470 + 12 * step}" y="30" width="12" height="12" fill="{_shade(step / 10)}"/>')
    parts.append('<text x="470" y="58">0</text><text x="602" y="58" text-anchor="end">1</text>')
    parts.append('<text x="470" y="22">share that is right</text>')
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _figure_limbs(skeleton: Skeleton, points: NDArray[np.float64], known: NDArray[np.bool_]) -> str:
    part_of = {index: name for name, indices in skeleton.parts.items() for index in indices}
    apart = {name for name in skeleton.parts if name in LABELS}
    lines = []
    for edge in skeleton.edges:
        parts = {part_of[edge.start], part_of[edge.end]}
        if known[[edge.start, edge.end]].all() and (len(parts) == 1 or not parts & apart):
            (x1, y1), (x2, y2) = points[[edge.start, edge.end]]
            lines.append(f'<line class="limb" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    return "".join(lines)


def _shade(value: float) -> str:
    """From orange for 0 through yellow to blue-green for 1."""
    stops = np.array([[213, 94, 0], [240, 228, 66], [0, 158, 115]], dtype=np.float64)
    place = 2 * float(np.clip(value, 0, 1))
    low = min(int(place), 1)
    red, green, blue = (stops[low] + (place - low) * (stops[low + 1] - stops[low])).round().astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"
