"""Finds the people in pictures and writes 136 keypoints for each.

INPUT is a picture, a folder, or a pattern such as 'photos/**/*.jpg'. With --out, each picture gets a JSON document
there, named after it; without, the documents go to stdout, one a line.
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wholepose.cli.predict_inputs import People, Picture, name_pictures, read_ahead
from wholepose.cli.predict_outputs import CocoWriter, DocumentWriter, Drawer, Writer, coco_image_ids
from wholepose.errors import ConfigError, ImageError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wholepose.estimator import PoseEstimator
    from wholepose.poses import Poses

_EPILOG = """\
examples:
  wholepose predict photo.jpg --out out/ --draw
  wholepose predict portrait.jpg --whole-image --out out/
  wholepose predict photos/ more/*.png --out out/ --flip-test
  wholepose predict photo.jpg --box 40,10,300,620 --box=-20,0,110,400 > people.json
  wholepose predict val2017/ --boxes detections.json --annotations halpe_val_v1.json --format coco --out out/

where results go (--out DIR):
  DIR/photo.json          the document of photo.jpg; DIR/photo_poses.jpg its drawing (--draw)
  DIR/a/photo.json        where a/photo.jpg and b/photo.jpg are both predicted
  DIR/photo.jpg.json      where photo.jpg and photo.png are both predicted
  DIR/coco_results.json   with --format coco, all people; DIR/coco_images.json says which id is which file

exit codes: 0 all done, 1 some inputs failed (each listed), 2 bad usage, 130 or 143 interrupted
"""

# A batch of pictures is predicted when it has enough people for the model, or one of these is reached.
_MAX_PICTURES = 8
_MAX_PIXELS = 40_000_000

# Errors in writing that every other picture would meet too.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose predict``."""
    parser.epilog = _EPILOG
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or pattern; several are fine")
    results = parser.add_argument_group("results")
    results.add_argument("--out", type=Path, metavar="DIR", help="folder for the results; made if missing")
    results.add_argument("--format", choices=("json", "coco"), default="json", help="default: json")
    results.add_argument("--uncertainty", action="store_true", help="write each keypoint's covariance too (json)")
    results.add_argument("--draw", action="store_true", help="also write the pictures with the poses drawn")
    results.add_argument(
        "--draw-threshold", type=_fraction, metavar="S", help="draw keypoints that score above this; default: 0.3"
    )
    people = parser.add_argument_group("who is in the picture (one of these)")
    people.add_argument(
        "--detector", metavar="SPEC", help="'default', a YOLOX or RTMDet .onnx, or 'rtdetr[:FOLDER]'; default: default"
    )
    people.add_argument("--boxes", type=Path, metavar="FILE", help="boxes from COCO results (.json) or a table (.csv)")
    people.add_argument(
        "--box", action="append", type=_box, metavar="X1,Y1,X2,Y2", help="a box in pixels, in every picture; repeatable"
    )
    people.add_argument("--whole-image", action="store_true", help="one person fills each picture, as in a portrait")
    people.add_argument("--threshold", type=_fraction, metavar="S", help="smallest box score of a person")
    people.add_argument("--max-people", type=_count, metavar="N", help="keep the N best boxes of a picture")
    people.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO JSON that says which image id is which file"
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="default", metavar="NAME|PATH", help="default: the one inside the package")
    model.add_argument("--flip-test", action="store_true", help="average with the mirrored picture: slower, better")
    model.add_argument("--batch-size", type=_count, default=16, metavar="N", help="most people at once; default: 16")
    model.add_argument("--runtime", choices=("auto", "onnx", "torch"), default="auto", help="default: by the file")
    model.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: fp32")
    model.add_argument("--threads", type=_count, metavar="N", help="CPU threads; default: all cores")
    model.add_argument("--offline", action="store_true", help="never download weights")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no messages but failures")


def run(options: argparse.Namespace) -> int:
    """Predicts all inputs.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0 if every input was predicted, else 1.

    Raises:
        ConfigError: Options contradict each other.
        WholeposeError: The weights or a file of boxes cannot be used.
        OSError: Results cannot be written.
    """
    started = time.perf_counter()
    _check_options(options)
    from wholepose.images import find_images, printable_path

    found = find_images(options.inputs)
    pictures = name_pictures(found.paths)
    report = _Report(
        quiet=options.quiet, failures=[f"{printable_path(name)}: {reason}" for name, reason in found.problems]
    )
    for folder in found.empty_folders:
        report.say(f"{printable_path(folder)}: no pictures in this folder")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    try:
        if pictures:
            _predict_pictures(options, pictures, report)
    finally:  # also when interrupted
        report.list_failures()
    where = f" -> {options.out}/" if options.out is not None else ""
    report.say(
        f"{_plural(report.pictures, 'picture')}, {_plural(report.people, 'person', 'people')}, "
        f"{time.perf_counter() - started:.1f} s{where}"
    )
    return 1 if report.failures else 0


def _check_options(options: argparse.Namespace) -> None:
    """Raises ConfigError where options contradict each other."""
    sources = {
        "--detector": options.detector is not None,
        "--boxes": options.boxes is not None,
        "--box": options.box is not None,
        "--whole-image": options.whole_image,
    }
    chosen = [name for name, given in sources.items() if given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} both say who is in the picture; give one of them")
    if chosen and chosen[0] in ("--box", "--whole-image"):
        for name in ("threshold", "max_people"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} chooses among detections, and {chosen[0]} makes none")
    if options.annotations is not None and options.format != "coco" and options.boxes is None:
        raise ConfigError("--annotations goes with --boxes FILE.json or with --format coco")
    if options.out is None:
        for name, given in (("--draw", options.draw), ("--format coco", options.format == "coco")):
            if given:
                raise ConfigError(f"{name} writes files: say where with --out DIR")
    elif options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file, and a folder is needed")
    if options.draw_threshold is not None and not options.draw:
        raise ConfigError("--draw-threshold goes with --draw")
    if options.uncertainty and options.format == "coco":
        raise ConfigError("--uncertainty goes with --format json: COCO results have no place for it")


def _predict_pictures(options: argparse.Namespace, pictures: list[Picture], report: _Report) -> None:
    """Loads what the options ask for and sends all pictures through it."""
    from tqdm import tqdm

    from wholepose.estimator import PoseEstimator

    people = _people(options)
    estimator = PoseEstimator.from_pretrained(
        _weights(options.model, offline=True if options.offline else None),
        detector=None,
        runtime=options.runtime,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        batch_size=options.batch_size,
    )
    writer: Writer
    if options.format == "coco":
        writer = CocoWriter(options.out, coco_image_ids(pictures, options.annotations))
    else:
        writer = DocumentWriter(options.out, estimator.runtime.card.name, uncertainty=options.uncertainty)
    drawer = None
    if options.draw:
        threshold = 0.3 if options.draw_threshold is None else options.draw_threshold
        drawer = Drawer(options.out, pictures, threshold)

    hidden = options.quiet or not sys.stderr.isatty()
    with tqdm(total=len(pictures), unit=" pictures", file=sys.stderr, disable=hidden, leave=False) as bar:
        batch = _Batch(estimator, options.flip_test)
        for picture, image in read_ahead(pictures):
            if isinstance(image, Exception):
                report.fail(str(image))
                bar.update()
                continue
            try:
                boxes, scores = people.find(picture, image)
            except ValueError as error:
                report.fail(f"{picture.image_name}: {error}")
                bar.update()
                continue
            batch.add(picture, image, boxes, scores)
            if batch.is_full():
                _write_batch(batch, writer, drawer, people, report, bar.update)
        _write_batch(batch, writer, drawer, people, report, bar.update)
    writer.finish()


def _weights(name: str, *, offline: bool | None) -> Path:
    """Path of the model's file; a name that means nothing is bad usage, weights that cannot be had are a failure."""
    from wholepose.weights import embedded_models, find_entry, resolve

    try:
        return resolve(name, offline=offline)
    except WeightsError as error:
        if name in embedded_models() or find_entry(name) is not None or Path(name).exists():
            raise
        raise ConfigError(f"--model: {error}") from error


def _people(options: argparse.Namespace) -> People:
    """Where the boxes come from, by the options."""
    from wholepose.detectors import load_detector
    from wholepose.estimator import check_person_boxes

    if options.whole_image:
        return People(whole_image=True)
    if options.box is not None:
        try:
            return People(boxes=check_person_boxes(options.box))
        except ValueError as error:
            raise ConfigError(f"--box: {error}") from error
    detector = load_detector(
        options.boxes or options.detector or "default",
        threshold=options.threshold,
        images=options.annotations if options.boxes is not None else None,
        device=options.device,
        threads=options.threads,
    )
    return People(detector, max_people=options.max_people)


class _Batch:
    """Pictures that wait for the model until they hold enough people for it."""

    def __init__(self, estimator: PoseEstimator, flip_test: bool) -> None:
        self._estimator = estimator
        self._flip_test = flip_test
        self._clear()

    def _clear(self) -> None:
        self.pictures: list[Picture] = []
        self.images: list[NDArray[np.uint8]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(
        self, picture: Picture, image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> None:
        self.pictures.append(picture)
        self.images.append(image)
        self._boxes.append(boxes)
        self._scores.append(scores)

    def is_full(self) -> bool:
        return (
            sum(map(len, self._boxes)) >= self._estimator.batch_size
            or len(self.images) >= _MAX_PICTURES
            or sum(image.shape[0] * image.shape[1] for image in self.images) >= _MAX_PIXELS
        )

    def predict(self) -> list[tuple[Picture, NDArray[np.uint8], Poses]]:
        """Predicts what waits, and forgets it."""
        poses = self._estimator.predict_batch(self.images, self._boxes, self._scores, flip_test=self._flip_test)
        done = list(zip(self.pictures, self.images, poses, strict=True))
        self._clear()
        return done


def _write_batch(
    batch: _Batch,
    writer: Writer,
    drawer: Drawer | None,
    people: People,
    report: _Report,
    advance: Callable[[], object],
) -> None:
    """Predicts a batch and writes the results of each of its pictures."""
    for picture, image, poses in batch.predict():
        try:
            writer.write(picture, (image.shape[0], image.shape[1]), poses)
            if drawer is not None:
                drawer.draw(picture, image, poses)
        except (ImageError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _HOPELESS:
                raise
            if isinstance(error, OSError):
                report.fail(f"{picture.image_name}: cannot write {error.filename or 'its result'} ({error.strerror})")
            else:
                report.fail(str(error))
        else:
            report.pictures += 1
            report.people += len(poses)
            if not len(poses):
                report.nobody(picture, asked_detector=people.detector is not None)
        advance()


@dataclass
class _Report:
    """What is said on stderr."""

    quiet: bool
    failures: list[str]
    pictures: int = 0
    people: int = 0
    _hinted: bool = False

    def say(self, message: str) -> None:
        if not self.quiet:
            _print(message)

    def fail(self, message: str) -> None:
        self.failures.append(message)

    def nobody(self, picture: Picture, *, asked_detector: bool) -> None:
        hint = "" if self._hinted or not asked_detector else " (if one person fills it, try --whole-image)"
        self._hinted = True
        self.say(f"{picture.image_name}: nobody found{hint}")

    def list_failures(self) -> None:
        if self.failures:
            _print(f"{_plural(len(self.failures), 'input')} failed:")
            for failure in self.failures:
                _print(f"  {failure}")


def _print(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)  # above the progress bar


def _plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _box(text: str) -> list[float]:
    """Reads ``x1,y1,x2,y2``."""
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers X1,Y1,X2,Y2 are needed, not {text!r}") from None
    return [x1, y1, x2, y2]


def _count(text: str) -> int:
    """Reads a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")
    return int(text)


def _fraction(text: str) -> float:
    """Reads a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is needed, not {text!r}")
    return number
