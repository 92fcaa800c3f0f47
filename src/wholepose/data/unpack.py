"""Archives of data sets, unpacked without trust: nothing lands outside the folder, nothing half done under its name."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from wholepose.errors import AnnotationError

MAX_UNPACKED_BYTES = 200 * 10**9
"""An archive that claims to hold more is refused; the largest official one holds 20 GB."""

MAX_FILES = 2_000_000

# What Python's archive readers raise on damage, unknown compression and encryption.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


def unpack(archive: Path, folder: Path, wanted: str, *, progress: bool = True) -> int:
    """Unpacks one file, or one folder and what is in it.

    Files first gather in a hidden folder, so that an interrupted run leaves none that is half written under its name;
    the next run goes on with those that are complete. Links and special files are left out.

    Args:
        archive: A .zip, .tar, .tar.gz or .tgz file.
        folder: Where to unpack to.
        wanted: Path inside the archive of the file or folder to take, such as ``"val2017"``.
        progress: Show a bar on stderr, where that is a terminal.

    Returns:
        How many files were unpacked.

    Raises:
        AnnotationError: The archive is damaged, holds nothing of what is wanted, or names a place outside the folder.
        OSError: The disk is full or may not be written to.
    """
    gathering = folder / f".unpacking-{archive.name}"
    names: list[PurePosixPath] = []
    total = 0
    try:
        with tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=None if progress else True) as bar:
            for name, size, content in _files(archive):
                total += size
                if total > MAX_UNPACKED_BYTES or len(names) > MAX_FILES:
                    raise AnnotationError(
                        f"{archive}: unpacks to more than {MAX_UNPACKED_BYTES} bytes or {MAX_FILES} files"
                    )
                place = _safe_path(name, archive)
                if not (name == wanted or name.startswith(f"{wanted}/")):
                    continue
                _write(content, gathering / place, size)
                names.append(place)
                bar.update()
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; gzip's and bzip2's have no number
            raise
        raise AnnotationError(f"{archive}: is no archive, or is damaged: {error}; fetch it again") from error
    if not names:
        raise AnnotationError(f"{archive}: holds no {wanted!r}; it is another archive than the official one")
    places = dict.fromkeys(names)  # an archive may list a file twice
    for place in places:
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        (gathering / place).replace(target)
    shutil.rmtree(gathering)
    return len(places)


def _files(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each regular file, in the archive's order."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if not entry.is_dir() and kind in (0, stat.S_IFREG):
                    with zipped.open(entry) as content:
                        yield entry.filename, entry.file_size, content
    else:
        with tarfile.open(archive) as tarred:
            for member in tarred:
                content_or_none = tarred.extractfile(member) if member.isreg() else None
                if content_or_none is not None:
                    with content_or_none as content:
                        yield member.name.removeprefix("./"), member.size, content
            # A header that makes no sense ends the loop as the end does; behind the real end there are only zeros.
            assert tarred.fileobj is not None
            while block := tarred.fileobj.read(1 << 20):
                if any(block):
                    raise tarfile.ReadError("what follows is no header")


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or not place.parts or any(c in name for c in "\\:\0"):
        raise AnnotationError(f"{archive}: names a place outside its folder, {name!r}; it is not the official archive")
    return place


def _write(content: IO[bytes], path: Path, size: int) -> None:
    """Writes a file unless it is there from an interrupted run."""
    if path.is_file() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    if partial.stat().st_size != size:
        raise EOFError(f"{path.name} ends after {partial.stat().st_size} of {size} bytes")
    partial.replace(path)
