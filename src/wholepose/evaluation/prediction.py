"""Runs a model over annotated images, in the labelled people's boxes or a detector's, and gathers what to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.data.photos import PhotoStore
from wholepose.detectors import NamedPersonDetector, PersonDetector, detect_people
from wholepose.errors import AnnotationError, ConfigError, WholeposeError, require
from wholepose.estimator import PoseEstimator
from wholepose.evaluation.arrangement import MAX_DETECTIONS
from wholepose.evaluation.results import Results, rescore
from wholepose.geometry import Protocol
from wholepose.outputs import COORDINATE_DECIMALS, SCORE_DECIMALS
from wholepose.poses import Poses
from wholepose.runtimes import Device, Precision, load_runtime
from wholepose.skeletons import conversion
from wholepose.weights import resolve_model
from wholepose.weights.files import read_card

_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model found.

    Attributes:
        results: Everybody, rescored, nobody suppressed; in the annotations' skeleton. With boxes from ground truth
            ``labels`` says whose each box was.
        failures: Images that could not be read, one message each; their people count as not found.
    """

    results: Results
    failures: list[str]


def load_estimator(
    model: str | Path,
    *,
    protocol: Protocol | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    batch_size: int = 16,
    zoom: bool = False,
) -> PoseEstimator:
    """Loads a model without a detector, to decode as a protocol says.

    Args:
        model: A name or a path, as in ``PoseEstimator.from_pretrained``.
        protocol: None keeps the one on the model's card.
        device: See ``load_runtime``.
        precision: Likewise.
        threads: Likewise.
        batch_size: Most people at once.
        zoom: Look at faces and hands again; see ``PoseEstimator``.

    Returns:
        The estimator; ``estimator.runtime.card.protocol`` is the protocol.

    Raises:
        ConfigError: The model is an ONNX file, which decodes by its own protocol, and another is asked for; or its
            people have nothing to zoom to.
        WeightsError: The weights are missing, damaged or of the wrong kind.
    """
    path = resolve_model(model)
    card = read_card(path)
    if protocol is None or card.protocol == protocol:
        runtime = load_runtime(path, device=device, precision=precision, threads=threads)
        return PoseEstimator(runtime, batch_size=batch_size, zoom=zoom)
    if path.suffix.lower() != ".safetensors":
        raise ConfigError(
            f"{path}: decodes by the protocol {card.protocol!r}, which is part of its graph; for {protocol!r} evaluate "
            "the .safetensors file that it was exported from"
        )
    require("torch", "train")
    from wholepose.models.checkpoints import load_model
    from wholepose.runtimes.torch import TorchRuntime

    changed = replace(card, protocol=protocol)
    engine = TorchRuntime.from_model(load_model(path)[0], changed, device=device, precision=precision, threads=threads)
    return PoseEstimator(engine, batch_size=batch_size, zoom=zoom)


def provided_keypoints(estimator: PoseEstimator, annotations: AnnotationSet) -> NDArray[np.bool_]:
    """(K,) bool: which keypoints of the annotations' skeleton the model can give."""
    return conversion(estimator.skeleton, annotations.skeleton).present


