"""Finds the writer and the reader of a format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from wholepose.errors import AnnotationError, ConfigError
from wholepose.formats.frame import PoseFrame
from wholepose.formats.json_files import JsonLinesWriter, JsonWriter, read_json, read_json_lines
from wholepose.formats.npz import NpzWriter, read_npz
from wholepose.formats.openpose import OpenPoseWriter, read_openpose
from wholepose.formats.result_lists import AlphaPoseWriter, CocoWriter, read_alphapose, read_coco
from wholepose.formats.tables import AnglesWriter, CsvWriter, ParquetWriter, read_csv, read_parquet
from wholepose.formats.trc import TrcWriter, read_trc
from wholepose.formats.writer import PoseWriter
from wholepose.skeletons import Skeleton


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: What its files end in; "" for a folder.
        description: In a few words.
        writer: Its class.
        read: Reads a file; takes a skeleton as second argument where ``names_skeleton`` is False.
        names_skeleton: Whether the file itself says what its keypoints are called.
        options: Names of the options of ``open_writer`` that it takes.
    """

    suffix: str
    description: str
    writer: Callable[..., PoseWriter]
    read: Callable[..., Iterator[PoseFrame]] | None
    names_skeleton: bool = False
    options: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "json": Format(".json", "one document", JsonWriter, read_json, True, ("uncertainty",)),
        "jsonl": Format(".jsonl", "a document a line", JsonLinesWriter, read_json_lines, True, ("uncertainty",)),
        "coco": Format(".json", "COCO keypoint results", CocoWriter, read_coco),
        "openpose": Format("", "OpenPose's folder, a file a frame", OpenPoseWriter, read_openpose),
        "alphapose": Format(".json", "AlphaPose's list", AlphaPoseWriter, read_alphapose),
        "csv": Format(".csv", "a row a keypoint", CsvWriter, read_csv),
        "parquet": Format(".parquet", "the same, packed [parquet]", ParquetWriter, read_parquet),
        "npz": Format(".npz", "NumPy arrays", NpzWriter, read_npz, True),
        "trc": Format(".trc", "markers, a file a person", TrcWriter, read_trc, False, ("metres_per_pixel",)),
        "angles": Format(".csv", "joint angles, a row a person", AnglesWriter, None),
    }
)
"""All formats by name."""


def open_writer(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    skeleton: Skeleton,
    model: str,
    uncertainty: bool = False,
    metres_per_pixel: float | None = None,
) -> PoseWriter:
    """Opens a file, or a folder, for poses.

    Args:
        path: Where to write; it appears there when the writer is closed without an error.
        format: A key of ``FORMATS``; None goes by the suffix of ``path``.
        skeleton: What to write; poses of another are converted.
        model: Name of the model, for formats that say it.
        uncertainty: Write covariances; ``json`` and ``jsonl`` only (``npz`` always does).
        metres_per_pixel: Write metres instead of pixels; ``trc`` only.

    Raises:
        ConfigError: There is no such format, it does not take an option, or it needs a package that is not installed.
        OSError: The file cannot be written.
    """
    name = format if format is not None else _guess(Path(path))
    chosen = _format(name)
    given: dict[str, Any] = {}
    if uncertainty:
        given["uncertainty"] = True
    if metres_per_pixel is not None:
        given["metres_per_pixel"] = metres_per_pixel
    for option in given:
        if option not in chosen.options:
            takers = ", ".join(other for other, each in FORMATS.items() if option in each.options)
            raise ConfigError(f"format {name!r} does not take {option}; only {takers} does")
    return chosen.writer(path, skeleton=skeleton, model=model, **given)


def read_poses_file(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    skeleton: Skeleton | None = None,
) -> Iterator[PoseFrame]:
    """Reads poses frame by frame.

    Args:
        path: The file or folder.
        format: A key of ``FORMATS``; None goes by the suffix of ``path``, and for ``.json`` by what the file starts
            with: an object is ours, a list is COCO's or AlphaPose's.
        skeleton: What the keypoints are, for formats that do not say it themselves and where their number or names
            leave it open; for ``openpose`` the skeleton to convert to.

    Yields:
        Frames in order. Errors come while reading: a file may be broken after its first thousand frames.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the place.
        ConfigError: There is no such format, or it needs a package that is not installed.
    """
    file = Path(path)
    name = format if format is not None else _look(file)
    chosen = _format(name)
    if chosen.read is None:
        raise ConfigError(f"{file}: the format {name!r} holds no poses; wholepose.formats.read_angles reads it")
    last = -1
    for frame in chosen.read(file) if chosen.names_skeleton else chosen.read(file, skeleton):
        if frame.frame_index <= last:
            raise AnnotationError(f"{file}: frame {frame.frame_index} comes after frame {last}; put them in order")
        last = frame.frame_index
        yield frame


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _guess(path: Path) -> str:
    """The format of a name; the first that has its suffix."""
    suffix = path.suffix.lower()
    for name, each in FORMATS.items():
        if each.suffix and each.suffix == suffix:
            return name
    raise ConfigError(f"{path}: the format cannot be told by the name; choose one of {', '.join(FORMATS)}")


def _look(path: Path) -> str:
    """The format of a file that is there."""
    if path.is_dir():
        return "openpose"
    name = _guess(path)
    if name != "json":
        return name
    try:
        with path.open("rb") as file:
            head = file.read(4096).lstrip()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    if head.startswith(b"["):
        entry = head.partition(b"{")[2]
        first = entry[: entry.find(b'"keypoints"')] if b'"keypoints"' in entry else entry
        return "alphapose" if b'"image_id":"' in first.replace(b" ", b"") else "coco"
    return "openpose" if path.name.endswith("_keypoints.json") else name
