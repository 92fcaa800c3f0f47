"""``wholepose predict --engine ray``: the same on many machines, from any file system, to Parquet."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholepose.cli.predict_report import Report, plural
from wholepose.cli.words import count
from wholepose.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wholepose.distributed import DatasetReport
    from wholepose.estimator import PoseEstimator

_NOT_WITH_RAY = {
    "format": "the results are Parquet files",
    "draw": "nothing is drawn",
    "black": "nothing is drawn",
    "trails": "nothing is drawn",
    "draw_threshold": "nothing is drawn",
    "boxes": "only a detector or --whole-image says who is in the picture",
    "box": "only a detector or --whole-image says who is in the picture",
    "annotations": "only a detector or --whole-image says who is in the picture",
    "smooth_ahead": "videos are smoothed as they run, with --smooth",
    "show": "there is no window",
    "frames": "videos are predicted from beginning to end",
}
_SAY_EVERY_S = 30.0  # where there is no terminal to draw a bar on


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose and describe the engine."""
    engine = parser.add_argument_group("many machines")
    engine.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="'ray': on a Ray cluster, or with several workers here; INPUT and --out may be addresses such as "
        "s3://bucket/folder, results are Parquet files; needs the [ray] extra",
    )
    engine.add_argument("--workers", type=count, metavar="N", help="with ray; default: as many as there is room for")
    engine.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a Ray cluster: 'auto' or ray://HOST:10001; default: this machine",
    )


def out_folder(text: str) -> Path | str:
    """Reads ``--out``: a path, or an address, which a path would not keep."""
    return text if "://" in text else Path(text)


def check_engine(options: argparse.Namespace) -> None:
    """Raises ConfigError where options do not go with the engine."""
    if options.engine == "ray":
        for name, why in _NOT_WITH_RAY.items():
            if getattr(options, name) not in (None, False, "json"):
                raise ConfigError(f"--{name.replace('_', '-')} does not go with --engine ray: {why}")
        if options.out is None:
            raise ConfigError("--engine ray writes files: say where with --out DIR or --out ADDRESS")
        return
    for name in ("workers", "address"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name} goes with --engine ray")
    if isinstance(options.out, str):
        raise ConfigError(f"--out {options.out}: only --engine ray writes to addresses")


def predict_on_ray(options: argparse.Namespace, check_model: Callable[[], object]) -> int:
    """Predicts all inputs with Ray.

    Args:
        options: As ``wholepose predict`` defines them.
        check_model: Raises where ``--model`` is not to be had.

    Returns:
        0 if every input was predicted, else 1.

    Raises:
        ConfigError: Ray is not installed or does not answer, or options contradict each other.
        WholeposeError: The weights cannot be used.
        OSError: Results cannot be written.
    """
    from wholepose.distributed import DatasetOptions, predict_dataset

    check_model()
    started = time.perf_counter()
    threads = options.threads or 1
    report = Report(quiet=options.quiet, failures=[])
    progress = _Progress(options.quiet)
    try:
        done = predict_dataset(
            options.inputs,
            options.out,
            make_estimator=functools.partial(
                make_estimator,
                _absolute(options.model),
                None if options.whole_image else _absolute(options.detector or "default"),
                threshold=options.threshold,
                runtime=options.runtime,
                device=options.device,
                precision=options.precision,
                threads=threads,
                batch_size=options.batch_size,
                zoom=options.zoom,
                offline=True if options.offline else None,
            ),
            options=DatasetOptions(
                flip_test=options.flip_test,
                whole_image=options.whole_image,
                max_people=options.max_people,
                uncertainty=options.uncertainty,
                detect_every=options.detect_every or 5,
                track=not options.no_track,
                smooth=options.smooth,
            ),
            workers=options.workers,
            threads=threads,
            gpus=1 if options.device == "cuda" else 0,
            address=options.address,
            on_progress=progress.show,
        )
        report.failures = done.failures
    finally:
        progress.close()
        report.list_failures()
    report.pictures, report.videos, report.frames, report.people = done.pictures, done.videos, done.frames, done.people
    earlier = f", {plural(done.skipped, 'input')} done before" if done.skipped else ""
    report.say(f"{report.summary()}{earlier}, {time.perf_counter() - started:.1f} s -> {options.out}")
    return 1 if report.failures else 0


def make_estimator(model: str, detector: str | None, *, threshold: float | None, **how: Any) -> PoseEstimator:
    """Makes a worker's estimator, where the worker runs."""
    from wholepose.detectors import load_detector
    from wholepose.estimator import PoseEstimator

    finder = None
    if detector is not None:
        finder = load_detector(
            detector, threshold=threshold, device=how["device"], threads=how["threads"], offline=how["offline"]
        )
    return PoseEstimator.from_pretrained(model, detector=finder, **how)


def _absolute(name: str) -> str:
    """A path that means the same in a worker, whose folder is another; what is no path stays a name."""
    from wholepose.weights import embedded_models, find_entry

    is_name = name == "default" or name in embedded_models() or find_entry(name) is not None
    return os.path.abspath(name) if not is_name and Path(name).exists() else name  # noqa: PTH100 - a link keeps its own name


class _Progress:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._said = time.perf_counter()

    def show(self, report: DatasetReport) -> None:
        if self._quiet:
            return
        rate = f"{(report.pictures + report.frames) / max(report.seconds, 1e-9):.1f} pictures and frames/s"
        total = report.sources - report.skipped
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None:
                self._bar = tqdm(total=total, unit=" inputs", file=sys.stderr, leave=False)
            self._bar.set_postfix_str(rate, refresh=False)
            self._bar.update(report.looked_at - self._bar.n)
        elif time.perf_counter() - self._said > _SAY_EVERY_S:
            self._said = time.perf_counter()
            print(f"{report.looked_at:,} of {total:,} inputs, {rate}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
