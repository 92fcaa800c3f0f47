"""From a name to a checked file on this machine: embedded, in the cache, or downloaded into it."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wholepose.errors import ConfigError, WeightsError
from wholepose.images.kinds import printable_path
from wholepose.outputs import atomic_path
from wholepose.weights.embedded_models import embedded_models
from wholepose.weights.files import SUFFIXES, sha256_of, weights_format
from wholepose.weights.registry import REGISTRY, RegistryEntry, find_entry


def cache_folder() -> Path:
    """Returns the folder for what wholepose downloads; it need not exist.

    ``WHOLEPOSE_HOME`` where that is set, else ``wholepose`` in the system's folder for caches (``XDG_CACHE_HOME`` or
    ``~/.cache``, ``~/Library/Caches``, ``%LOCALAPPDATA%``).

    Raises:
        WeightsError: This user has no home folder and ``WHOLEPOSE_HOME`` is not set.
    """
    try:
        chosen = os.environ.get("WHOLEPOSE_HOME")
        if chosen:
            return Path(chosen).expanduser().absolute()
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME", ""))
            if not base.is_absolute():  # so the standard says
                base = Path.home() / ".cache"
        return base / "wholepose"
    except RuntimeError as error:
        raise WeightsError("this user has no home folder; set WHOLEPOSE_HOME to a folder for weights") from error


def cached_path(entry: RegistryEntry) -> Path:
    """Returns where an entry's file lies in the cache, or would lie."""
    return cache_folder() / "weights" / entry.file_name


def resolve(name_or_path: str | os.PathLike[str], *, offline: bool | None = None) -> Path:
    """Returns the weights file of a name or a path, downloading it where it must and may.

    The hash of an embedded or registered file is compared every time. A file that is named by its path is the caller's
    own: only its ending and its content must agree.

    Args:
        name_or_path: ``"default"``, ``"detector"``, a name of the registry, a published file name, or a path.
        offline: Whether the network is forbidden; None leaves that to ``WHOLEPOSE_OFFLINE``.

    Returns:
        Path of a file that exists.

    Raises:
        WeightsError: Nothing is known by this name, the file is missing, damaged or not what it says, or it cannot be
            downloaded; the message says where to get it, where to put it and what its hash must be.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str):
        embedded = embedded_models()
        if text in embedded:
            embedded[text].check()
            return embedded[text].path
        if text in REGISTRY:
            return _from_cache(REGISTRY[text], offline)
    path = Path(text)
    if "\0" not in text and os.path.lexists(path):
        weights_format(path)
        return path
    entry = find_entry(text)
    if entry is not None:
        return _from_cache(entry, offline)
    if path.suffix.lower() in SUFFIXES or len(path.parts) != 1:
        raise WeightsError(f"{printable_path(text)}: this weights file does not exist")
    names = [*embedded_models(), *REGISTRY]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise WeightsError(f"no weights are called {text!r}; {hint}known are {', '.join(names)}, or a path")


def resolve_model(name_or_path: str | os.PathLike[str], *, offline: bool | None = None) -> Path:
    """Returns the file of a model that finds keypoints; what is known to be none is refused before it is downloaded.

    Args:
        name_or_path: See ``resolve``.
        offline: Likewise.

    Returns:
        Path of a file that exists.

    Raises:
        ConfigError: The name is the detector's, or that of a published checkpoint, which has to be converted.
        WeightsError: See ``resolve``.
    """
    if name_or_path == "detector":
        raise ConfigError("'detector' finds people, not keypoints; name 'default' or 'clean' for those")
    text = os.fspath(name_or_path)
    named = isinstance(name_or_path, str) and (text in REGISTRY or not Path(text).exists())
    entry = find_entry(text) if named else None
    if entry is not None and SUFFIXES[Path(entry.file_name).suffix] == "checkpoint":
        raise ConfigError(
            f"{text}: is a checkpoint, which no runtime reads; convert it once: "
            f"wholepose convert {text} --out {entry.arch}.safetensors"
        )
    return resolve(name_or_path, offline=offline)


def _from_cache(entry: RegistryEntry, offline: bool | None) -> Path:
    """Returns an entry's checked file, which is downloaded where it is not there."""
    from wholepose.weights.download import download, is_offline

    path = cached_path(entry)
    by_hand = (
        f"get {entry.source_by_hand}, put it at {printable_path(path)} (or run: wholepose models import FILE); "
        f"sha256 {entry.expected}"
    )
    if not entry.urls or (is_offline() if offline is None else offline):
        why = "the network is switched off" if entry.urls else "it cannot be downloaded"
        if not path.is_file():
            raise WeightsError(f"{entry.name}: not in the cache, and {why}; {by_hand}")
        actual = sha256_of(path)
        if not actual.startswith(entry.sha256):
            raise WeightsError(
                f"{entry.name}: the file in the cache is damaged (sha256 {actual}), and {why}; {by_hand}"
            )
        return path
    try:
        return download(entry.urls, path, sha256=entry.sha256, size_bytes=entry.size_bytes)
    except WeightsError as error:
        note = f" {entry.note}." if entry.note else ""
        raise WeightsError(f"{entry.name}: {error}.{note} By hand: {by_hand}") from error


