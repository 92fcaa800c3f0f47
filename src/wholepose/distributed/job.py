"""A job: lists the sources, leaves out what is done, and lets Ray Data spread the rest over workers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from wholepose.distributed.blame import Attempt, BlameLedger
from wholepose.distributed.parts import PartFooter, PartPlan, plan_parts, read_footers
from wholepose.distributed.storage import Source, Store, list_sources, open_store
from wholepose.distributed.worker import DatasetOptions, PartMaker, PartResult
from wholepose.errors import ConfigError, WholeposeError, require
from wholepose.estimator import PoseEstimator
from wholepose.runtimes.base import available_cores

PICTURES_PER_PART = 256
"""Most pictures in one part: some seconds to minutes of work, which is what the loss of a worker costs."""

_PARTS_PER_WORKER = 8  # at least, so that the workers end at about the same time
_MOST_BLOCKS = 10_000  # Ray Data plans each of them on one machine


@dataclass
class DatasetReport:
    """How far a job is, or how it ended.

    Attributes:
        sources: Pictures and videos that were named.
        skipped: Of those, done by an earlier job.
        pictures: Pictures done now.
        videos: Videos done now.
        frames: Their frames.
        people: People found now.
        failures: What could not be read, each with its name, also by earlier jobs where it is damaged.
        seconds: Since the workers were started.
        looked_at: Pictures and videos that are done now or have failed now.
    """

    sources: int
    skipped: int = 0
    pictures: int = 0
    videos: int = 0
    frames: int = 0
    people: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    looked_at: int = 0

    def add(self, result: PartResult) -> None:
        """Counts a part in."""
        self.pictures += result.pictures
        self.videos += result.videos
        self.frames += result.frames
        self.people += result.people
        self.failures.extend(result.failures.values())
        self.looked_at += result.sources


def predict_dataset(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    make_estimator: Callable[[], PoseEstimator],
    options: DatasetOptions | None = None,
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0,
    address: str | None = None,
    pictures_per_part: int = PICTURES_PER_PART,
    on_progress: Callable[[DatasetReport], None] | None = None,
) -> DatasetReport:
    """Finds the people of many pictures and videos, on many machines, and writes them as Parquet files.

    The results are a row a person (see ``wholepose.distributed.parts.part_schema``), in files ``part-*.parquet`` that
    each hold a group of pictures or one video, and are whole or absent. The call may be repeated: sources that are in
    a part already are left out, and those that failed are tried again. A worker that dies is replaced and its part made
    anew, under the same name, so that nothing is lost and nothing is there twice.

    Args:
        sources: Files, folders and patterns of this machine, or addresses such as ``s3://bucket/videos`` of files and
            folders, all on one file system that every worker reaches.
        out: Folder of the results, a path or an address.
        make_estimator: Called once in each worker, such as
            ``functools.partial(PoseEstimator.from_pretrained, threads=1)``. It is pickled, and files that it names must
            be where the workers run.
        options: How to predict.
        workers: How many; as many as the cluster has room for when None.
        threads: CPU threads of each worker, which it is given by Ray; tell ``make_estimator`` the same number.
        gpus: GPUs of each worker.
        address: Of a Ray cluster: ``"auto"`` on one of its machines, or ``"ray://HOST:10001"``. None starts Ray on this
            machine for the time of the call, unless this process is connected to Ray already.
        pictures_per_part: Most pictures in a part.
        on_progress: Called now and then with the report so far.

    Returns:
        What was done. Failures are in it, and do not end the job.

    Raises:
        ConfigError: Ray is not installed, the cluster is not there or too small, an address is not understood, nothing
            says who is in the pictures, or ``out`` holds results of another model or other options.
        AnnotationError: ``out`` holds files named like parts that are none.
        WeightsError: The model cannot be loaded, or fails.
        OSError: A part cannot be written.
    """
    ray = require("ray", "ray")
    require("ray.data", "ray")
    for name, number in (("workers", workers), ("threads", threads), ("pictures_per_part", pictures_per_part)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} must be at least 1, not {number}")
    names = [os.fspath(each) for each in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    folder = open_store(os.fspath(out))
    listing = list_sources(names)
    before = read_footers(folder)
    done = {name for footer in before.values() for name in footer.done}
    named = {source.name for source in listing.sources}
    report = DatasetReport(len(named), skipped=len(named & done))
    report.failures = [f"{name}: {reason}" for name, reason in listing.problems]
    report.failures += [text for footer in before.values() for name, text in footer.damaged.items() if name in named]
    if report.skipped == report.sources:
        return report
    with _connected(ray, address, workers, threads):
        workers = workers or _room(ray, threads, gpus)
        wanted = -(-len(listing.sources) // (workers * _PARTS_PER_WORKER))
        plans = plan_parts(listing.sources, done, max(1, min(pictures_per_part, wanted)))
        ledger = ray.remote(num_cpus=0)(BlameLedger).remote()
        how = (make_estimator, options or DatasetOptions(), listing.store, folder, threads, ledger, _known(before))
        started = time.perf_counter()
        for result in _results(ray, plans, how, workers, threads, gpus):
            report.add(result)
            report.seconds = time.perf_counter() - started
            if on_progress is not None:
                on_progress(report)
    return report


def _known(footers: Mapping[str, PartFooter]) -> tuple[str, dict[str, Any]] | None:
    """Model and options of the parts that are there already."""
    first = next(iter(footers.values()), None)
    return None if first is None else (first.model, dict(first.settings))


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, workers: int | None, threads: int) -> Iterator[None]:
    """Connects to Ray, or starts it, for the time of the block, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local Ray would send statistics to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it calls every pool of workers that restart an error
    how: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        cores = available_cores() if workers is None else workers * threads
        how |= {"num_cpus": cores, "include_dashboard": False}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **how)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Ray at {address or 'this machine'} does not answer: {_first_line(error)}") from error
    if threading.current_thread() is threading.main_thread() and on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put in its own, which ends the process there and then
    try:
        yield
    finally:
        ray.shutdown()


