"""Files by address: on this machine, and on whatever file system pyarrow or fsspec reaches."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from wholepose.errors import ConfigError, ImageError, VideoError, require
from wholepose.images import IMAGE_SUFFIXES, find_images
from wholepose.outputs import atomic_path
from wholepose.videos import VIDEO_SUFFIXES

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|:.*//)")  # s3://..., and fsspec's simplecache::s3://...
_COPY_BYTES = 1 << 20

# In folders .ts is left out: most files of that name are programs.
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES - {".ts"}
"""Endings of what is taken from folders."""


def is_address(name: str) -> bool:
    """Whether a name is an address such as ``s3://bucket/folder`` rather than a path on this machine."""
    return _ADDRESS.match(name) is not None


@dataclass(frozen=True)
class Store:
    """A place on a file system: a file or a folder.

    Attributes:
        filesystem: pyarrow's ``FileSystem``.
        path: As that file system writes it, without a scheme.
        prefix: What an address on it begins with, such as ``"s3://"``; "" on this machine.
    """

    filesystem: Any
    path: str
    prefix: str

    @property
    def is_local(self) -> bool:
        """Whether paths here are paths of this machine."""
        return self.prefix == ""

    def address(self, path: str) -> str:
        """How a path on this file system is called in messages and results."""
        return self.prefix + path


def open_store(name: str) -> Store:
    """Finds the file system of an address.

    Args:
        name: A path of this machine, or an address that pyarrow (``s3://``, ``gs://``, ``hdfs://``, ``file://``) or an
            installed fsspec package (``az://``, ``sftp://``, ...) understands.

    Raises:
        ConfigError: Nothing here understands it.
    """
    fs = require("pyarrow.fs", "ray")
    if not is_address(name):
        return Store(fs.LocalFileSystem(), os.path.abspath(name), "")  # noqa: PTH100 - a link keeps its own name
    try:
        filesystem, path = fs.FileSystem.from_uri(name)
    except (ValueError, NotImplementedError):  # pyarrow does not know the scheme
        filesystem, path = _open_with_fsspec(name)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be reached: {error}") from error
    prefix = "" if filesystem.type_name == "local" else name[: name.index("//") + 2]
    return Store(filesystem, path.rstrip("/") or path, prefix)


def _open_with_fsspec(name: str) -> tuple[Any, str]:
    fs = require("pyarrow.fs", "ray")
    fsspec = require("fsspec", "ray")
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"{name}: no file system is known for this address: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


class Source(NamedTuple):
    """A picture or a video to predict.

    Attributes:
        name: What results call it: its path, absolute, or its address.
        path: As its file system writes it.
        size_bytes: Of the file; 0 where that is not known.
    """

    name: str
    path: str
    size_bytes: int

    @property
    def is_video(self) -> bool:
        """Whether its ending is a video's."""
        return PurePosixPath(self.path).suffix.lower() in VIDEO_SUFFIXES


class Listing(NamedTuple):
    """What a list of names leads to.

    Attributes:
        store: The file system of all sources; its path means nothing.
        sources: Sorted by name, each once.
        problems: (what was named, why nothing came of it).
    """

    store: Store
    sources: list[Source]
    problems: list[tuple[str, str]]


def list_sources(names: Sequence[str], *, suffixes: Collection[str] = SUFFIXES) -> Listing:
    """Lists pictures and videos.

    Names on this machine are files, folders (without their sub-folders) and patterns, as ``wholepose predict`` takes
    them. An address is a file, or a folder with all that is below it, since object stores have no folders.

    Args:
        names: All on one file system.
        suffixes: Endings, in lower case, of the files that are taken from folders.

    Raises:
        ConfigError: There are no names, they lie on several file systems, or nothing here understands an address.
    """
    if not names:
        raise ConfigError("name at least one picture, video, folder or address")
    if not any(map(is_address, names)):
        found = find_images(names, suffixes=suffixes)
        store = open_store(".")
        paths = (os.path.abspath(path) for path in found.paths)  # noqa: PTH100
        sources = {path: Source(printable(path), path, _local_size(path)) for path in paths}
        return Listing(store, sorted(sources.values()), list(found.problems))
    stores = [open_store(name) for name in names]
    if any(store.filesystem != stores[0].filesystem for store in stores):
        raise ConfigError(f"{names[0]} and {names[-1]} lie on different file systems; run one job for each")
    sources, problems = {}, []
    for name, store in zip(names, stores, strict=True):
        try:
            infos = _files_below(store, suffixes)
        except OSError as error:
            problems.append((name, f"cannot be listed ({error.strerror or error})"))
            continue
        if not infos:
            problems.append((name, "no picture and no video is there"))
        for info in infos:
            sources[info.path] = Source(printable(store.address(info.path)), info.path, info.size or 0)
    return Listing(stores[0], sorted(sources.values()), problems)


