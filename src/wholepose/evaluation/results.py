"""Detections to be scored, from a COCO results file or from a model, and the file they are written to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.data.problems import Problems, integer, number, numbers, show
from wholepose.errors import AnnotationError
from wholepose.geometry import crop_regions, oks_nms
from wholepose.outputs import COORDINATE_DECIMALS, SCORE_DECIMALS, atomic_path
from wholepose.poses import SCORE_FLOOR
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE26, HALPE136, Skeleton, conversion, convert_keypoints

_BY_COUNT = {skeleton.num_keypoints: skeleton for skeleton in (COCO17, HALPE26, COCO_WHOLEBODY133, HALPE136)}
_SPACE = re.compile(r"[ \t\r\n]*")
_SUPPRESSION = ("hard", "soft", "none")


@dataclass(frozen=True, eq=False)
class Results:
    """M detected people on any number of images.

    Attributes:
        skeleton: What the K keypoints are.
        provided: (K,) bool: keypoints that the detections really hold; the others are placeholders.
        image_ids: (M,) int64.
        keypoints: (M, K, 2) float64 pixels.
        keypoint_scores: (M, K) float64.
        scores: (M,) float64, by which the people are ranked.
        boxes: (M, 4) float64 xyxy pixels in which the people were looked for, or that the file gives; None without.
        boxes_give_area: COCO's sizes, medium and large, go by the boxes and not by the extent of the keypoints.
        labels: (M,) int64 row of the labelled person whose box the detection was made in, None with other boxes.
    """

    skeleton: Skeleton
    provided: NDArray[np.bool_]
    image_ids: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    keypoint_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64] | None = None
    boxes_give_area: bool = False
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """M."""
        return len(self.image_ids)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Results:
        """Keeps some detections: a mask of M, or indices in the order wanted."""
        return replace(
            self,
            image_ids=self.image_ids[chosen],
            keypoints=self.keypoints[chosen],
            keypoint_scores=self.keypoint_scores[chosen],
            scores=self.scores[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
            labels=None if self.labels is None else self.labels[chosen],
        )

    def areas(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M,) px^2 that COCO's sizes go by: the extent of the keypoints in ``columns``, or of the boxes."""
        if self.boxes_give_area and self.boxes is not None:
            return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1))
        if not len(self) or not len(columns):
            return np.zeros(len(self))
        places = self.keypoints[:, columns]
        return np.asarray((places.max(axis=1) - places.min(axis=1)).prod(axis=1))

    def convert(self, skeleton: Skeleton) -> Results:
        """The same people in another skeleton; keypoints that this one does not know are not provided."""
        if skeleton is self.skeleton:
            return self
        keypoints, scores = convert_keypoints(self.keypoints, self.keypoint_scores, self.skeleton, skeleton)
        table = conversion(self.skeleton, skeleton)
        provided = table.present & (table.apply_to_scores(self.provided.astype(np.float64)) > 0)
        return replace(
            self,
            skeleton=skeleton,
            provided=provided,
            keypoints=keypoints.astype(np.float64),
            keypoint_scores=scores.astype(np.float64),
        )


