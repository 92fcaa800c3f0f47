"""How long each form of a model takes, and how far its keypoints are from the reference's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wholepose.benchmarking.forms import Absent, Form
from wholepose.errors import WholeposeError
from wholepose.export.change import KeypointChange, keypoint_change
from wholepose.runtimes import CropPredictions, Runtime

ROUNDS = 3
"""Every form has so many turns, so that what else the machine does meanwhile meets them all."""


@dataclass(frozen=True)
class Timing:
    """What a form of a model takes.

    Attributes:
        form: The form.
        change: Its keypoints against the reference's.
        milliseconds: Median time of a crop in milliseconds, by batch size.
        spread: Interquartile range of the same, by batch size.
        processor: Least processor time of a crop in milliseconds, all threads together, by batch size. Other work on
            the machine changes it little. Threads that wait for the next call by spinning count too.
    """

    form: Form
    change: KeypointChange
    milliseconds: Mapping[int, float] = field(hash=False)
    spread: Mapping[int, float] = field(hash=False)
    processor: Mapping[int, float] = field(hash=False)


def time_forms(
    runtimes: Mapping[Form, Runtime],
    crops: NDArray[np.uint8],
    *,
    reference: Form,
    batch_sizes: Sequence[int],
    seconds: float,
    flip_test: bool = False,
    tell: Callable[[str], None] = lambda _what: None,
) -> tuple[list[Timing], list[Absent]]:
    """Times forms of a model in turns.

    Args:
        runtimes: The forms, loaded.
        crops: (N, H, W, 3) uint8 RGB; they are repeated where a batch is larger.
        reference: The form whose keypoints the others' are compared with.
        batch_sizes: How many crops a call has.
        seconds: How long to time each form and batch size; a call that takes longer is made once in every turn.
        flip_test: With the flip test.
        tell: Told what is being done.

    Returns:
        The timings in the order of the forms, and the forms that failed.

    Raises:
        WholeposeError: The reference itself fails.
    """
    tell(f"comparing keypoints with {reference.name}")
    expected = _predict(runtimes[reference], crops, flip_test)
    changes: dict[Form, KeypointChange] = {}
    failed = []
    for form, runtime in runtimes.items():
        try:
            changes[form] = keypoint_change(expected, _predict(runtime, crops, flip_test))
        except WholeposeError as error:
            failed.append(Absent(form.path, form.name, str(error)))
    times: dict[tuple[Form, int], list[float]] = {(form, size): [] for form in changes for size in batch_sizes}
    spent: dict[tuple[Form, int], list[float]] = {key: [] for key in times}
    for turn in range(ROUNDS):
        for size in batch_sizes:
            batch = crops[np.arange(size) % len(crops)]
            for form in changes:
                tell(f"turn {turn + 1} of {ROUNDS}: {form.name}, {size} a call")
                for took, processor in _turn(runtimes[form], batch, seconds / ROUNDS, flip_test):
                    times[form, size].append(took)
                    spent[form, size].append(processor)
    timings = [
        Timing(
            form,
            change,
            {size: statistics.median(times[form, size]) for size in batch_sizes},
            {size: _interquartile(times[form, size]) for size in batch_sizes},
            {size: min(spent[form, size]) for size in batch_sizes},
        )
        for form, change in changes.items()
    ]
    return timings, failed


def fastest(timings: Sequence[Timing], batch_size: int, max_change_px: float) -> Timing | None:
    """The form that takes the least time among those whose keypoints are near enough.

    Args:
        timings: All of them; forms that only a benchmark runs do not count.
        batch_size: Crops a call.
        max_change_px: Largest median distance from the reference's keypoints, crop pixels.
    """
    near = [each for each in timings if each.change.median_px <= max_change_px and not each.form.option]
    return min(near, key=lambda each: each.milliseconds[batch_size], default=None)


def _turn(runtime: Runtime, batch: NDArray[np.uint8], seconds: float, flip_test: bool) -> list[tuple[float, float]]:
    """Milliseconds and processor milliseconds a crop of each call; the first, which finds cold caches, is left out."""
    runtime.predict(batch, flip_test=flip_test)
    calls: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while not calls or time.perf_counter() < end:
        start, processor = time.perf_counter(), time.process_time()
        runtime.predict(batch, flip_test=flip_test)
        took, spent = time.perf_counter() - start, time.process_time() - processor
        calls.append((took * 1e3 / len(batch), spent * 1e3 / len(batch)))
    return calls


def _predict(runtime: Runtime, crops: NDArray[np.uint8], flip_test: bool) -> CropPredictions:
    parts = [runtime.predict(crops[start : start + 8], flip_test=flip_test) for start in range(0, len(crops), 8)]
    return CropPredictions.concatenate(parts)


def _interquartile(times: Sequence[float]) -> float:
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [0.0, 0.0, 0.0]
    return quartiles[2] - quartiles[0]
