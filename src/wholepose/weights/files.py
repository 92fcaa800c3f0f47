"""Weights files: what they are by name and content, their card, their hash. Nothing here runs or unpickles anything."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from wholepose.errors import WeightsError
from wholepose.images.kinds import HEAD_BYTES, kind_of, printable_path
from wholepose.weights.card import ModelCard
from wholepose.weights.onnx_file import check_onnx_file

WeightsFormat = Literal["onnx", "safetensors", "checkpoint"]

SUFFIXES: dict[str, WeightsFormat] = {
    ".onnx": "onnx",
    ".safetensors": "safetensors",
    ".pth": "checkpoint",
    ".pt": "checkpoint",
    ".ckpt": "checkpoint",
    ".tar": "checkpoint",  # as the first releases of HRNet are called (.pth.tar)
}
"""What a weights file is, by its ending."""

_LARGEST_SAFETENSORS_HEADER = 100_000_000  # the format's own limit


def weights_format(path: str | os.PathLike[str]) -> WeightsFormat:
    """Tells what a weights file is; its ending and its content must agree.

    Args:
        path: The file.

    Returns:
        ``"onnx"``, ``"safetensors"`` or ``"checkpoint"`` (PyTorch's own format, which needs converting).

    Raises:
        WeightsError: The file cannot be read, is something else than its ending says, or is no weights file.
    """
    name = printable_path(path)
    expected = SUFFIXES.get(Path(path).suffix.lower())
    if expected is None:
        raise WeightsError(f"{name}: is no weights file by its ending; those end in {', '.join(SUFFIXES)}")
    with _open(path, name) as file:
        head = file.read(HEAD_BYTES)
    found = _content(head)
    if found != expected:
        what = {
            "checkpoint": "is a PyTorch checkpoint",
            "safetensors": "is a safetensors file",
            "onnx": "may be an ONNX file",
        }.get(found, f"is {kind_of(head)}")
        raise WeightsError(f"{name}: is called like {_A[expected]} but {what}; it is not opened")
    return expected


_A = {"onnx": "an ONNX file", "safetensors": "a safetensors file", "checkpoint": "a PyTorch checkpoint"}


def _content(head: bytes) -> str:
    """Tells the format from a file's first bytes; ``""`` for none of ours."""
    pickles = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    if head.startswith((b"PK\x03\x04", *pickles)) or head[257:262] == b"ustar":
        return "checkpoint"  # a ZIP archive since PyTorch 1.6, a bare pickle or a tar archive before
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_SAFETENSORS_HEADER:
        return "safetensors"
    # ONNX has no magic number; check_onnx_file looks closer.
    return "onnx" if kind_of(head) == "of an unknown kind" else ""


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """Reads the model card from an ONNX or safetensors file, without loading the model.

    Args:
        path: The file.

    Returns:
        Its card.

    Raises:
        WeightsError: The file cannot be read, is damaged, unsafe, or has no card; a checkpoint never has one.
    """
    name = printable_path(path)
    form = weights_format(path)
    if form == "onnx":
        return ModelCard.from_metadata(check_onnx_file(path).metadata, name)
    if form == "safetensors":
        return ModelCard.from_metadata(_safetensors_metadata(path, name), name)
    raise WeightsError(f"{name}: a PyTorch checkpoint has no model card; convert it: wholepose convert FILE --help")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns a file's SHA-256 as 64 lower-case hex digits.

    Raises:
        WeightsError: The file cannot be read.
    """
    name = printable_path(path)
    digest = hashlib.sha256()
    with _open(path, name) as file:
        try:
            while block := file.read(1 << 20):
                digest.update(block)
        except OSError as error:
            raise WeightsError(f"{name}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def _open(path: str | os.PathLike[str], name: str) -> BinaryIO:
    """Opens a regular file; a pipe would make it wait."""
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            raise WeightsError(f"{name}: is {'a folder' if stat.S_ISDIR(mode) else 'a special file'}, not a file")
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise WeightsError(f"{name}: does not exist") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _safetensors_metadata(path: str | os.PathLike[str], name: str) -> dict[str, str]:
    """Reads ``__metadata__`` from the JSON at the head of a safetensors file."""
    with _open(path, name) as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= _LARGEST_SAFETENSORS_HEADER else b""
    if len(text) != length:
        raise WeightsError(f"{name}: this safetensors file is cut short in its header")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: the header of this safetensors file is not JSON ({error})") from error
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{name}: the metadata of this safetensors file is no map of texts")
    return metadata
