"""Draws how the held-out figure grew over the runs of scripts/train_pose.py that follow one another.

    python scripts/training_curve.py docs/training/*.jsonl --out docs/training/curve.svg

Each log is a run that started from the weights of the one before.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 16, 52
COLOURS = {(128, 96): "#0072b2", (256, 192): "#d55e00"}
"""By the size of the crops at that time."""


def read_points(logs: list[Path]) -> tuple[list[list[tuple[float, float, str]]], list[float]]:
    """For each log its points (thousand crops before and in it, PCK, colour), and where it ends."""
    runs, ends, before = [], [], 0.0
    for log in logs:
        points, seen, size = [], 0, (128, 96)
        for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
            size, seen = tuple(line.get("size", size)), line["seen"]
            if "held_out_pck" in line:
                points.append((before + seen / 1000, line["held_out_pck"], COLOURS.get(size, "#555555")))
        before += seen / 1000
        runs.append(points)
        ends.append(before)
    return runs, ends


def draw(logs: list[Path]) -> str:
    """The picture as SVG."""
    runs, ends = read_points(logs)
    values = [value for run in runs for _, value, _ in run]
    low, high = int(min(values) * 10) / 10, int(max(values) * 10 + 1) / 10

    def x(thousands: float) -> float:
        return round(LEFT + thousands / ends[-1] * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for tenth in range(round(low * 10), round(high * 10) + 1):
        place = y(tenth / 10)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{place + 4}" text-anchor="end">{tenth / 10:.1f}</text>')
    for start, end, log in zip([0.0, *ends], ends, logs, strict=False):
        parts.append(f'<line x1="{x(end)}" x2="{x(end)}" y1="{TOP}" y2="{y(low)}" stroke="#bbbbbb"/>')
        middle = (x(start) + x(end)) / 2
        parts.append(f'<text x="{middle}" y="{y(low) + 18}" text-anchor="middle">{escape(log.stem)}</text>')
    for run in runs:
        places = " ".join(f"{x(seen)},{y(value)}" for seen, value, _ in run)
        parts.append(f'<polyline points="{places}" fill="none" stroke="#999999"/>')
        parts += [
            f'<circle cx="{x(seen)}" cy="{y(value)}" r="3.5" fill="{colour}">'
            f"<title>{seen:.0f},000 crops: {value:.3f}</title></circle>"
            for seen, value, colour in run
        ]
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"crops learnt from, {ends[-1] / 1000:.2f} million in all</text>"
    )
    parts.append(
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">'
        "PCK 0.2 torso, LSP held out</text>"
    )
    for number, (size, colour) in enumerate(COLOURS.items()):
        place = y(low) - 34 + 18 * number
        parts.append(f'<circle cx="{WIDTH - 110}" cy="{place}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - 100}" y="{place + 4}">{size[0]} x {size[1]} px</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help=".svg")
    options = parser.parse_args()
    options.out.write_text(draw(options.logs), encoding="utf-8")


if __name__ == "__main__":
    main()
