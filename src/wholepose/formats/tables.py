"""Tables: a row for each keypoint, as CSV or Parquet, and a row for each person's joint angles, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from wholepose.angles import ANGLES, joint_angles
from wholepose.errors import AnnotationError, ConfigError, require
from wholepose.formats.frame import PoseFrame, poses_of_keypoints, skeleton_of_names
from wholepose.formats.json_files import TIME_DECIMALS
from wholepose.formats.writer import PoseWriter, TextWriter
from wholepose.outputs import COORDINATE_DECIMALS, SCORE_DECIMALS, atomic_path
from wholepose.skeletons import Skeleton, get_skeleton

COLUMNS = ("image", "frame", "time_s", "person", "track_id", "keypoint", "x", "y", "score", "filled")
"""``person`` counts the people of a frame; ``track_id`` and ``time_s`` are empty where unknown."""

ANGLE_COLUMNS = ("image", "frame", "time_s", "person", "track_id", *(f"{name}_deg" for name in ANGLES))
_ROWS_PER_GROUP = 100_000


class CsvWriter(TextWriter):
    """A row for each keypoint of each person of each frame."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        super().__init__(path, skeleton=skeleton, model=model)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def _write(self, frame: PoseFrame) -> None:
        columns = _columns(frame)
        time_s, track_ids = columns["time_s"], columns["track_id"]
        columns["time_s"] = ["" if value is None else f"{value:.{TIME_DECIMALS}f}" for value in time_s]
        columns["track_id"] = ["" if value is None else value for value in track_ids]
        for name, decimals in (("x", COORDINATE_DECIMALS), ("y", COORDINATE_DECIMALS), ("score", SCORE_DECIMALS)):
            columns[name] = (np.round(columns[name].astype(np.float64), decimals) + 0.0).tolist()
        columns["filled"] = columns["filled"].astype(np.int8).tolist()
        self._rows.writerows(zip(*columns.values(), strict=True))


class AnglesWriter(TextWriter):
    """A row for each person of each frame with the angles of ``joint_angles``; one that is not known is empty."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        super().__init__(path, skeleton=skeleton, model=model)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(ANGLE_COLUMNS)

    def _write(self, frame: PoseFrame) -> None:
        angles = np.stack(list(joint_angles(frame.poses).values()), axis=1)
        time_s = "" if frame.time_s is None else f"{frame.time_s:.{TIME_DECIMALS}f}"
        track_ids: Sequence[Any] = [""] * len(frame.poses)
        if frame.poses.track_ids is not None:
            track_ids = frame.poses.track_ids.tolist()
        for person, (track_id, row) in enumerate(zip(track_ids, angles.tolist(), strict=True)):
            numbers = ["" if np.isnan(angle) else f"{angle:.2f}" for angle in row]
            self._rows.writerow([_text(frame.image), frame.frame_index, time_s, person, track_id, *numbers])


class ParquetWriter(PoseWriter):
    """The rows of ``CsvWriter``, typed and packed; the skeleton and the model are in the file's metadata."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        """Opens a temporary file beside ``path``.

        Raises:
            ConfigError: pyarrow is not installed.
            OSError: The folder is missing or may not be written to.
        """
        self._arrow = require("pyarrow", "parquet")
        parquet = require("pyarrow.parquet", "parquet")
        super().__init__(path, skeleton=skeleton, model=model)
        metadata = {"wholepose.skeleton": skeleton.name, "wholepose.model": model}
        arrow = self._arrow
        words = arrow.dictionary(arrow.int32(), arrow.string())
        types = [words, arrow.int64(), arrow.float64(), arrow.int32(), arrow.int64(), words]
        types += [arrow.float32(), arrow.float32(), arrow.float32(), arrow.bool_()]
        self._schema = arrow.schema(list(zip(COLUMNS, types, strict=True)), metadata=metadata)
        temporary = self._cleanup.enter_context(atomic_path(self.path))
        try:
            self._parquet = parquet.ParquetWriter(temporary, self._schema, compression="zstd")
        except OSError as error:
            self._cleanup.close()
            raise OSError(error.errno, error.strerror or str(error), os.fspath(self.path)) from error
        self._cleanup.callback(self._parquet.close)
        self._waiting: list[dict[str, Any]] = []
        self._rows = 0

    def _write(self, frame: PoseFrame) -> None:
        self._waiting.append(_columns(frame))
        self._rows += frame.poses.scores.size
        if self._rows >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = {
            name: np.concatenate([np.asarray(each[name], dtype=object) for each in self._waiting]).tolist()
            for name in COLUMNS
        }
        self._parquet.write_table(self._arrow.table(columns, schema=self._schema))
        self._waiting, self._rows = [], 0

    def _finish(self) -> None:
        if self._rows:
            self._flush()
        self._parquet.close()


def _columns(frame: PoseFrame) -> dict[str, Any]:
    """The columns of a frame's rows, each as long as people times keypoints."""
    poses = frame.poses
    people, count = poses.scores.shape
    track_ids = [None] * people if poses.track_ids is None else poses.track_ids.tolist()
    rows = people * count
    return {
        "image": [_text(frame.image)] * rows,
        "frame": [frame.frame_index] * rows,
        "time_s": [frame.time_s] * rows,
        "person": [person for person in range(people) for _ in range(count)],
        "track_id": [track_id for track_id in track_ids for _ in range(count)],
        "keypoint": list(poses.skeleton.keypoint_names) * people,
        "x": poses.keypoints[..., 0].reshape(-1),
        "y": poses.keypoints[..., 1].reshape(-1),
        "score": poses.scores.reshape(-1),
        "filled": np.zeros(rows, np.bool_) if frame.filled is None else frame.filled.reshape(-1),
    }