def predict_people(
    estimator: PoseEstimator,
    annotations: AnnotationSet,
    detector: PersonDetector | None = None,
    *,
    flip_test: bool = False,
    advance: Callable[[int], None] = lambda _images: None,
) -> Predicted:
    """Predicts the people of every image that the annotations hold.

    A person's score is the box's times the mean of the keypoint scores above 0.2, over the keypoints that the set is
    scored on. Under ``"mmpose0"`` keypoint scores are raw heatmap peaks, which may exceed 1; else they are clipped.

    Args:
        estimator: The model; its card says the protocol.
        annotations: What to predict.
        detector: Finds the people, of whom the best `MAX_DETECTIONS` an image are taken, as many as COCO counts; or
            looks their boxes up in a file, and all are taken. None takes the labelled boxes, clipped to the
            image, of everybody who has a labelled keypoint and is no crowd, each with a score of 1.
        flip_test: Average with the mirrored crops.
        advance: Told after some images how many they were.

    Returns:
        The people found, coordinates rounded as a results file has them.

    Raises:
        WeightsError: The model fails.
        AnnotationError: A box is unusable.
    """
    people = np.flatnonzero(annotations.trainable()) if detector is None else np.zeros(0, dtype=np.int64)
    by_image: list[list[int]] = [[] for _ in annotations.image_ids]
    for person in people:
        by_image[annotations.image_rows[person]].append(int(person))
    rows = [row for row in range(len(by_image)) if detector is not None or by_image[row]]
    advance(len(by_image) - len(rows))
    failures: list[str] = []
    found: list[tuple[int, Poses]] = []
    waiting: list[tuple[int, NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]] = []

    def work() -> None:
        if waiting:
            found.extend(_predict(estimator, annotations, waiting, flip_test))
            advance(len(waiting))
            waiting.clear()

    for row, image in read_photos(annotations, rows):
        if isinstance(image, WholeposeError):
            failures.append(str(image))
            advance(1)
            continue
        if detector is None:
            boxes, scores = annotations.boxes[by_image[row]], np.ones(len(by_image[row]))
        else:
            detections = detect_people(detector, [image], [str(annotations.image_files[row])])[0]
            best = slice(None if isinstance(detector, NamedPersonDetector) else MAX_DETECTIONS)
            boxes, scores = detections.boxes[best].astype(np.float64), detections.scores[best].astype(np.float64)
        waiting.append((row, image, boxes, scores))
        if len(waiting) >= _IMAGES_AT_ONCE or sum(len(each[2]) for each in waiting) >= estimator.batch_size:
            work()
    work()
    labels = [person for row, _ in found for person in by_image[row]] if detector is None else None
    return Predicted(_gather(estimator, annotations, found, labels), failures)


def _predict(
    estimator: PoseEstimator,
    annotations: AnnotationSet,
    waiting: Sequence[tuple[int, NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]],
    flip_test: bool,
) -> Iterator[tuple[int, Poses]]:
    rows, images, boxes, scores = zip(*waiting, strict=True)
    try:
        poses = estimator.predict_batch(images, boxes, scores, flip_test=flip_test)
    except ValueError as error:  # a box that reaches absurdly far, from a file
        names = ", ".join(annotations.image_files[row].name for row in rows)
        raise AnnotationError(f"a box cannot be used: {error} (images {names})") from error
    return zip(rows, poses, strict=True)


def read_photos(
    annotations: AnnotationSet, rows: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8] | WholeposeError]]:
    """Reads photos, one ahead of the caller, or says why not."""
    store = PhotoStore()

    def read(row: int) -> NDArray[np.uint8] | WholeposeError:
        height, width = annotations.image_sizes[row].tolist()
        try:
            return store.read(annotations.image_files[row], (height, width))
        except WholeposeError as error:
            return error

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="wholepose-reader") as reader:
        ahead = reader.submit(read, rows[0]) if rows else None
        for place, row in enumerate(rows):
            assert ahead is not None
            image = ahead.result()
            if place + 1 < len(rows):
                ahead = reader.submit(read, rows[place + 1])
            yield row, image


def _gather(
    estimator: PoseEstimator, annotations: AnnotationSet, found: Sequence[tuple[int, Poses]], labels: list[int] | None
) -> Results:
    raw = estimator.runtime.card.protocol == "mmpose0"
    everybody = Poses.concatenate([Poses.empty(estimator.skeleton), *(poses for _, poses in found)])
    keypoint_scores = everybody.raw_scores if raw and everybody.raw_scores is not None else everybody.scores
    rows = np.repeat([row for row, _ in found], [len(poses) for _, poses in found]).astype(np.int64)
    results = Results(
        skeleton=estimator.skeleton,
        provided=np.ones(estimator.skeleton.num_keypoints, dtype=np.bool_),
        image_ids=annotations.image_ids[rows],
        keypoints=everybody.keypoints.astype(np.float64).round(COORDINATE_DECIMALS),
        keypoint_scores=keypoint_scores.astype(np.float64).round(SCORE_DECIMALS),
        scores=np.zeros(len(everybody)),
        boxes=everybody.boxes.astype(np.float64),
        labels=None if labels is None else np.array(labels, dtype=np.int64),
    ).convert(annotations.skeleton)
    counted = np.flatnonzero(annotations.scored & results.provided)
    scores = rescore(results.keypoint_scores[:, counted], everybody.box_scores.astype(np.float64))
    return replace(results, scores=scores)
