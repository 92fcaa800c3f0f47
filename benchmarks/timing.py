"""One row of a table of times, and how it is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    stage: str
    milliseconds: float
    spread: float
    reference: str


def measure(run: Callable[[], object], *, seconds: float = 1.0, per_call: int = 1) -> tuple[float, float]:
    """Median and interquartile range of one unit of work, in milliseconds."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3 / per_call)
    quartiles = statistics.quantiles(times, n=4)
    return statistics.median(times), quartiles[2] - quartiles[0]
