"""An evaluation from end to end: checks, predictions, scores, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet, without_missing_images
from wholepose.detectors import NamedPersonDetector, PersonDetector
from wholepose.errors import AnnotationError
from wholepose.estimator import PoseEstimator
from wholepose.evaluation.cases import choose_cases
from wholepose.evaluation.checks import check_annotations, check_labelled_boxes, check_results
from wholepose.evaluation.page import report_page
from wholepose.evaluation.prediction import predict_people, provided_keypoints
from wholepose.evaluation.report import Settings, report_document
from wholepose.evaluation.results import Results, read_results, suppress, write_results
from wholepose.evaluation.scoring import Scores, score
from wholepose.outputs import atomic_path, write_json

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
        annotations: The labelled people, as they were scored.
        ranked: The detections that AP ranks: rescored, nobody repeated.
        placed: The detections that people were held against for everything else.
        scores: The numbers.
        document: What ``report.json`` holds.
        failures: Images that could not be read.
    """

    annotations: AnnotationSet
    ranked: Results
    placed: Results
    scores: Scores
    document: dict[str, Any]
    failures: Sequence[str]


def evaluate_model(
    estimator: PoseEstimator,
    annotations: AnnotationSet,
    settings: Settings,
    *,
    detector: PersonDetector | None = None,
    say: Say = lambda _message: None,
    advance: Callable[[int], None] = lambda _images: None,
) -> Evaluation:
    """Runs a model over annotated images and scores it.

    Args:
        estimator: The model.
        annotations: What to score against.
        settings: Flip test, suppression and bootstrap are obeyed; the rest is for the report.
        detector: Finds the people; None takes the labelled boxes.
        say: Told each warning as soon as it is known, before the model runs where it can be.
        advance: Told after some images how many they were.

    Returns:
        The evaluation.

    Raises:
        AnnotationError: Nothing could be scored, and why.
        WeightsError: The model fails.
    """
    images = len(annotations.image_files)
    provided = provided_keypoints(estimator, annotations)
    warnings = check_annotations(annotations, provided)
    there = without_missing_images(annotations)
    if len(there) < len(annotations):
        warnings.append(f"{len(annotations) - len(there)} people are on images that are missing and are left out")
        annotations = there
        check_annotations(annotations, provided)
    if detector is None:
        warnings.extend(check_labelled_boxes(annotations, provided))
    warnings.extend(_check_boxes(detector, annotations))
    for warning in warnings:
        say(warning)
    predicted = predict_people(estimator, annotations, detector, flip_test=settings.flip_test, advance=advance)
    height, width = estimator.runtime.card.input_size
    late = [] if not predicted.failures else [f"{len(predicted.failures)} of {images} images could not be read"]
    return _finish(annotations, predicted.results, settings, warnings, late, say, width / height, predicted.failures)


def evaluate_results(
    path: str | Path, annotations: AnnotationSet, settings: Settings, *, say: Say = lambda _message: None
) -> Evaluation:
    """Scores a COCO results file.

    Args:
        path: The file.
        annotations: What to score against.
        settings: As in ``evaluate_model``.
        say: Told each warning.

    Returns:
        The evaluation.

    Raises:
        AnnotationError: The file is malformed, or nothing could be scored, and why.
    """
    results = read_results(path, annotations)
    warnings = check_annotations(annotations, results.provided)
    for warning in warnings:
        say(warning)
    return _finish(annotations, results, settings, warnings, [], say)


def _finish(
    annotations: AnnotationSet,
    results: Results,
    settings: Settings,
    warnings: list[str],
    late: list[str],
    say: Say,
    aspect: float = 0.75,
    failures: Sequence[str] = (),
) -> Evaluation:
    late = late + check_results(annotations, results, settings.results or settings.model or "results")
    for warning in late:
        say(warning)
    columns = np.flatnonzero(annotations.scored & results.provided)
    ranked = suppress(results, columns, kind=settings.suppression, aspect=aspect)
    own = results if results.labels is not None else None
    scores = score(annotations, ranked, each_person=own, replicates=settings.replicates, seed=settings.seed)
    known = ranked.select(np.isin(ranked.image_ids, annotations.image_ids))
    document = report_document(annotations, scores, replace(settings, warnings=[*warnings, *late]))
    return Evaluation(annotations, ranked, known if own is None else own, scores, document, failures)


def _check_boxes(detector: object, annotations: AnnotationSet) -> list[str]:
    """Warns of images for which a file of boxes has none; raises where it has none for any."""
    if not isinstance(detector, NamedPersonDetector):
        return []
    found = count_boxes(detector, annotations)
    if not found.any():
        raise AnnotationError(
            f"{detector.name}: none of its boxes is on an image of {annotations.path} (AP would be 0); the images "
            f"there are {', '.join(file.name for file in annotations.image_files[:3])} ..."
        )
    peopled = np.unique(annotations.image_rows[~annotations.crowds])
    without = int((found[peopled] == 0).sum())
    return [f"{without} of {len(peopled)} images with people have no box in {detector.name}"] if without else []


def count_boxes(detector: object, annotations: AnnotationSet) -> NDArray[np.int64]:
    """How many boxes a file of boxes has for each image: (M,) int64; zeros for a detector that looks at pixels."""
    names = [str(file) for file in annotations.image_files]
    if not isinstance(detector, NamedPersonDetector):
        return np.zeros(len(names), dtype=np.int64)
    blank = np.zeros((1, 1, 3), dtype=np.uint8)
    return np.array([len(found) for found in detector.detect_named(names, [blank] * len(names))], dtype=np.int64)


def write_reports(folder: str | Path, evaluation: Evaluation) -> list[Path]:
    """Writes ``report.json``, ``report.html`` and, where a model ran, ``results.json``.

    The page shows photos of the people evaluated; share it with as much care as the photos.

    Args:
        folder: Made if it is missing.
        evaluation: What to write.

    Returns:
        The files written.

    Raises:
        OSError: A file cannot be written; those named before are whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if evaluation.document["results"] is None:
        written.append(folder / "results.json")
        write_results(written[-1], evaluation.ranked, evaluation.annotations.category_id)
    annotations, scores = evaluation.annotations, evaluation.scores
    worst, median = choose_cases(annotations, evaluation.placed, scores)
    page = report_page(evaluation.document, scores, annotations.skeleton, worst, median)
    written.append(folder / "report.html")
    with atomic_path(written[-1]) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    written.append(folder / "report.json")
    write_json(written[-1], evaluation.document)
    return written
