"""Scores a model, or a COCO results file, against annotations.

AP and AR of the whole person and of body, feet, face and hands, PCK, NME and pixel errors, what kind of error each
keypoint is, and whether scores mean what they say; with 95 % intervals over images. The table goes to stdout. With
--out also report.json, report.html (one page, with photos of the people evaluated) and the model's results.json.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholepose.cli.words import fraction
from wholepose.errors import ConfigError

if TYPE_CHECKING:
    from wholepose.data.annotations import AnnotationSet
    from wholepose.detectors import PersonDetector
    from wholepose.evaluation.report import Settings
    from wholepose.evaluation.workflow import Evaluation

_EPILOG = """\
examples:
  wholepose evaluate --model default --data halpe_val_v1.json --images val2017/ --boxes gt --out report/
  wholepose evaluate --model w48.safetensors --data halpe_val_v1.json --images val2017/ \\
      --boxes COCO_val2017_detections_AP_H_56_person.json --protocol mmpose0 --flip-test --out report/
  wholepose evaluate --results mine.json --data person_keypoints_val2017.json --out report/
  wholepose evaluate --task boxes --data person_keypoints_val2017.json --images val2017/ --out report/
  wholepose evaluate --task boxes --boxes detections.json --threshold 0.5 --data person_keypoints_val2017.json

exit codes: 0 all done, 1 an input is unusable or an image could not be read (each listed), 2 bad usage,
130 or 143 interrupted
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose evaluate``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--task",
        choices=("keypoints", "boxes"),
        default="keypoints",
        help="boxes: AP and AR of the person detector, and what it makes up where nobody is; default: keypoints",
    )
    what = parser.add_argument_group("what to score (one of these; with --task boxes neither, but --boxes)")
    what.add_argument("--model", metavar="NAME|PATH", help="'default', a name of `wholepose models list`, or a file")
    what.add_argument("--results", type=Path, metavar="FILE", help="COCO keypoint results, scored as they are")
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, required=True, metavar="ANN", help="annotations: COCO, Halpe, MPII ...")
    data.add_argument("--images", type=Path, metavar="DIR", help="where the images are; default: beside ANN")
    data.add_argument("--area-from-boxes", action="store_true", help="where areas lack: 0.53 x width x height of boxes")
    model = parser.add_argument_group("running the model")
    model.add_argument(
        "--boxes",
        metavar="gt|FILE|detector",
        help="labelled boxes, a file of detections (.json or .csv), or the default detector; default: gt, and detector "
        "with --task boxes",
    )
    model.add_argument(
        "--protocol",
        choices=("default", "mmpose0"),
        help="decoding and scores as of MMPose 0.29; default: the model's own",
    )
    model.add_argument("--flip-test", action="store_true", help="average with the mirrored picture: slower, better")
    model.add_argument("--zoom", action="store_true", help="look at faces and hands again, enlarged: slower, better")
    add_engine_options(model)
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument(
        "--nms",
        choices=("hard", "soft", "none"),
        help="how people who repeat a better scored one go; default: hard for a model, none for --results",
    )
    scoring.add_argument(
        "--threshold",
        type=fraction,
        metavar="S",
        help="lowest box score: of the people whose keypoints are scored (default: the 20 best an image, for AP wants "
        "the doubtful ones too; a file's boxes: all); with --task boxes for recall, precision and false positives "
        "(default: the detector's own)",
    )
    scoring.add_argument(
        "--bootstrap", type=_whole, default=1000, metavar="N", help="draws; 0: no intervals; default: 1000"
    )
    scoring.add_argument("--seed", type=_whole, default=0, metavar="N", help="of the draws; default: 0")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the reports; made if missing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no warnings")


def add_engine_options(group: argparse._ArgumentGroup) -> None:
    """Adds what the model runs on."""
    group.add_argument("--batch-size", type=_count, default=16, metavar="N", help="most people at once; default: 16")
    group.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    group.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: fp32")
    group.add_argument("--threads", type=_count, metavar="N", help="CPU threads; default: all cores")


