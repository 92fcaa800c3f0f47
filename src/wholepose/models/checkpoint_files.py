"""Opening weight files safely: what is in them is data, and nothing in them ever runs.

PyTorch's restricted unpickler (``weights_only=True``) reads ``.pth`` and ``.pt`` files. Training frameworks put a few
NumPy numbers beside the weights; those few types are let through as an inert stand-in, since nobody needs their values.
There is no fallback for other files.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch

from wholepose.errors import WeightsError

_SAFETENSORS_HEADER_LIMIT_BYTES = 100_000_000


class _Ignored:
    """Stands for an object that was pickled beside the weights: takes any arguments and keeps none of them."""

    def __new__(cls, *_arguments: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


_IGNORED_NAMES = (
    "numpy.core.multiarray.scalar",  # NumPy 1
    "numpy._core.multiarray.scalar",  # NumPy 2
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "mmengine.logging.history_buffer.HistoryBuffer",  # the loss curve in checkpoints of MMPose 1.x
)


def read_tensors(path: str | Path) -> tuple[Mapping[str, object], dict[str, str]]:
    """Reads what a weight file holds; its type is told from its first bytes, not from its name.

    Args:
        path: A ``.safetensors`` file, or one that ``torch.save`` wrote (``.pth``, ``.pt``).

    Returns:
        The top-level dictionary as it is in the file, on the CPU, and the safetensors metadata (else empty).

    Raises:
        WeightsError: The file is missing, damaged, of another type, or wants to run code.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise _unreadable(path, error) from error
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _SAFETENSORS_HEADER_LIMIT_BYTES:
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return _read_pickled(path), {}
    if head.startswith(b"\x80"):
        return _read_pickled(path), {}
    raise WeightsError(f"{path}: {_describe(head)}; weights come as .safetensors, or as .pth or .pt of PyTorch")


def _unreadable(path: str | Path, error: OSError) -> WeightsError:
    reason = error.strerror or str(error)
    return WeightsError(f"{path}: cannot be read ({reason}); check the path, or download the file again")


def _describe(head: bytes) -> str:
    """Says what a file that is no weight file looks like."""
    if not head:
        return "the file is empty"
    if head.startswith(b"\x93NUMPY"):
        return "this is a NumPy array"
    if head.lstrip().lower().startswith((b"<!doc", b"<html", b"<?xml", b"<head")):
        return "this is a web page, not weights (a download that went wrong?)"
    if b"git-lfs" in head or head.startswith(b"version https:"):
        return "this is a Git LFS pointer, not the file itself (run `git lfs pull`)"
    return f"this is no weight file (it starts with {head[:8]!r})"


def _read_safetensors(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    state: dict[str, object] = {}
    key = "the header"
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                # A copy: the tensor given is a view of the mapped file, which somebody may cut short meanwhile.
                state[key] = file.get_tensor(key).clone()
    except Exception as error:  # its own type, but also RuntimeError and ValueError for odd dtypes and shapes
        raise WeightsError(
            f"{path}: damaged safetensors file, at {key}: {_first_line(error)}; download or convert it again"
        ) from error
    return state, metadata


def _check_archive(path: Path) -> None:
    """Refuses archives that would unpack to more than their size; ``torch.save`` never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{path}: damaged or cut short ({error}); download it again") from error
    if packed:
        raise WeightsError(f"{path}: this is a compressed ZIP archive ({packed[0]!r}), which PyTorch never writes")


def _read_pickled(path: Path) -> Mapping[str, object]:
    allowed = [(_Ignored, name) for name in _IGNORED_NAMES]
    try:
        with torch.serialization.safe_globals([_Ignored, *allowed]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats and pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise nearly anything
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise WeightsError(
                f"{path}: holds Python code or objects ({named[1]}), not only weights; nothing of it was run. Ask its "
                "author for a plain state dict or a .safetensors file"
            ) from error
        raise WeightsError(
            f"{path}: not a plain PyTorch checkpoint, or damaged: {_cause(error)}; nothing of it was run"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _cause(error: Exception) -> str:
    """What the unpickler found, without PyTorch's advice to load the file unsafely."""
    detail = re.search(r"WeightsUnpickler error: (.+)", str(error))
    return detail[1].strip() if detail else _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