def _room(ray: Any, threads: int, gpus: float) -> int:
    """How many workers the cluster has room for now; a cluster that grows adds none to them."""
    resources = ray.cluster_resources()
    room = int(resources.get("CPU", 0) // threads)
    if gpus:
        room = min(room, int(resources.get("GPU", 0) / gpus))
    if room < 1:
        wanted = f"{threads} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        has = f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
        raise ConfigError(f"a worker needs {wanted}, and the Ray cluster has {has}")
    return room


def _results(
    ray: Any, plans: Sequence[PartPlan], how: tuple[Any, ...], workers: int, threads: int, gpus: float
) -> Iterator[PartResult]:
    """Lets Ray Data make parts on a pool of workers; gives the result of each as it comes."""
    # A line of JSON rather than columns: Arrow has no text for file names that are not UTF-8.
    rows = [{"plan": json.dumps([plan.name, plan.sources])} for plan in plans]

    class Worker(RayWorker):
        def __init__(self) -> None:
            super().__init__(*how)

    try:
        with _quiet(ray):
            made = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map_batches(
                Worker,
                batch_size=1,
                num_cpus=threads,
                num_gpus=gpus or None,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            )
            for row in made.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                yield PartResult(**json.loads(row["result"]))
    except ray.exceptions.RayError as error:
        raise WholeposeError(f"the Ray job failed: {_last_line(error)}") from error


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Keeps Ray Data from showing its own progress for the time of the block."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before, level = (context.enable_progress_bars, context.print_on_execution_start), logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.CRITICAL)  # what is an error comes out as an exception
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        logger.setLevel(level)


class RayWorker:
    """A ``PartMaker`` in an actor of Ray Data."""

    def __init__(
        self,
        make_estimator: Callable[[], PoseEstimator],
        options: DatasetOptions,
        store: Store,
        folder: Store,
        threads: int,
        ledger: Any,
        known: tuple[str, dict[str, Any]] | None,
    ) -> None:
        self._maker = PartMaker(make_estimator, options, store, folder, threads, _RemoteLedger(ledger))
        self._known = known
        self._out = folder.address(folder.path)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Makes the part of a batch; answers with its result as JSON, or with what is wrong with the job, pickled."""
        (text,) = batch["plan"]
        name, sources = json.loads(text)
        try:
            self._check()
            result = self._maker.make(PartPlan(name, tuple(Source(*each) for each in sources)))
        except (WholeposeError, OSError) as error:  # Ray would wrap it so that its type is lost
            return {"result": [""], "error": [pickle.dumps(error)]}
        return {"result": [json.dumps(asdict(result))], "error": [b""]}

    def _check(self) -> None:
        """Raises ConfigError where the folder holds results that were made otherwise."""
        if self._known is None:
            return
        model, settings = self._known
        now = self._maker.estimator.runtime.card.name, self._maker.settings()
        settings = {**now[1], **settings}  # earlier versions noted fewer
        if now != (model, settings):
            differing = [f"{key} {settings.get(key)!r}" for key, value in now[1].items() if settings.get(key) != value]
            if now[0] != model:
                differing.insert(0, f"model {model!r}")
            raise ConfigError(
                f"{self._out}: holds results made with {', '.join(differing)}, unlike these; choose another folder"
            )
        self._known = None


class _RemoteLedger:
    """The ledger as its actor's handle gives it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._get = require("ray", "ray").get

    def begin(self, part: str) -> Attempt:
        attempt: Attempt = self._get(self._handle.begin.remote(part))
        return attempt

    def take(self, part: str, name: str) -> None:
        self._get(self._handle.take.remote(part, name))  # waits: it must be noted before the file is opened

    def put_back(self, part: str, name: str) -> None:
        self._handle.put_back.remote(part, name)

    def end(self, part: str) -> None:
        self._handle.end.remote(part)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _last_line(error: BaseException) -> str:
    """Of what Ray says, which begins with where it happened and ends with what."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