def run(options: argparse.Namespace) -> int:
    """Evaluates.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0, or 1 where images could not be read.

    Raises:
        ConfigError: Options contradict each other.
        WholeposeError: An input is unusable, or nothing could be scored; the message says why.
        OSError: A report cannot be written.
    """
    _check_options(options)
    if options.quiet:
        warnings.simplefilter("ignore")  # until main is done
    if options.task == "boxes":
        return _run_boxes(options)
    from wholepose.data.annotations import read_annotations
    from wholepose.evaluation.checks import areas_from_boxes
    from wholepose.evaluation.workflow import evaluate_results, write_reports

    say = silent if options.quiet else warn

    def read(protocol: Any) -> AnnotationSet:
        annotations = read_annotations(options.data, images=options.images, protocol=protocol)
        return areas_from_boxes(annotations) if options.area_from_boxes else annotations

    if options.results is not None:
        settings = make_settings(options, protocol=options.protocol or "default", results=str(options.results))
        evaluation = evaluate_results(options.results, read(settings.protocol), settings, say=say)
    else:
        evaluation = _run_model(options, read, say)
    print(table(evaluation.document))
    if options.out is not None:
        for path in write_reports(options.out, evaluation):
            say(f"wrote {path}")
    for failure in evaluation.failures:
        print(f"wholepose: {failure}", file=sys.stderr)
    return 1 if evaluation.failures else 0


def _check_options(options: argparse.Namespace) -> None:
    """Raises ConfigError where options contradict each other."""
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file, and a folder is needed")
    if options.task == "boxes":
        for name in ("model", "results", "protocol", "flip_test", "zoom", "nms", "area_from_boxes"):
            if getattr(options, name):
                raise ConfigError(f"--{name.replace('_', '-')} is about keypoints; --task boxes takes --boxes")
        if options.boxes == "gt":
            raise ConfigError("--boxes gt would score the labels against themselves; name a detector or a file")
        return
    if options.threshold is not None and (options.results or options.boxes in (None, "gt")):
        raise ConfigError("--threshold is about detected boxes; name a detector or a file with --boxes")
    if (options.model is None) == (options.results is None):
        raise ConfigError("give one of --model (to run it) and --results (to score a file)")
    if options.results is not None:
        for name in ("boxes", "flip_test", "zoom", "threads"):
            if getattr(options, name):
                raise ConfigError(f"--{name.replace('_', '-')} is about running a model, and --results runs none")


def _run_boxes(options: argparse.Namespace) -> int:
    """Evaluates a detector or a file of boxes."""
    from wholepose import __version__
    from wholepose.data.annotations import read_annotations, without_missing_images
    from wholepose.detectors import NamedPersonDetector
    from wholepose.evaluation.box_report import box_document, box_rows, write_box_reports
    from wholepose.evaluation.boxes import RANKING_THRESHOLD, find_boxes, score_boxes

    annotations = read_annotations(options.data, images=options.images, boxes_only=True)
    boxes = options.boxes or "detector"
    threshold = options.threshold
    if threshold is None and not _is_file(boxes):
        threshold = getattr(load_boxes(boxes, options), "threshold", None)
    detector = load_boxes(boxes, options, None if _is_file(boxes) else RANKING_THRESHOLD)
    if not isinstance(detector, NamedPersonDetector):  # a file of boxes needs no pictures
        annotations = without_missing_images(annotations)
    with progress(len(annotations.image_ids), hidden=options.quiet) as advance:
        found = find_boxes(detector, annotations, advance=advance)
    scores = score_boxes(annotations, found, threshold=threshold, replicates=options.bootstrap, seed=options.seed)
    document = box_document(
        annotations,
        scores,
        detector=detector.name,
        threshold=threshold,
        command=options.command_line,
        replicates=options.bootstrap,
        seed=options.seed,
        version=__version__,
    )
    rows = [[f"{name:15}  {what}", value, bounds] for name, value, bounds, what in box_rows(document)]
    print("\n".join(_columns(rows)))
    if options.out is not None:
        for path in write_box_reports(options.out, document, annotations, found, scores):
            (silent if options.quiet else warn)(f"wrote {path}")
    for failure in found.failures:
        print(f"wholepose: {failure}", file=sys.stderr)
    return 1 if found.failures else 0


