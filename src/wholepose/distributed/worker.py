"""What runs on each worker: an estimator that turns one part after the other from sources into a Parquet file."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wholepose.boxes import check_person_boxes, whole_image_box
from wholepose.distributed.parts import PartFooter, PartPlan, PartWriter, open_part, read_footer
from wholepose.distributed.storage import NamedBytes, Source, Store, fetch_picture, local_copy
from wholepose.errors import ConfigError, ImageError, VideoError, require
from wholepose.estimator import PoseEstimator
from wholepose.images import load_image
from wholepose.images.read import DEFAULT_LIMITS
from wholepose.poses import Poses
from wholepose.smoothing import OneEuroSmoother
from wholepose.suppression import without_repeats
from wholepose.tracking import PoseTracker
from wholepose.video_pipeline import VideoPoses
from wholepose.videos import open_video

if TYPE_CHECKING:
    from wholepose.distributed.blame import Attempt

_READ_AHEAD = 8
_MAX_PICTURES = 8
_MAX_PIXELS = 40_000_000

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class DatasetOptions:
    """How a dataset is predicted; a folder holds results of one set of options.

    Attributes:
        flip_test: Average with the mirrored pictures.
        whole_image: One person fills each picture; else the estimator's detector is asked.
        max_people: Most people a picture, best boxes first; None is all.
        uncertainty: Write covariances.
        detect_every: In videos, look for people in every so many-th frame.
        track: In videos, number people.
        smooth: In videos, calm the motion.
    """

    flip_test: bool = False
    whole_image: bool = False
    max_people: int | None = None
    uncertainty: bool = False
    detect_every: int = 5
    track: bool = True
    smooth: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ConfigError: One is below 1.
        """
        for name in ("max_people", "detect_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")


class Ledger(Protocol):
    """How a worker talks to the ``BlameLedger``, which lives elsewhere."""

    def begin(self, part: str) -> Attempt:
        """See ``BlameLedger.begin``; so are the others."""
        ...

    def take(self, part: str, name: str) -> None:  # noqa: D102
        ...

    def put_back(self, part: str, name: str) -> None:  # noqa: D102
        ...

    def end(self, part: str) -> None:  # noqa: D102
        ...


