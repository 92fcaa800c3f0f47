"""How commands read the words after their options."""

from __future__ import annotations

import argparse
from typing import NamedTuple


class FrameRange(NamedTuple):
    """Which frames of a video: as in a Python slice, without negative numbers."""

    start: int | None
    stop: int | None
    stride: int


def box(text: str) -> list[float]:
    """Reads ``x1,y1,x2,y2``."""
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers X1,Y1,X2,Y2 are needed, not {text!r}") from None
    return [x1, y1, x2, y2]


def count(text: str) -> int:
    """Reads a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    """Reads a whole number from 0 on."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number from 0 on is needed, not {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Reads a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is needed, not {text!r}")
    return number


def positive(text: str, unit: str = "") -> float:
    """Reads a number above 0; the error names it with its unit, such as ``" of pixels"``."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number{unit} above 0 is needed, not {text!r}")
    return number


def pixels(text: str) -> float:
    """Reads a number of pixels above 0."""
    return positive(text, " of pixels")


def frame_range(text: str) -> FrameRange:
    """Reads ``START:STOP`` or ``START:STOP:STRIDE``, each part of which may be left out."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part == "" or (part.isascii() and part.isdigit()) for part in parts):
        raise argparse.ArgumentTypeError(f"START:STOP or START:STOP:STRIDE in frames is needed, not {text!r}")
    start, stop, stride = ([int(part) if part else None for part in parts] + [None])[:3]
    if stride == 0 or (stop is not None and stop <= (start or 0)):
        raise argparse.ArgumentTypeError(f"{text!r} holds no frames")
    return FrameRange(start, stop, 1 if stride is None else stride)
