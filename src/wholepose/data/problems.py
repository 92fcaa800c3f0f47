"""Collects what is wrong with a file, so that a reader hears of twenty faults at once and not of one at a time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wholepose.errors import AnnotationError

SHOWN = 20
"""How many problems a message lists; the rest are counted."""


class Problems:
    """The faults found in one file so far.

    Attributes:
        path: The file they were found in.
        lines: The first ``SHOWN`` faults, one line each, naming the entry, its id and the field.
        count: How many there are in all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.count = 0

    def add(self, entry: str, field: str, message: str) -> None:
        """Notes one fault.

        Args:
            entry: What it is in, such as ``"annotation 7 (id 900)"``.
            field: The field's name.
            message: What is wrong and what was expected.
        """
        self.count += 1
        if len(self.lines) < SHOWN:
            self.lines.append(f"{entry}: {field}: {message}")

    def check(self) -> None:
        """Raises what was found.

        Raises:
            AnnotationError: There was at least one fault; the message lists the first twenty.
        """
        if self.count:
            first = f", the first {len(self.lines)}" if self.count > len(self.lines) else ""
            title = f"{self.path}: {self.count} problem{'s' * (self.count != 1)}{first}:"
            raise AnnotationError("\n  ".join([title, *self.lines]))


def show(value: object) -> str:
    """A value as a message shows it: its Python notation, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def number(
    row: Mapping[str, Any], field: str, entry: str, problems: Problems, *, minimum: float = -math.inf
) -> float | None:
    """Reads a finite number, or notes why there is none and returns None."""
    value = row.get(field)
    if field not in row:
        problems.add(entry, field, "missing")
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.add(entry, field, f"must be a number, not {show(value)}")
    elif not abs(value) <= 1e15:  # a NaN fails this too, and so does an integer too large for a float
        problems.add(entry, field, f"must be finite, not {show(value)}")
    elif value < minimum:
        problems.add(entry, field, f"must be at least {minimum:g}, not {show(value)}")
    else:
        return float(value)
    return None


def integer(
    row: Mapping[str, Any], field: str, entry: str, problems: Problems, *, minimum: float = -math.inf
) -> int | None:
    """Reads a whole number (2.0 is one), or notes why there is none and returns None."""
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool) and max(minimum, -(2**63)) <= value < 2**63:
        return value  # exact above 2**53, where identifiers made of hashes lie
    read = number(row, field, entry, problems, minimum=minimum)
    if read is not None and not read.is_integer():
        problems.add(entry, field, f"must be a whole number, not {show(value)}")
        return None
    return None if read is None else int(read)


def numbers(row: Mapping[str, Any], field: str, length: int, entry: str, problems: Problems) -> Sequence[float] | None:
    """Reads a list of ``length`` finite numbers, or notes why there is none and returns None."""
    values = row.get(field)
    if field not in row:
        problems.add(entry, field, "missing")
    elif not isinstance(values, (list, array)):
        problems.add(entry, field, f"must be a list of {length} numbers, not {show(values)}")
    elif len(values) != length:
        problems.add(entry, field, f"holds {len(values)} values, expected {length}")
    else:
        for position, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e15:
                problems.add(entry, f"{field}[{position}]", f"must be a finite number, not {show(value)}")
                return None
        result: Sequence[float] = values
        return result
    return None
