"""Draws charts, with one layout for both kinds of file.

By hand instead of by Matplotlib: lines over time need two hundred lines of code, and so `wholepose plot` works in every
installation, and its HTML loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wholepose.plots.series import Panel

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5af0", "#6b7280")
"""Okabe and Ito's colours first, told apart by people who see red and green alike."""

_WIDTH, _PANEL_HEIGHT, _HEAD = 900, 190, 40
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 26, 34
_GRID, _INK = "#d9dce1", "#22262e"
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # Pillow's
_LAST_LATIN = 0x24F
_Points = list[tuple[float, float]]


class _Canvas(Protocol):
    """Where charts are drawn; pixels from the top left."""

    def line(self, points: _Points, color: str, width: float) -> None: ...

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> None: ...

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None: ...


class _Svg:
    def __init__(self) -> None:
        self.parts: list[str] = []

    def line(self, points: _Points, color: str, width: float) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round" points="{places}"/>'
        )

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" fill="{color}"/>')


class _Picture:
    """Draws at twice the size, so that lines are smooth."""

    _SCALE = 2

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * self._SCALE, height * self._SCALE), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(12 * self._SCALE)

    def line(self, points: _Points, color: str, width: float) -> None:
        scaled = [(x * self._SCALE, y * self._SCALE) for x, y in points]
        self._draw.line(scaled, fill=color, width=max(1, round(width * self._SCALE)), joint="curve")

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> None:
        place = (x * self._SCALE, y * self._SCALE)
        color = "black" if bold else _INK  # Pillow's own font has one weight
        self._draw.text(place, text, fill=color, font=self._font, anchor=_ANCHORS[anchor])

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        corner = (x * self._SCALE, y * self._SCALE)
        self._draw.rectangle((*corner, corner[0] + width * self._SCALE, corner[1] + height * self._SCALE), fill=color)


def html_page(panels: Sequence[Panel], title: str) -> str:
    """A page that loads nothing from anywhere.

    Args:
        panels: The charts, from top to bottom.
        title: Above them.
    """
    canvas = _Svg()
    height = _draw(canvas, panels, title)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>body{margin:1rem auto;max-width:1100px;background:#fff}"
        f"svg{{width:100%;font:12px system-ui,sans-serif;fill:{_INK}}}</style>\n"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">' + "\n".join(canvas.parts) + "</svg>\n</html>\n"
    )


def png_image(panels: Sequence[Panel], title: str) -> NDArray[np.uint8]:
    """The same charts as (H, W, 3) uint8 RGB; without a title that Pillow's font, of Latin letters, cannot write."""
    if any(ord(letter) > _LAST_LATIN for letter in title):
        title = ""
    canvas = _Picture(_WIDTH, _HEAD + _PANEL_HEIGHT * len(panels))
    _draw(canvas, panels, title)
    return np.array(canvas.image, dtype=np.uint8)


def _draw(canvas: _Canvas, panels: Sequence[Panel], title: str) -> int:
    """Draws all charts and returns the height in pixels."""
    canvas.text(_LEFT, 17, title, bold=True)
    people = [series.person for series in panels[0].series] if panels else []
    for place, person in enumerate(people):
        x = _LEFT + place * 96
        canvas.box(x, 27, 14, 4, COLORS[place % len(COLORS)])
        canvas.text(x + 19, 33, f"person {person}")
    times = [time for panel in panels for series in panel.series for time in series.x]
    span = (min(times), max(times)) if times else (0.0, 1.0)
    for place, panel in enumerate(panels):
        _draw_panel(canvas, panel, _HEAD + place * _PANEL_HEIGHT, span)
    return _HEAD + _PANEL_HEIGHT * len(panels)


def _draw_panel(canvas: _Canvas, panel: Panel, top: float, span: tuple[float, float]) -> None:
    values = [value for series in panel.series for value in series.y if not math.isnan(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    start, end = span if span[1] > span[0] else (span[0], span[0] + 1)
    upper, lower = top + _TOP, top + _PANEL_HEIGHT - _BOTTOM
    if panel.downwards:
        upper, lower = lower, upper

    def x_of(time: float) -> float:
        return _LEFT + (time - start) / (end - start) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        return lower - (value - low) / (high - low) * (lower - upper)

    canvas.text(_LEFT, top + 16, panel.title, bold=True)
    for tick in _ticks(low, high, 4):
        canvas.line([(_LEFT, y_of(tick)), (_WIDTH - _RIGHT, y_of(tick))], _GRID, 1)
        canvas.text(_LEFT - 6, y_of(tick) + 4, f"{tick:g}", anchor="end")
    for tick in _ticks(start, end, 8):
        canvas.text(x_of(tick), top + _PANEL_HEIGHT - _BOTTOM + 16, f"{tick:g}", anchor="middle")
    canvas.text(_WIDTH - _RIGHT, top + _PANEL_HEIGHT - 4, panel.x_title, anchor="end")
    for place, series in enumerate(panel.series):
        for stretch in _stretches(series.x, series.y):
            points = [(x_of(time), y_of(value)) for time, value in stretch]
            if len(points) == 1:  # a dot
                points = [(points[0][0] - 1, points[0][1]), (points[0][0] + 1, points[0][1])]
            canvas.line(points, COLORS[place % len(COLORS)], 1.5)


def _stretches(times: Sequence[float], values: Sequence[float]) -> list[_Points]:
    """The pieces between the NaNs."""
    pieces: list[_Points] = [[]]
    for time, value in zip(times, values, strict=True):
        if math.isnan(value):
            pieces.append([])
        else:
            pieces[-1].append((time, value))
    return [piece for piece in pieces if piece]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers within a range, about so many."""
    rough = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]