def rescore(keypoint_scores: NDArray[np.floating], box_scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """A person's score: the box's times the mean of the keypoint scores above 0.2, 0 where none is.

    Args:
        keypoint_scores: (M, K) of the keypoints that count.
        box_scores: (M,).

    Returns:
        (M,) float64.
    """
    counted = keypoint_scores > SCORE_FLOOR
    totals = np.where(counted, keypoint_scores, 0).sum(axis=1, dtype=np.float64)
    return np.asarray(box_scores * totals / np.maximum(counted.sum(axis=1), 1), dtype=np.float64)


def suppress(
    results: Results,
    columns: NDArray[np.int64],
    *,
    kind: str = "hard",
    threshold: float = 0.9,
    aspect: float = 0.75,
) -> Results:
    """Removes people that repeat a better scored one of their image, by keypoint similarity.

    The area that similarity is measured against is that of the crop the person was looked for in: the box widened or
    heightened to the model's aspect and padded. Without boxes it is the extent of the keypoints.

    Args:
        results: The detections, scored.
        columns: Indices of the keypoints that count.
        kind: ``"hard"`` removes, ``"soft"`` lowers the rank of those alike and keeps 20 an image, ``"none"`` keeps all.
        threshold: As in ``oks_nms``.
        aspect: Width over height of the model's input.

    Returns:
        Those kept, with the scores that they came with, image by image in rising order of id, best first.

    Raises:
        ValueError: The kind is not one of the three.
    """
    if kind not in _SUPPRESSION:
        raise ValueError(f"kind must be one of {', '.join(_SUPPRESSION)}, not {kind!r}")
    if kind == "none" or not len(results):
        return results
    boxes = results.boxes
    areas = results.areas(columns) if boxes is None else crop_regions(boxes, aspect)[1].prod(axis=1)
    sigmas = results.skeleton.sigmas[columns]
    order = np.argsort(results.image_ids, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(results.image_ids[order]) != 0])
    kept = []
    for group in np.split(order, starts[1:]):
        chosen = oks_nms(
            results.keypoints[group][:, columns],
            results.scores[group],
            areas[group],
            sigmas,
            threshold,
            soft=kind == "soft",
        )
        kept.append(group[chosen])
    return results.select(np.concatenate(kept))


def read_results(path: str | Path, annotations: AnnotationSet) -> Results:
    """Reads a COCO keypoint results file.

    It is a JSON list of ``{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}``. Entries of another
    category than the annotations' people are left out. Where every entry has a ``"bbox"`` (x, y, width, height), that
    gives the person's size, as in pycocotools; else the extent of the keypoints does.

    Args:
        path: The JSON file.
        annotations: What the results are of: it gives the skeleton, and the category of people.

    Returns:
        The detections in the file's order, in the annotations' skeleton. Another skeleton's number of keypoints is
        understood, and converted, where only one skeleton has it. A keypoint that is (0, 0, 0) in every entry is not
        provided; `write_results` writes those so that a model lacks.

    Raises:
        AnnotationError: The file is unreadable or malformed; the message lists the first 20 problems with entry and
            field.
    """
    path = Path(path)
    problems = Problems(path)
    skeleton: Skeleton | None = None
    image_ids, scores = [], []
    keypoints: list[NDArray[np.float64]] = []
    boxes: list[Sequence[float]] = []
    strangers = 0
    for position, row in enumerate(_entries(path)):
        entry = f"result {position}"
        if not isinstance(row, dict):
            problems.add(entry, "entry", f"must be an object, not {show(row)}")
            continue
        if row.get("category_id", annotations.category_id) != annotations.category_id:
            strangers += 1
            continue
        if skeleton is None:
            skeleton = _skeleton_of(row, annotations.skeleton, entry, problems)
            if skeleton is None:
                break
        image_id = integer(row, "image_id", entry, problems)
        score = number(row, "score", entry, problems)
        values = numbers(row, "keypoints", 3 * skeleton.num_keypoints, entry, problems)
        box = numbers(row, "bbox", 4, entry, problems) if "bbox" in row else None
        if image_id is None or score is None or values is None:
            continue
        image_ids.append(image_id)
        scores.append(score)
        keypoints.append(np.array(values, dtype=np.float64).reshape(-1, 3))
        if box is not None:
            boxes.append(box)
    problems.check()
    if strangers and not image_ids:
        raise AnnotationError(
            f"{path}: none of its {strangers} results is of category {annotations.category_id}, "
            f"which {annotations.path} gives to people; set category_id to {annotations.category_id}"
        )
    return _collect(skeleton or annotations.skeleton, image_ids, scores, keypoints, boxes).convert(annotations.skeleton)