def _run_model(
    options: argparse.Namespace, read: Callable[[Any], AnnotationSet], say: Callable[[str], None]
) -> Evaluation:
    from wholepose.evaluation.arrangement import MAX_DETECTIONS
    from wholepose.evaluation.boxes import RANKING_THRESHOLD
    from wholepose.evaluation.prediction import load_estimator
    from wholepose.evaluation.workflow import evaluate_model
    from wholepose.weights import resolve_model, sha256_of

    path = resolve_model(options.model)
    estimator = load_estimator(
        path,
        protocol=options.protocol,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        batch_size=options.batch_size,
        zoom=options.zoom,
    )
    card = estimator.runtime.card
    annotations = read(card.protocol)
    boxes, threshold = options.boxes or "gt", options.threshold
    taken = boxes if threshold is None else f"{boxes}, scores from {threshold:g} on"
    if threshold is None and boxes != "gt" and not _is_file(boxes):
        threshold, taken = RANKING_THRESHOLD, f"{boxes}, the {MAX_DETECTIONS} best an image"
    settings = make_settings(
        options,
        protocol=card.protocol,
        boxes=taken,
        model=card.name,
        model_sha256=sha256_of(path),
    )
    detector = None if boxes == "gt" else load_boxes(boxes, options, threshold)
    with progress(len(annotations.image_ids), hidden=options.quiet) as advance:
        return evaluate_model(estimator, annotations, settings, detector=detector, say=say, advance=advance)


def _is_file(boxes: str) -> bool:
    return Path(boxes).suffix.lower() in (".json", ".csv")


def load_boxes(boxes: str, options: argparse.Namespace, threshold: float | None = None) -> PersonDetector:
    """The detector, or the file of boxes, that ``--boxes`` names.

    Args:
        boxes: What was named; ``"detector"`` is the embedded one.
        options: Say which engine, and which images the ids of a file mean.
        threshold: Lowest score; the detector's own where None, which for a file is 0.
    """
    from wholepose.detectors import load_detector

    return load_detector(
        "default" if boxes == "detector" else boxes,
        threshold=threshold,
        images=options.data if Path(boxes).suffix.lower() == ".json" else None,
        device=options.device,
        threads=options.threads,
    )


def make_settings(options: argparse.Namespace, **known: Any) -> Settings:
    """What a report says of how it came about, from the options common to evaluations."""
    from wholepose import __version__
    from wholepose.evaluation.report import Settings

    return Settings(
        command=options.command_line,
        annotations=str(options.data),
        flip_test=options.flip_test,
        zoom=options.zoom,
        suppression=options.nms or ("none" if known.get("results") else "hard"),
        replicates=options.bootstrap,
        seed=options.seed,
        version=__version__,
        **known,
    )


@contextmanager
def progress(images: int, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields what to call with each number of images done."""
    from tqdm import tqdm

    with tqdm(
        total=images, unit=" images", file=sys.stderr, disable=hidden or not sys.stderr.isatty(), leave=False
    ) as bar:
        yield lambda count: bar.update(count) and None


def warn(message: str) -> None:
    """Says something on stderr, above a progress bar."""
    from tqdm import tqdm

    tqdm.write(f"wholepose: {message}", file=sys.stderr)


def silent(_message: str) -> None:
    """Says nothing."""


def table(document: Mapping[str, Any]) -> str:
    """A report's main numbers as text.

    Args:
        document: What ``report.json`` holds.

    Returns:
        Lines of one row a part and one a metric, with 95 % intervals in brackets.
    """
    rows = [["part", "AP", "", "AP50", "AP75", "AP M", "AP L", "AR", "", "people"]]
    for name, part in document["parts"].items():
        bounds = part["intervals"]
        rows.append(
            [
                name,
                _number(part["AP"]),
                _bounds(bounds.get("AP")),
                *(_number(part[key]) for key in ("AP50", "AP75", "APM", "APL")),
                _number(part["AR"]),
                _bounds(bounds.get("AR")),
                str(part["n"]),
            ]
        )
    lines = _columns(rows)
    rows = [["measure", "value", "", "of"]]
    for name, value in document["metrics"].items():
        if value is not None:
            bounds = document["metric_intervals"][name]
            rows.append([name, _number(value), _bounds(bounds), str(document["metric_counts"][name])])
    return "\n".join([*lines, "", *_columns(rows)])


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 or cell.startswith("[") else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bounds(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _whole(text: str) -> int:
    """Reads a whole number from 0 on."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number from 0 on is needed, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    """Reads a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")
    return int(text)
