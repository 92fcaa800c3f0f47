"""A benchmark from end to end: what can run, how fast, how near, and where a picture's time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.benchmarking.forms import Absent, Form, forms_of, load_forms
from wholepose.benchmarking.report import Benchmark
from wholepose.benchmarking.stages import time_stages
from wholepose.benchmarking.timing import Timing, fastest, time_forms
from wholepose.detectors import load_detector
from wholepose.errors import ConfigError
from wholepose.runtimes import Device
from wholepose.weights import read_card


def run_benchmark(
    paths: Sequence[Path],
    crops: NDArray[np.uint8],
    photo: bytes,
    *,
    source: str,
    command: str = "",
    device: Device = "auto",
    threads: int | None = None,
    batch_sizes: Sequence[int] = (1, 8),
    seconds: float = 2.0,
    max_change_px: float = 0.05,
    flip_test: bool = False,
    compiled: bool = False,
    tell: Callable[[str], None] = lambda _what: None,
) -> Benchmark:
    """Times a model in every engine that is installed here.

    Args:
        paths: Files of one model; the first one in plain float32 is the reference.
        crops: (N, H, W, 3) uint8 RGB to compare keypoints on and to time with.
        photo: A picture's file, whose way to a drawing is timed step by step.
        source: What the crops are, in words.
        command: The command line that repeats it.
        device: ``"auto"`` is the CPU, and an NVIDIA GPU where an engine finds one.
        threads: CPU threads; None is all cores, and half of them for the fastest form.
        batch_sizes: Crops a call, rising.
        seconds: How long to time each form and batch size.
        max_change_px: Largest median change of keypoints that counts as the same answer, crop pixels.
        flip_test: With the flip test.
        compiled: Time PyTorch's compiler too.
        tell: Told what is being done.

    Returns:
        What was found.

    Raises:
        ConfigError: The files are of different models, or nothing here runs them.
        WholeposeError: The reference fails, or a file or the picture cannot be read.
    """
    check_same_model(paths)
    forms: list[Form] = []
    absent: list[Absent] = []
    for path in dict.fromkeys(paths):
        some, missing = forms_of(path, device=device, threads=threads, compiled=compiled)
        forms, absent = forms + some, absent + missing
    if not any(path.suffix.lower() == ".onnx" for path in paths):
        absent.append(Absent(paths[0], "onnx, openvino", "write an .onnx with `wholepose export`, and give both"))
    tell(f"loading {len(forms)} forms")
    loaded, failed = load_forms(forms)
    absent += failed
    if not loaded:
        raise ConfigError("nothing here can run this: " + "; ".join(f"{each.name}: {each.reason}" for each in absent))
    reference = reference_of(list(loaded))
    if reference.int8:
        tell(f"no form in plain float32: changes are told against {reference.name}")
    loaded = {reference: loaded[reference], **loaded}  # first in every table

    def time_some(some: Sequence[Form]) -> list[Timing]:
        runtimes = {form: loaded[form] for form in some}
        timings, failed = time_forms(
            runtimes,
            crops,
            reference=reference,
            batch_sizes=batch_sizes,
            seconds=seconds,
            flip_test=flip_test,
            tell=tell,
        )
        absent.extend(failed)
        return timings

    timings = time_some(list(loaded))
    half = _with_half_the_threads(timings, batch_sizes[0], max_change_px) if threads is None else None
    if half is not None:
        more, failed = load_forms([half])
        absent += failed
        loaded |= more
        timings += [each for each in time_some([reference, *more]) if each.form == half]
    best = fastest(timings, batch_sizes[0], max_change_px) or timings[0]
    tell("timing the steps of a picture")
    detector = load_detector("default", threads=threads)
    stages, people = time_stages(photo, loaded[best.form], detector, seconds=seconds / 2, flip_test=flip_test)
    tell("")
    return Benchmark(
        command=command,
        crops=source,
        flip_test=flip_test,
        max_change_px=max_change_px,
        batch_sizes=batch_sizes,
        timings=timings,
        absent=absent,
        people=people,
        stages=stages,
        stages_form=best.form.name,
    )


def reference_of(forms: Sequence[Form]) -> Form:
    """The form that the others are compared with: the first in plain float32, or of all where none is."""
    return next((form for form in forms if form.precision == "fp32" and not form.int8 and not form.option), forms[0])


def check_same_model(paths: Sequence[Path]) -> None:
    """Raises ConfigError where files cannot be forms of one model: their crops or their keypoints differ."""
    cards = [read_card(path) for path in paths]
    for path, card in zip(paths, cards, strict=True):
        if (card.input_size, card.skeleton) != (cards[0].input_size, cards[0].skeleton):
            raise ConfigError(f"{path}: is another model than {paths[0]}: input size and skeleton must be the same")


def _with_half_the_threads(timings: Sequence[Timing], batch_size: int, max_change_px: float) -> Form | None:
    """The fastest form on the CPU with half the threads: as many as cores, where a core counts as two."""
    best = fastest([each for each in timings if each.form.device == "cpu"], batch_size, max_change_px)
    return replace(best.form, threads=best.form.threads // 2) if best is not None and best.form.threads > 1 else None
