"""Lists of people for all frames: COCO keypoint results and AlphaPose's JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wholepose.errors import AnnotationError
from wholepose.formats.frame import LARGEST, PoseFrame, boxes_around, poses_of_keypoints, skeleton_of_count
from wholepose.formats.json_files import load_json
from wholepose.formats.writer import TextWriter
from wholepose.outputs import rounded_coco_result, to_json
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton

_WHOLE_BODY_PARTS = ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")


class CocoWriter(TextWriter):
    """COCO keypoint results; ``image_id`` is the frame's index."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        super().__init__(path, skeleton=skeleton, model=model)
        self._file.write("[")
        self._separator = "\n"

    def _write(self, frame: PoseFrame) -> None:
        for result in frame.poses.to_coco(frame.frame_index):
            entry = self._entry(rounded_coco_result(result), frame)
            self._file.write(self._separator + to_json(entry).rstrip("\n"))
            self._separator = ",\n"

    def _entry(self, result: dict[str, Any], _frame: PoseFrame) -> dict[str, Any]:
        return result

    def _finish(self) -> None:
        self._file.write("\n]\n")
        super()._finish()


class AlphaPoseWriter(CocoWriter):
    """AlphaPose's ``alphapose-results.json``: ``image_id`` is a file name, ``idx`` the track number."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        super().__init__(path, skeleton=skeleton, model=model)
        self._names: dict[str, int] = {}  # of pictures, and which they are

    def _name(self, frame: PoseFrame) -> str:
        """A video's frames are named after their number, and pictures after their file: one of each name."""
        if frame.time_s is not None:
            return f"{frame.frame_index}.jpg"
        file = Path(frame.image)
        choices = (file.name, frame.image, f"{file.stem}_{frame.frame_index:012d}{file.suffix}")
        index = frame.frame_index
        return next((name for name in choices if self._names.setdefault(name, index) == index), frame.image)

    def _entry(self, result: dict[str, Any], frame: PoseFrame) -> dict[str, Any]:
        entry = {
            "image_id": self._name(frame),
            "category_id": 1,
            "keypoints": result["keypoints"],
            "score": result["score"],
            "box": result["bbox"],
        }
        if "track_id" in result:
            entry["idx"] = result["track_id"]
        return entry


def read_coco(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads COCO keypoint results; frames come in the order of their ids.

    Args:
        path: The file.
        skeleton: What the keypoints are; by their number if None.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the entry.
    """
    entries = _entries(path)
    frames: dict[int, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(entries):
        image_id = entry.get("image_id")
        if type(image_id) is not int or not 0 <= image_id < 2**63:
            raise AnnotationError(f"{path}: entry {number}: 'image_id' must be a whole number, and is {image_id!r}")
        frames.setdefault(image_id, []).append(entry)
    tracks = _track_field("track_id", frames.values())
    for image_id in sorted(frames):
        poses = _poses(frames[image_id], "bbox", tracks, skeleton, f"{path}, image {image_id}")
        yield PoseFrame(image_id, None, poses)


def read_alphapose(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads AlphaPose's JSON; names that are numbers are frames, others are counted in the order of the file.

    Args:
        path: The file.
        skeleton: What the keypoints are; by their number if None.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the entry.
    """
    images: dict[str, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(_entries(path)):
        name = entry.get("image_id")
        if not isinstance(name, (str, int)):
            raise AnnotationError(f"{path}: entry {number}: 'image_id' must be a file name, and is {name!r}")
        images.setdefault(str(name), []).append(entry)
    numbers = [re.fullmatch(r"(\d{1,18})(\.\w+)?", name, re.ASCII) for name in images]
    indices = [int(match.group(1)) for match in numbers if match is not None]
    if len(set(indices)) != len(images):
        indices = list(range(len(images)))
    tracks = _track_field("idx", images.values())
    for index, name in sorted(zip(indices, images, strict=True)):
        yield PoseFrame(index, None, _poses(images[name], "box", tracks, skeleton, f"{path}, image {name}"), image=name)


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = load_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise AnnotationError(f"{path}: a list of objects is needed, one for each person")
    return entries


def _poses(
    entries: list[Mapping[str, Any]], box_field: str, track_field: str | None, skeleton: Skeleton | None, where: str
) -> Poses:
    """The people of one image."""
    keypoints = [_keypoints(entry, where) for entry in entries]
    counts = {len(values) for values in keypoints}
    count = counts.pop() // 3 if len(counts) == 1 else 0
    found = skeleton or skeleton_of_count(count)
    if found is None or len(keypoints[0]) != 3 * found.num_keypoints:
        expected = "as many of each person" if skeleton is None else f"3 x {skeleton.num_keypoints}"
        raise AnnotationError(
            f"{where}: 'keypoints' holds {len(keypoints[0])} numbers, not {expected} of a known skeleton"
        )
    triples = np.array(keypoints).reshape(len(entries), -1, 3)
    instance_scores = np.array([_numbers([entry.get("score", 0)], where, "score")[0] for entry in entries])
    boxes = boxes_around(triples[..., :2], triples[..., 2])
    for row, entry in enumerate(entries):
        if box_field in entry:
            x, y, width, height = _numbers(entry[box_field], where, box_field, 4)
            boxes[row] = x, y, x + width, y + height
    return poses_of_keypoints(
        triples[..., :2],
        triples[..., 2],
        found,
        boxes=boxes,
        box_scores=instance_scores,
        track_ids=None if track_field is None else _track_ids(entries, track_field, where),
    )


def _keypoints(entry: Mapping[str, Any], where: str) -> list[float]:
    """A person's keypoints; results of COCO-WholeBody have a list for each part, in the order of its 133 keypoints."""
    parts = ("keypoints", *(_WHOLE_BODY_PARTS if _WHOLE_BODY_PARTS[0] in entry else ()))
    return [number for part in parts for number in _numbers(entry.get(part), where, part)]


def _track_field(field: str, images: Iterable[list[Mapping[str, Any]]]) -> str | None:
    """The field of track numbers; None where people of an image share one.

    AlphaPose without tracking gives everybody the number 0.
    """
    for entries in images:
        numbers = [repr(_unwrapped(entry[field])) for entry in entries if field in entry]
        if len(set(numbers)) != len(numbers):
            return None
    return field


def _unwrapped(value: Any) -> Any:
    """A number out of a list of one, or of lists in it, as AlphaPose's trackers write it."""
    while isinstance(value, list) and value:
        value = value[0]
    return value


def _track_ids(entries: list[Mapping[str, Any]], field: str, where: str) -> Any:
    if not all(field in entry for entry in entries):
        return None
    values = [_unwrapped(entry[field]) for entry in entries]
    numbers = _numbers(values, where, field)
    if not all(number == int(number) and abs(number) < 2**53 for number in numbers):
        raise AnnotationError(f"{where}: {field!r} must hold whole numbers, not {values}")
    return np.array(numbers, dtype=np.int64)


def _numbers(values: object, where: str, field: str, length: int | None = None) -> list[float]:
    """A list of finite numbers that float32 holds."""
    fits = isinstance(values, list) and (length is None or len(values) == length)
    if not fits or not all(type(value) in (int, float) and abs(value) <= LARGEST for value in values):  # type: ignore[attr-defined]
        raise AnnotationError(
            f"{where}: {field!r} must be a list of {f'{length} ' if length else ''}numbers, and is {str(values)[:60]}"
        )
    return [float(value) for value in values]  # type: ignore[attr-defined]
