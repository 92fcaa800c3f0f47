"""What an ONNX file says about itself, read without running it and without the onnx package.

ONNX is a protocol buffer; only the few fields that hold metadata, nested graphs and tensors are followed. Weights may
lie in further files, which a hostile model can point anywhere: such a place outside the model's folder is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from wholepose.errors import WeightsError
from wholepose.images.kinds import HEAD_BYTES, kind_of, printable_path

_LARGEST_BYTES = 1 << 31  # no protocol buffer is larger
_DEEPEST = 150
"""Messages within messages; a graph in a graph is three deep (graph, node, attribute), and real models nest twice."""

# For each message: field number -> the message that it holds. A tensor's external_data (13) is a list of pairs.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "metadata", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Number, size and time of change, by which a file is told from one that took its place; zeros: it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class OnnxFile:
    """What was found in an ONNX file.

    Attributes:
        metadata: The model's ``metadata_props``.
        external_files: Names of the further files that hold weights, relative to the model's folder.
    """

    metadata: dict[str, str] = field(default_factory=dict)
    external_files: frozenset[str] = frozenset()


def check_onnx_file(path: str | os.PathLike[str]) -> OnnxFile:
    """Reads what an ONNX file says about itself and refuses one whose weights lie outside its folder.

    Args:
        path: The ``.onnx`` file.

    Returns:
        Its metadata, and the further files that it needs.

    Raises:
        WeightsError: The file cannot be read, is not ONNX, or keeps weights outside its folder; the place is named.
    """
    name = printable_path(path)
    data = _read(path, name)
    found = _Found()
    try:
        _walk(data, 0, len(data), "model", found, 0)
    except (_MalformedError, UnicodeDecodeError) as error:
        kind = kind_of(data[:HEAD_BYTES])
        seems = "" if kind == "of an unknown kind" else f"; the file is {kind}"
        raise WeightsError(f"{name}: is not a sound ONNX model ({error}){seems}") from error
    if not found.nodes:
        raise WeightsError(f"{name}: is not an ONNX model; it holds no graph")
    folder = Path(path).parent
    for location in sorted(found.locations):
        _check_location(location, folder, name)
    return OnnxFile(found.metadata, frozenset(found.locations))


class _MalformedError(Exception):
    """The bytes are no protocol buffer of the expected kind."""


@dataclass
class _Found:
    metadata: dict[str, str] = field(default_factory=dict)
    locations: set[str] = field(default_factory=set)
    nodes: int = 0


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{name}: is not a file")
        if status.st_size >= _LARGEST_BYTES:
            raise WeightsError(f"{name}: has {status.st_size} bytes; no ONNX file has more than {_LARGEST_BYTES}")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"{name}: does not exist") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: cannot be read ({error})") from error


def _walk(data: bytes, start: int, end: int, message: str, found: _Found, depth: int) -> None:
    """Follows the fields of one message; a field that comes twice is followed twice, as its parts are merged."""
    if depth > _DEEPEST:
        raise _MalformedError("graphs nested too deep")
    if message == "node":
        found.nodes += 1
    inner = _MESSAGES[message]
    for number, first, last in _fields(data, start, end):
        held = inner.get(number)
        if held == "metadata":
            key, value = _pair(data, first, last)
            found.metadata[key] = value
        elif held == "external":
            key, value = _pair(data, first, last)
            if key == "location":
                found.locations.add(value)
        elif held is not None:
            _walk(data, first, last, held, found, depth + 1)


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field number, start, end) of each length-delimited field; numbers of other types are stepped over."""
    while position < end:
        tag, position = _varint(data, position, end)
        wire = tag & 7
        if tag >> 3 == 0 or tag >> 32:  # readers drop what is beyond 32 bits, and would see another field
            raise _MalformedError(f"field number {tag >> 3}")
        if wire == 0:
            _, position = _varint(data, position, end)
        elif wire == 1:
            position += 8
        elif wire == 5:
            position += 4
        elif wire == 2:
            length, position = _varint(data, position, end)
            if length > end - position:
                raise _MalformedError("a field is longer than the file")
            yield tag >> 3, position, position + length
            position += length
        else:  # groups, which ONNX never uses and a reader might skip differently
            raise _MalformedError(f"wire type {wire}")
        if position > end:
            raise _MalformedError("cut short")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _MalformedError("cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _MalformedError("a number of more than 64 bits")


def _pair(data: bytes, start: int, end: int) -> tuple[str, str]:
    """Reads a StringStringEntryProto: key in field 1, value in field 2."""
    parts = {1: "", 2: ""}
    for number, first, last in _fields(data, start, end):
        if number in parts:
            parts[number] = data[first:last].decode()
    return parts[1], parts[2]


def _check_location(location: str, folder: Path, name: str) -> None:
    """Refuses a place that is not a plain file inside the model's folder, whichever system's path it is written as."""
    refused = f"{name}: keeps weights in {location!r}, "
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    windows = PureWindowsPath(location)
    if not location or "\0" in location or ".." in parts or location.startswith(("/", "\\")) or windows.drive:
        raise WeightsError(f"{refused}outside its folder, which is never opened; export it again into one file")
    target = Path(os.path.realpath(folder / location))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise WeightsError(f"{refused}which is a link that leads outside its folder; export it again into one file")
    if not target.is_file():
        raise WeightsError(f"{refused}which does not exist; put that file beside the model")