def _files_below(store: Store, suffixes: Collection[str]) -> list[Any]:
    fs = require("pyarrow.fs", "ray")
    info = store.filesystem.get_file_info(store.path)
    if info.type == fs.FileType.File:
        return [info]
    files = store.filesystem.get_file_info(fs.FileSelector(store.path, recursive=True, allow_not_found=True))
    return [
        file
        for file in files
        if file.type == fs.FileType.File
        and PurePosixPath(file.path).suffix.lower() in suffixes
        and not PurePosixPath(file.path).name.startswith(".")
    ]


def _local_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):  # reading it will say what is wrong
        return 0


def printable(name: str) -> str:
    """A name that UTF-8 can hold, whatever bytes it was made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class NamedBytes(io.BytesIO):
    """A picture's bytes, which know what messages are to call them."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def fetch_picture(store: Store, source: Source, max_bytes: int) -> NamedBytes | str:
    """Gets a picture's bytes; of one on this machine its path, which is all that is needed.

    Raises:
        ImageError: It cannot be read or is over the limit.
    """
    if store.is_local:
        return source.path
    if source.size_bytes > max_bytes:
        raise ImageError(f"{source.name}: is of {source.size_bytes} bytes, and {max_bytes} are the limit")
    try:
        with store.filesystem.open_input_stream(source.path) as stream:
            return NamedBytes(stream.read(max_bytes + 1), source.name)
    except OSError as error:
        raise ImageError(f"{source.name}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def local_copy(store: Store, source: Source) -> Iterator[str]:
    """Gives a path of this machine that holds a video, for as long as the block lasts.

    Raises:
        VideoError: It cannot be read.
        OSError: There is no room for it on this machine.
    """
    if store.is_local:
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="wholepose-") as folder:
        path = Path(folder) / f"video{PurePosixPath(source.path).suffix}"
        with path.open("wb") as file:
            for piece in _pieces(store, source):
                file.write(piece)
        yield os.fspath(path)


def _pieces(store: Store, source: Source) -> Iterator[bytes]:
    """The bytes of a file; what goes wrong with reading them is told apart from what goes wrong with writing them."""
    try:
        with store.filesystem.open_input_stream(source.path) as stream:
            while piece := stream.read(_COPY_BYTES):
                yield piece
    except OSError as error:
        raise VideoError(f"{source.name}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def whole_file(folder: Store, name: str) -> Iterator[Path]:
    """Gives a path to write to; what was written is put under its name in a folder when the block ends without error.

    On this machine that is a rename. Elsewhere the complete file is sent in one go: an object store shows it when the
    last byte has arrived, and not before.

    Raises:
        OSError: It cannot be written.
    """
    if folder.is_local:
        Path(folder.path).mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(folder.path) / name) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="wholepose-") as temporary:
        path = Path(temporary) / name
        yield path
        folder.filesystem.create_dir(folder.path, recursive=True)
        target = f"{folder.path}/{name}"
        try:
            with path.open("rb") as file, folder.filesystem.open_output_stream(target) as stream:
                shutil.copyfileobj(file, stream, _COPY_BYTES)
        except BaseException:  # closing the stream may have put what had arrived in its place
            with contextlib.suppress(OSError):
                folder.filesystem.delete_file(target)
            raise
