"""Our own JSON: the document of ``wholepose predict`` for each frame, as lines or as one document."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wholepose.errors import AnnotationError
from wholepose.formats.frame import PoseFrame
from wholepose.formats.writer import TextWriter
from wholepose.outputs import poses_document, poses_of_document, refuse_constant, to_json
from wholepose.skeletons import Skeleton

TIME_DECIMALS = 6


class JsonLinesWriter(TextWriter):
    """One document a line."""

    def __init__(
        self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str, uncertainty: bool = False
    ) -> None:
        super().__init__(path, skeleton=skeleton, model=model)
        self._uncertainty = uncertainty

    def _write(self, frame: PoseFrame) -> None:
        self._file.write(json_line(frame, uncertainty=self._uncertainty))


def json_line(frame: PoseFrame, *, uncertainty: bool = False) -> str:
    """The document of a frame as a line of a ``.jsonl`` file.

    Args:
        frame: The frame.
        uncertainty: Write the covariances too.
    """
    document: dict[str, Any] = {"frame": frame.frame_index}
    if frame.time_s is not None:
        document["time_s"] = round(frame.time_s, TIME_DECIMALS)
    document |= poses_document(
        frame.poses, image=frame.image, size=frame.size or (0, 0), model=frame.model, uncertainty=uncertainty
    )
    if frame.filled is not None:
        for person, filled in zip(document["people"], frame.filled, strict=True):
            person["filled"] = np.flatnonzero(filled).tolist()
    return to_json(document)


class JsonWriter(JsonLinesWriter):
    """One document with a list of frames, each on a line of its own."""

    def __init__(
        self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str, uncertainty: bool = False
    ) -> None:
        super().__init__(path, skeleton=skeleton, model=model, uncertainty=uncertainty)
        head = to_json({"skeleton": skeleton.name, "model": model})
        self._file.write(head.rstrip("\n}") + ',"frames":[')
        self._separator = "\n"

    def _write(self, frame: PoseFrame) -> None:
        self._file.write(self._separator + json_line(frame, uncertainty=self._uncertainty).rstrip("\n"))
        self._separator = ",\n"

    def _finish(self) -> None:
        self._file.write("\n]}\n")
        super()._finish()


def read_json_lines(path: Path) -> Iterator[PoseFrame]:
    """Reads a file of ``JsonLinesWriter`` line by line.

    Raises:
        AnnotationError: The file cannot be read, or a line is not such a document; the message names the line.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield _frame(parse_json(line, where), number - 1, where)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error


def read_json(path: Path) -> Iterator[PoseFrame]:
    """Reads a file of ``JsonWriter``, or the document of one picture.

    Raises:
        AnnotationError: The file cannot be read or is not such a document.
    """
    document = load_json(path)
    if isinstance(document, dict) and "frames" not in document and "people" in document:
        yield _frame(document, 0, str(path))
        return
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list):
        raise AnnotationError(f"{path}: not poses of wholepose: an object with a list 'frames' is needed")
    for number, frame in enumerate(frames):
        yield _frame(frame, number, f"{path}, frame {number}")


def load_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        AnnotationError: It cannot be read or is not JSON.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> Any:
    """JSON from bytes.

    Raises:
        AnnotationError: It is not JSON.
    """
    try:
        return json.loads(data, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{where}: not JSON: {error}") from error


def _frame(document: Any, default_index: int, where: str) -> PoseFrame:
    if not isinstance(document, dict):
        raise AnnotationError(f"{where}: an object is needed, not a {type(document).__name__}")
    poses = poses_of_document(document, where)
    index = document.get("frame", default_index)
    if type(index) is not int or not 0 <= index < 2**63:
        raise AnnotationError(f"{where}: field 'frame' must be a whole number from 0 on, and is {str(index)[:40]!r}")
    time_s = document.get("time_s")
    if time_s is not None and (type(time_s) not in (int, float) or not math.isfinite(time_s)):
        raise AnnotationError(f"{where}: field 'time_s' must be a number, and is {str(time_s)[:40]!r}")
    sides = document.get("height"), document.get("width")
    size = (sides[0], sides[1]) if type(sides[0]) is int and type(sides[1]) is int and 0 not in sides else None
    return PoseFrame(
        frame_index=index,
        time_s=None if time_s is None else float(time_s),
        poses=poses,
        image=str(document.get("image", "")),
        size=size,
        model=str(document.get("model", "")),
        filled=_filled(document["people"], poses.skeleton.num_keypoints, where),
    )


def _filled(people: list[Mapping[str, Any]], count: int, where: str) -> Any:
    if not any("filled" in person for person in people):
        return None
    filled = np.zeros((len(people), count), dtype=np.bool_)
    for row, person in enumerate(people):
        indices = person.get("filled", [])
        if not isinstance(indices, list) or not all(type(index) is int and 0 <= index < count for index in indices):
            raise AnnotationError(f"{where}: person {row}: field 'filled' must list keypoints from 0 to {count - 1}")
        filled[row, indices] = True
    return filled