@dataclass
class PartResult:
    """What became of a part.

    Attributes:
        sources: How many pictures and videos were looked at.
        pictures: Pictures done.
        videos: Videos done.
        frames: Their frames.
        people: People found.
        failures: What could not be read, and why, by name.
        seconds: How long it took.
    """

    sources: int = 0
    pictures: int = 0
    videos: int = 0
    frames: int = 0
    people: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class PartMaker:
    """Makes parts. One lives in each worker.

    Args:
        make_estimator: Called here, once, when the first part comes.
        options: How to predict.
        store: Where the sources are.
        folder: Where parts go.
        threads: Threads that decode pictures while the model runs; with 1, the caller's thread decodes them itself, and
            others only fetch what is not on this machine.
        ledger: Is told what is begun and finished.
    """

    def __init__(
        self,
        make_estimator: Callable[[], PoseEstimator],
        options: DatasetOptions,
        store: Store,
        folder: Store,
        threads: int,
        ledger: Ledger,
    ) -> None:
        self._make_estimator = make_estimator
        self._options = options
        self._store, self._folder = store, folder
        self._threads = threads
        self._ledger = ledger
        self._estimator: PoseEstimator | None = None

    @property
    def estimator(self) -> PoseEstimator:
        """The estimator; made when it is first asked for, so that what is wrong with it fails a part and is told.

        Raises:
            ConfigError: Nobody says who is in the pictures.
        """
        if self._estimator is None:
            made = self._make_estimator()
            if made.detector is None and not self._options.whole_image:
                raise ConfigError("the estimator has no person detector: give it one, or set whole_image=True")
            self._estimator = made
        return self._estimator

    def settings(self) -> dict[str, Any]:
        """What a part's footer says of how it was made, which must be the same in all parts of a folder."""
        detector = self.estimator.detector
        name = None if self._options.whole_image or detector is None else getattr(detector, "name", "own")
        threshold = None if name is None else getattr(detector, "threshold", None)
        return {**asdict(self._options), "detector": name, "threshold": threshold, "zoom": self.estimator.zoom}

    def make(self, plan: PartPlan) -> PartResult:
        """Makes a part, unless it is there already.

        Args:
            plan: What it is to hold.

        Returns:
            What became of it. A source that cannot be read is listed there, and is not in the part.

        Raises:
            WeightsError: The model fails.
            OSError: The part cannot be written.
        """
        started = time.perf_counter()
        if (before := self._find(plan)) is not None:
            return before
        attempt = self._ledger.begin(plan.name)
        result = PartResult(sources=len(plan.sources))
        footer = PartFooter(self.estimator.runtime.card.name, self.settings())
        sources = [source for source in plan.sources if source.name not in attempt.given_up]
        for name in sorted(attempt.given_up):
            result.failures[name] = f"{name}: given up: workers died over it, perhaps for want of memory"
        with (
            contextlib.suppress(_NothingDoneError),
            open_part(
                self._folder, plan.name, self.estimator.skeleton, uncertainty=self._options.uncertainty
            ) as writer,
        ):
            pictures = [source for source in sources if not source.is_video]
            if attempt.alone:
                for source in pictures:
                    with self._in_hand(plan, source):
                        self._predict_pictures([source], writer, footer, result)
            else:
                self._predict_pictures(pictures, writer, footer, result)
            for source in sources:
                if source.is_video:
                    with self._in_hand(plan, source) if attempt.alone else contextlib.nullcontext():
                        self._predict_video(source, writer, footer, result)
            if not footer.done:
                raise _NothingDoneError
            writer.finish(footer)
        self._ledger.end(plan.name)
        result.failures.update(footer.damaged)
        result.pictures, result.frames, result.people = footer.pictures, footer.frames, footer.people
        result.videos = len(footer.done) - footer.pictures
        result.seconds = time.perf_counter() - started
        return result

    def _find(self, plan: PartPlan) -> PartResult | None:
        """What a worker made of the part before it, or before its word of that, was lost."""
        fs = require("pyarrow.fs", "ray")
        info = self._folder.filesystem.get_file_info(f"{self._folder.path}/{plan.name}")
        if info.type == fs.FileType.NotFound:
            return None
        footer = read_footer(self._folder, plan.name)
        done = set(footer.done)
        failures = {
            source.name: f"{source.name}: could not be read" for source in plan.sources if source.name not in done
        }
        return PartResult(
            sources=len(plan.sources),
            pictures=footer.pictures,
            videos=len(footer.done) - footer.pictures,
            frames=footer.frames,
            people=footer.people,
            failures={**failures, **footer.damaged},
        )

    @contextlib.contextmanager
    def _in_hand(self, plan: PartPlan, source: Source) -> Iterator[None]:
        self._ledger.take(plan.name, source.name)
        yield
        self._ledger.put_back(plan.name, source.name)

    def _predict_pictures(
        self, sources: Sequence[Source], writer: PartWriter, footer: PartFooter, result: PartResult
    ) -> None:
        waiting: list[tuple[Source, Image]] = []

        def predict() -> None:
            images = [image for _, image in waiting]
            for (source, image), poses in zip(waiting, self._predict(images), strict=True):
                writer.write(source, (image.shape[0], image.shape[1]), poses)
                footer.done.append(source.name)
                footer.pictures += 1
                footer.people += len(poses)
            waiting.clear()

        for source, image in self._read(sources):
            if isinstance(image, ImageError):
                result.failures[source.name] = str(image)
                continue
            waiting.append((source, image))
            if (
                len(waiting) >= _MAX_PICTURES
                or sum(each.shape[0] * each.shape[1] for _, each in waiting) >= _MAX_PIXELS
            ):
                predict()
        if waiting:
            predict()

    def _read(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Image | ImageError]]:
        """Pictures in order, those that come next on their way meanwhile."""
        with contextlib.ExitStack() as stack:
            pending: Iterable[tuple[Source, Callable[[], Image]]]
            if len(sources) == 1 or (self._threads == 1 and self._store.is_local):
                pending = ((source, partial(self._load, source)) for source in sources)
            elif self._threads == 1:
                pool = stack.enter_context(ThreadPoolExecutor(_READ_AHEAD))
                fetched = _submitted(pool, self._fetch, sources)
                pending = ((source, partial(_decode, future)) for source, future in fetched)
            else:
                pool = stack.enter_context(ThreadPoolExecutor(self._threads))
                pending = ((source, future.result) for source, future in _submitted(pool, self._load, sources))
            for source, get in pending:
                image: Image | ImageError
                try:
                    image = get()
                except ImageError as error:
                    image = error
                yield source, image

    def _fetch(self, source: Source) -> NamedBytes | str:
        return fetch_picture(self._store, source, DEFAULT_LIMITS.max_bytes)

    def _load(self, source: Source) -> Image:
        return load_image(self._fetch(source))

    def _find_people(self, images: Sequence[Image]) -> list[tuple[Boxes, NDArray[np.float32]]]:
        detector = self.estimator.detector
        if self._options.whole_image or detector is None:
            boxes = [check_person_boxes(whole_image_box(image)) for image in images]
            return [(each, np.ones(len(each), np.float32)) for each in boxes]
        best = slice(self._options.max_people)
        return [(found.boxes[best], found.scores[best]) for found in detector.detect(images)]

    def _predict(self, images: Sequence[Image]) -> list[Poses]:
        found = self._find_people(images)
        poses = self.estimator.predict_batch(
            images, [boxes for boxes, _ in found], [scores for _, scores in found], flip_test=self._options.flip_test
        )
        return poses if self._options.whole_image else [without_repeats(each) for each in poses]

    def _predict_video(self, source: Source, writer: PartWriter, footer: PartFooter, result: PartResult) -> None:
        options = self._options
        frames = people = 0
        try:
            with (
                local_copy(self._store, source) as path,
                open_video(path) as reader,
                VideoPoses(
                    reader,
                    self._find_people,
                    partial(self.estimator.predict_batch, flip_test=options.flip_test),
                    detect_every=1 if options.whole_image else options.detect_every,
                    tracker=PoseTracker() if options.track else None,
                    smoother=OneEuroSmoother() if options.smooth else None,
                    keep_all=options.whole_image,
                ) as video,
            ):
                for frame, poses in video:
                    size = (frame.image.shape[0], frame.image.shape[1])
                    writer.write(source, size, poses, frame=frame.index, time_s=frame.time_s)
                    frames += 1
                    people += len(poses)
                lost = video.lost_frames
        except VideoError as error:
            if not frames:
                result.failures[source.name] = _named(source, error)
                return
            footer.damaged[source.name] = f"{_named(source, error)}; {frames} frames before that are done"
        else:
            if lost:
                footer.damaged[source.name] = f"{source.name}: {lost} frames of it cannot be read; {frames} are done"
        footer.done.append(source.name)
        footer.frames += frames
        footer.people += people


class _NothingDoneError(Exception):
    """No source of a part could be read: there is nothing to write."""


def _named(source: Source, error: Exception) -> str:
    """A message that names the source, also where what was read is a copy."""
    text = str(error)
    return text if source.name in text else f"{source.name}: {text.partition(': ')[2] or text}"


def _decode(fetched: Future[NamedBytes | str]) -> Image:
    return load_image(fetched.result())


def _submitted(
    pool: ThreadPoolExecutor, work: Callable[[Source], Any], sources: Iterable[Source]
) -> Iterator[tuple[Source, Future[Any]]]:
    """Hands work to a pool, never far ahead of who takes the results."""
    waiting: deque[tuple[Source, Future[Any]]] = deque()
    for source in sources:
        waiting.append((source, pool.submit(work, source)))
        if len(waiting) > _READ_AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
