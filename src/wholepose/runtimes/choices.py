"""What ``wholepose bench`` found fastest on this machine, for ``runtime="auto"`` to use.

One JSON file in the cache folder holds a choice for each model file, device and precision that was measured. Nothing is
measured here: where there is no choice, the suffix of the file decides.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wholepose.errors import WeightsError
from wholepose.outputs import write_json
from wholepose.runtimes.base import available_cores
from wholepose.weights.cache import cache_folder
from wholepose.weights.files import sha256_of

FILE_NAME = "runtimes.json"
ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino", "torch")
"""Distributions whose versions a choice depends on."""

_CPU_FILE = Path("/proc/cpuinfo")
_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Choice:
    """The fastest engine for one model file on one machine.

    Attributes:
        model_sha256: Hash of the file, 64 hex digits.
        size_bytes: Its size.
        device: What was asked for: ``"auto"``, ``"cpu"`` ...
        precision: Of the arithmetic.
        runtime: The engine.
        threads: CPU threads of a call.
        milliseconds: What a crop took.
        measured: When, ISO 8601.
        machine: See ``this_machine``.
        versions: See ``engine_versions``.
    """

    model_sha256: str
    size_bytes: int
    device: str
    precision: str
    runtime: str
    threads: int
    milliseconds: float
    measured: str
    machine: Mapping[str, str | int] = field(hash=False)
    versions: Mapping[str, str] = field(hash=False)

    def _is_about(self, other: Choice) -> bool:
        return (self.model_sha256, self.device, self.precision) == (other.model_sha256, other.device, other.precision)


def choices_path() -> Path:
    """Returns where the choices lie, or would lie."""
    return cache_folder() / FILE_NAME


def save_choice(choice: Choice) -> Path:
    """Stores a choice in place of an older one about the same file, device and precision.

    Returns:
        The file written.

    Raises:
        OSError: It cannot be written.
        WeightsError: There is no place for a cache.
    """
    path = choices_path()
    kept = [other for other in _read(path) if not other._is_about(choice)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"choices": [asdict(each) for each in [*kept, choice]]})
    return path


def find_choice(path: Path, device: str, precision: str) -> Choice | None:
    """Finds what was measured fastest for a model file here.

    The file is hashed only where a choice about one of its size is known. A choice made on another machine or with
    other versions is not followed, and a warning names it.

    Args:
        path: The model file.
        device: As asked for.
        precision: Likewise.

    Returns:
        The choice, or None.
    """
    try:
        size = path.stat().st_size
        known = [each for each in _read(choices_path()) if each.size_bytes == size]
        known = [each for each in known if (each.device, each.precision) == (device, precision)]
        if not known:
            return None
        model = sha256_of(path)
    except (OSError, WeightsError):  # no cache here, or no such file, which whoever loads it will say
        return None
    for choice in known:
        if choice.model_sha256 != model:
            continue
        stale = _differences(choice)
        if not stale:
            return choice
        warnings.warn(
            f"{path.name}: the choice of {choice.runtime} of {choice.measured[:10]} is not used, since {stale}; run "
            "`wholepose bench` again",
            stacklevel=3,
        )
    return None


def this_machine() -> dict[str, str | int]:
    """What a timing depends on besides software: ``cpu``, ``cores`` that this process may use, and ``gpu``."""
    return {"cpu": _cpu_name(), "cores": available_cores(), "gpu": _gpu_name()}


def engine_versions() -> dict[str, str]:
    """Versions of the engines that are installed, none of which is imported."""
    versions = {}
    for name in ENGINES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _differences(choice: Choice) -> str:
    """What has changed since a choice was measured, in words; empty where nothing has."""
    now = {**this_machine(), **engine_versions()}
    then = {**choice.machine, **choice.versions}
    return ", ".join(
        f"{name} is {now.get(name, 'not installed')} and was {then.get(name, 'not installed')}"
        for name in sorted({*now, *then})
        if now.get(name) != then.get(name)
    )


def _read(path: Path) -> list[Choice]:
    """The choices of a file; none where it is absent, or damaged, which a warning says."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [_checked(row) for row in document["choices"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        warnings.warn(
            f"{path}: the measured choices of runtimes cannot be read ({error}); run `wholepose bench` again",
            stacklevel=4,
        )
        return []


def _checked(row: Mapping[str, Any]) -> Choice:
    choice = Choice(**row)
    texts = (choice.model_sha256, choice.device, choice.precision, choice.runtime, choice.measured)
    numbers = (choice.size_bytes, choice.threads)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("a field has the wrong type")
    if not isinstance(choice.machine, dict) or not isinstance(choice.versions, dict) or choice.threads < 1:
        raise ValueError("a field has the wrong type")
    return choice


@functools.cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        lines = dict(
            line.split(":", 1)
            for line in _CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
            if ":" in line
        )
        names = {key.strip(): value.strip() for key, value in lines.items()}
        if names.get("model name"):
            return names["model name"]
    return platform.processor() or platform.machine()


@functools.cache
def _gpu_name() -> str:
    """NVIDIA's name of the first GPU where Linux's driver tells it, else empty."""
    with contextlib.suppress(OSError):
        for information in sorted(_GPU_FOLDER.glob("*/information")):
            for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("Model:"):
                    return line.removeprefix("Model:").strip()
    return ""
