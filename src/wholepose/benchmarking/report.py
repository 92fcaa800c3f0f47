"""A benchmark as a table and as a document, and the choice that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from wholepose.benchmarking.forms import Absent
from wholepose.benchmarking.timing import Timing, fastest
from wholepose.runtimes import Device
from wholepose.runtimes.choices import Choice, engine_versions, this_machine
from wholepose.weights import sha256_of


@dataclass(frozen=True)
class Benchmark:
    """Everything that a benchmark found.

    Attributes:
        command: The command line that repeats it.
        crops: What keypoints were compared on, in words.
        flip_test: Whether the flip test was on.
        max_change_px: Largest median change of keypoints that counts as the same answer, crop pixels.
        batch_sizes: Crops a call.
        timings: The reference's first.
        absent: What could not be run, and why.
        people: How many people the picture had whose stages were timed.
        stages: Median milliseconds of each step for that picture.
        stages_form: The form that inferred there.
    """

    command: str
    crops: str
    flip_test: bool
    max_change_px: float
    batch_sizes: Sequence[int]
    timings: Sequence[Timing]
    absent: Sequence[Absent]
    people: int
    stages: Mapping[str, float] = field(hash=False)
    stages_form: str


def choices_of(benchmark: Benchmark, device: Device, *, batch_size: int) -> list[Choice]:
    """What to run each file in, for each precision: the fastest form that answers as the reference does.

    Args:
        benchmark: The benchmark.
        device: What had been asked for.
        batch_size: The one that matters.
    """
    machine, versions = this_machine(), engine_versions()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    choices = []
    keys = sorted({(each.form.path, each.form.precision) for each in benchmark.timings})
    for path, precision in keys:
        same = [each for each in benchmark.timings if (each.form.path, each.form.precision) == (path, precision)]
        best = fastest(same, batch_size, benchmark.max_change_px)
        if best is not None:
            form = best.form
            took = round(best.milliseconds[batch_size], 3)
            known = (sha256_of(path), path.stat().st_size, device, precision, form.runtime, form.threads)
            choices.append(Choice(*known, took, now, machine, versions))
    return choices


def document_of(benchmark: Benchmark) -> dict[str, Any]:
    """The benchmark as JSON takes it."""
    rows = [
        {
            "file": each.form.path.name,
            "form": each.form.name,
            "threads": each.form.threads,
            "milliseconds_a_crop": {str(size): round(took, 3) for size, took in each.milliseconds.items()},
            "interquartile_range": {str(size): round(spread, 3) for size, spread in each.spread.items()},
            "processor_milliseconds_a_crop": {str(size): round(spent, 3) for size, spent in each.processor.items()},
            "change": asdict(each.change),
            "same_keypoints": each.change.median_px <= benchmark.max_change_px,
        }
        for each in benchmark.timings
    ]
    return {
        "command": benchmark.command,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": this_machine(),
        "versions": engine_versions(),
        "crops": benchmark.crops,
        "flip_test": benchmark.flip_test,
        "max_change_px": benchmark.max_change_px,
        "timings": rows,
        "fastest": {str(size): _name(benchmark, size) for size in benchmark.batch_sizes},
        "absent": [{"file": each.path.name, "form": each.name, "reason": each.reason} for each in benchmark.absent],
        "stages": {"people": benchmark.people, "form": benchmark.stages_form, "milliseconds": dict(benchmark.stages)},
    }


def table_of(benchmark: Benchmark) -> str:
    """The benchmark as text."""
    machine = this_machine()
    first = benchmark.timings[0]
    head = ["file", "runs on", "threads"]
    head += [f"ms, {size} a call" for size in benchmark.batch_sizes]
    rows = [[*head, "times as fast", "processor ms", "keypoints, px median / 95 %"]]
    smallest = benchmark.batch_sizes[0]
    for each in benchmark.timings:
        far = each.change.median_px > benchmark.max_change_px
        change = f"{each.change.median_px:.4f} / {each.change.p95_px:.3f}{' too far' if far else ''}"
        rows.append(
            [
                each.form.path.name,
                each.form.name,
                str(each.form.threads),
                *(f"{each.milliseconds[size]:.1f} ({each.spread[size]:.1f})" for size in benchmark.batch_sizes),
                f"{first.milliseconds[smallest] / each.milliseconds[smallest]:.2f}",
                f"{each.processor[smallest]:.1f}",
                "reference" if each is first else change,
            ]
        )
    processor = " and ".join(str(machine[key]) for key in ("cpu", "gpu") if machine[key])
    lines = [
        f"{processor}, {machine['cores']} cores; milliseconds a crop, median (interquartile range), and the "
        f"least time of all threads together; keypoints on "
        f"{benchmark.crops}{', flip test' if benchmark.flip_test else ''}",
        "",
        *_columns(rows),
        "",
    ]
    for size in benchmark.batch_sizes:
        lines.append(
            f"fastest at {size} a call with keypoints within {benchmark.max_change_px:g} px: {_name(benchmark, size)}"
        )
    lines += [f"not timed: {each.path.name}, {each.name}: {each.reason}" for each in benchmark.absent]
    total = sum(benchmark.stages.values())
    lines += ["", f"a picture of {benchmark.people} people by {benchmark.stages_form}, ms of {total:.1f}:"]
    lines += [f"  {name:<22}{took:8.1f}" for name, took in benchmark.stages.items()]
    return "\n".join(lines)


def _name(benchmark: Benchmark, size: int) -> str | None:
    """The fastest form, and those which the spread of the measurement does not tell apart from it."""
    best = fastest(benchmark.timings, size, benchmark.max_change_px)
    if best is None:
        return None
    noise = best.milliseconds[size] + best.spread[size]
    others = [each for each in benchmark.timings if each is not best and each.milliseconds[size] <= noise]
    near = [each for each in others if fastest([each], size, benchmark.max_change_px)]
    also = "".join(f"; within the spread of it: {_describe(each)}" for each in near)
    return f"{_describe(best)}{also}"


def _describe(timing: Timing) -> str:
    return f"{timing.form.path.name}, {timing.form.name}, {timing.form.threads} threads"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