def _skeleton_of(row: Mapping[str, Any], expected: Skeleton, entry: str, problems: Problems) -> Skeleton | None:
    """The skeleton that the first entry's number of keypoints gives away."""
    values = row.get("keypoints")
    if not isinstance(values, list):
        numbers(row, "keypoints", 3 * expected.num_keypoints, entry, problems)
        return None
    count, rest = divmod(len(values), 3)
    if rest == 0 and count == expected.num_keypoints:
        return expected
    known = None if rest else _BY_COUNT.get(count)
    if known is None:
        problems.add(
            entry,
            "keypoints",
            f"holds {len(values)} values; the annotations are in {expected.name}, which takes "
            f"{3 * expected.num_keypoints} (x, y, score of each of {expected.num_keypoints})",
        )
    return known


def _collect(
    skeleton: Skeleton,
    image_ids: list[int],
    scores: list[float],
    keypoints: list[NDArray[np.float64]],
    boxes: list[Sequence[float]],
) -> Results:
    count = skeleton.num_keypoints
    triples = np.zeros((len(keypoints), count, 3))
    for place, each in enumerate(keypoints):
        triples[place] = each
    # A keypoint that is (0, 0, 0) in every row stands for one that the model does not have.
    provided = np.asarray((triples != 0).any(axis=(0, 2))) if len(triples) else np.ones(count, dtype=np.bool_)
    all_boxed = len(boxes) == len(image_ids) and len(boxes) > 0
    boxes_xywh = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Results(
        skeleton=skeleton,
        provided=provided,
        image_ids=np.array(image_ids, dtype=np.int64),
        keypoints=triples[..., :2],
        keypoint_scores=triples[..., 2],
        scores=np.array(scores, dtype=np.float64),
        boxes=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1) if all_boxed else None,
        boxes_give_area=all_boxed,
    )


def _entries(path: Path) -> Iterator[Any]:
    """The entries of a JSON list one after the other: a whole file as Python objects would fill the memory."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not JSON: {error}") from error
    place = _skip_space(text, 0)
    if not text.startswith("[", place):
        found = "a JSON object" if text.startswith("{", place) else "no JSON list"
        raise AnnotationError(f"{path}: holds {found}; COCO results are a list of people, [{{...}}, ...]")
    decoder = json.JSONDecoder()
    place = _skip_space(text, place + 1)
    first = True
    while not text.startswith("]", place):
        try:
            if not first:
                if not text.startswith(",", place):
                    raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
                place = _skip_space(text, place + 1)
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            cut = " (the file may be cut short)" if place >= len(text.rstrip()) - 1 else ""
            raise AnnotationError(f"{path}: is not JSON: {error}{cut}") from error
        yield row
        first, place = False, _skip_space(text, place)
    if _skip_space(text, place + 1) < len(text):
        raise AnnotationError(f"{path}: is not JSON: something follows the end of the list, at character {place + 1}")


def _skip_space(text: str, place: int) -> int:
    """Where the white space from a place on ends."""
    match = _SPACE.match(text, place)
    return match.end() if match else place


def write_results(path: str | Path, results: Results, category_id: int = 1) -> None:
    """Writes detections as a COCO keypoint results file, without boxes, as the COCO evaluation takes them.

    Args:
        path: The file; it is whole or absent.
        results: The detections. Coordinates are rounded to a thousandth of a pixel.
        category_id: The annotations' number for people.

    Raises:
        OSError: It cannot be written.
    """
    places = np.round(results.keypoints, COORDINATE_DECIMALS) + 0.0
    triples = np.concatenate([places, np.round(results.keypoint_scores, SCORE_DECIMALS)[..., None]], axis=2)
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        for person in range(len(results)):
            row = {
                "image_id": int(results.image_ids[person]),
                "category_id": category_id,
                "keypoints": triples[person].reshape(-1).tolist(),
                "score": float(results.scores[person]),
            }
            stream.write(("[" if person == 0 else ",\n") + json.dumps(row, separators=(",", ":"), allow_nan=False))
        stream.write("]\n" if len(results) else "[]\n")