def import_file(path: str | os.PathLike[str]) -> tuple[RegistryEntry, Path]:
    """Copies a registered weights file from anywhere on this machine into the cache.

    It is recognised by its hash, so that it may have been renamed.

    Args:
        path: The file.

    Returns:
        What it is, and where it lies now.

    Raises:
        WeightsError: It is not a registered file, or its bytes are not what its name says (both hashes are shown), or
            the cache cannot be written to.
    """
    name = printable_path(path)
    actual = sha256_of(path)
    entry = next((entry for entry in REGISTRY.values() if actual.startswith(entry.sha256)), None)
    if entry is None:
        meant = find_entry(Path(path).name)
        if meant is not None:
            raise WeightsError(
                f"{name}: is not the file that its name says (sha256 {actual}, expected {meant.expected}); it was cut "
                f"short or changed, get it again"
            )
        raise WeightsError(
            f"{name}: is not a registered file (sha256 {actual}); other checkpoints are used by their path, after "
            f"`wholepose convert`"
        )
    target = cached_path(entry)
    try:
        if target.exists() and target.samefile(path):
            return entry, target
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with atomic_path(target) as temporary, Path(path).open("rb") as source, temporary.open("wb") as copy:
            while block := source.read(1 << 20):
                digest.update(block)
                copy.write(block)
            if digest.hexdigest() != actual:
                raise WeightsError(f"{name}: changed while it was copied; import it again")
    except OSError as error:
        raise WeightsError(
            f"{name}: cannot be copied into the cache {printable_path(target.parent)} ({error.strerror or error}); "
            f"set WHOLEPOSE_HOME to a folder that can be written to and has room"
        ) from error
    return entry, target


@dataclass(frozen=True)
class Verified:
    """What `verify` found of one model.

    Attributes:
        name: Its name.
        path: Where its file lies, or would lie.
        state: ``"ok"``, ``"damaged"`` or ``"missing"``.
        expected: What its hash must be, in words.
        actual: What its hash is; None where the file is missing or cannot be read.
    """

    name: str
    path: Path
    state: Literal["ok", "damaged", "missing"]
    expected: str
    actual: str | None


def verify(name: str | None = None) -> list[Verified]:
    """Compares the files of embedded and registered models with their hashes.

    Args:
        name: One model; all where it is None.

    Returns:
        What was found, in the order of `wholepose models list`.

    Raises:
        WeightsError: No model has this name.
    """
    found = [
        _verified(model.name, model.path, model.sha256, model.sha256)
        for model in embedded_models().values()
        if name in (None, model.name)
    ]
    found += [
        _verified(entry.name, cached_path(entry), entry.sha256, entry.expected)
        for entry in REGISTRY.values()
        if name in (None, entry.name, entry.file_name)
    ]
    if not found and name is not None:
        raise WeightsError(f"no model is called {name!r}; `wholepose models list` shows them")
    return found


def _verified(name: str, path: Path, sha256: str, expected: str) -> Verified:
    if not path.exists():
        return Verified(name, path, "missing", expected, None)
    try:
        actual = sha256_of(path)
    except WeightsError:
        return Verified(name, path, "damaged", expected, None)
    return Verified(name, path, "ok" if actual.startswith(sha256) else "damaged", expected, actual)