def _text(name: str) -> str:
    """A name that UTF-8 can hold, whatever bytes it was made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_csv(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads a file of ``CsvWriter``, a frame at a time.

    Args:
        path: The file.
        skeleton: What the keypoints are; by their names if None.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the line.
    """
    reader = _Rows(path)
    yield from _frames(reader.rows(), path, skeleton, "")


class _Rows:
    """Reads a CSV file of poses into rows of plain values."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Iterator[tuple[Any, ...]]:
        for number, row in _csv_rows(self._path, COLUMNS):
            try:
                yield (
                    row[0],
                    int(row[1]),
                    float(row[2]) if row[2] else None,
                    int(row[3]),
                    int(row[4]) if row[4] else None,
                    row[5],
                    *(float(cell) for cell in row[6:9]),
                    bool(int(row[9])),
                )
            except ValueError as error:
                raise AnnotationError(f"{self._path}, line {number}: {error}") from error


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a CSV file with these columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel writes a mark before the first column
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if tuple(header) == ANGLE_COLUMNS != tuple(columns):
                raise AnnotationError(f"{path}: holds joint angles, not poses; wholepose.formats.read_angles reads it")
            if tuple(header) != tuple(columns):
                raise AnnotationError(f"{path}: the columns must be {','.join(columns)}, not {','.join(header)[:200]}")
            for row in reader:
                if len(row) != len(columns):
                    raise AnnotationError(f"{path}, line {reader.line_num}: {len(row)} cells, not {len(columns)}")
                yield reader.line_num, row
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: not CSV in UTF-8: {error}") from error


def read_parquet(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads a file of ``ParquetWriter``, a row group at a time.

    Raises:
        ConfigError: pyarrow is not installed.
        AnnotationError: The file cannot be read or is no such file.
    """
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            if names != COLUMNS:
                raise AnnotationError(f"{path}: the columns must be {', '.join(COLUMNS)}, not {', '.join(names)[:200]}")
            metadata = file.schema_arrow.metadata or {}
            named = metadata.get(b"wholepose.skeleton")
            if skeleton is None and named is not None:
                skeleton = get_skeleton(named.decode())
            model = metadata.get(b"wholepose.model", b"").decode()
            rows = (
                row
                for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP)
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
            )
            yield from _frames(rows, path, skeleton, model)
    except ConfigError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, arrow.ArrowException) as error:
        raise AnnotationError(f"{path}: cannot be read as Parquet: {error}") from error


def _frames(rows: Iterable[tuple[Any, ...]], path: Path, skeleton: Skeleton | None, model: str) -> Iterator[PoseFrame]:
    """Puts rows, in the order of ``COLUMNS``, together into frames."""
    for index, frame_rows in groupby(rows, key=lambda row: row[1]):
        people = [list(person) for _, person in groupby(frame_rows, key=lambda row: row[3])]
        where = f"{path}, frame {index}"
        names = tuple(row[5] for row in people[0])
        known = skeleton or skeleton_of_names(names)
        if known is None:
            raise AnnotationError(
                f"{where}: no skeleton has exactly these keypoints: {', '.join(map(str, names))[:120]}"
            )
        if any(tuple(row[5] for row in person) != known.keypoint_names for person in people):
            raise AnnotationError(f"{where}: each person must have the keypoints of {known.name}, in that order")
        first = people[0][0]
        yield _frame(first, people, known, model, where)


def _frame(
    first: tuple[Any, ...], people: list[list[tuple[Any, ...]]], skeleton: Skeleton, model: str, where: str
) -> PoseFrame:
    try:
        numbers = np.array([[row[6:9] for row in person] for person in people], dtype=np.float64)
        filled = np.array([[row[9] for row in person] for person in people], dtype=np.bool_)
        track_ids = [person[0][4] for person in people]
        tracked = None if None in track_ids else np.array(track_ids, dtype=np.int64)
        poses = poses_of_keypoints(numbers[..., :2], numbers[..., 2], skeleton, track_ids=tracked)
    except (ValueError, TypeError, OverflowError) as error:
        raise AnnotationError(f"{where}: {error}") from error
    return PoseFrame(first[1], first[2], poses, first[0] or "", None, model, filled if filled.any() else None)


def read_angles(path: str | os.PathLike[str]) -> dict[str, list[Any]]:
    """Reads a table of joint angles.

    Args:
        path: A file of the format ``angles``.

    Returns:
        The columns by name, each with a value a row: ``image`` text, ``frame`` and ``person`` ints, ``time_s`` and
        ``track_id`` numbers or None, and angles such as ``left_knee_deg`` as float degrees, NaN where not known.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the line.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ANGLE_COLUMNS}
    for number, row in _csv_rows(Path(path), ANGLE_COLUMNS):
        try:
            values = [row[0], int(row[1]), float(row[2]) if row[2] else None, int(row[3])]
            values += [int(row[4]) if row[4] else None, *(float(cell) if cell else float("nan") for cell in row[5:])]
        except ValueError as error:
            raise AnnotationError(f"{os.fspath(path)}, line {number}: {error}") from error
        for name, value in zip(ANGLE_COLUMNS, values, strict=True):
            columns[name].append(value)
    return columns
