"""Finding pictures: files, folders and patterns, in the order in which they were named."""

# Where pathlib raises (unreachable folders, names too long, loops of links), os.path answers False.
# ruff: noqa: PTH100, PTH112, PTH118, PTH122, PTH207, PTH208
from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    ]
)
"""Endings, in lower case, by which pictures in a folder are told from other files."""

_UNREAD_SUFFIXES = frozenset([".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd"])
"""Endings of pictures that are not read: those of a folder become failures instead of being passed over in silence."""


@dataclass(frozen=True)
class FoundImages:
    """What `find_images` found.

    Attributes:
        paths: Files in the order named, each once. They need not be readable: reading tells.
        problems: (what was named, why nothing came of it), to be listed as failures.
        empty_folders: Folders without a picture: nothing to do, nothing wrong.
    """

    paths: tuple[Path, ...]
    problems: tuple[tuple[str, str], ...] = ()
    empty_folders: tuple[str, ...] = ()


def find_images(names: Sequence[str | os.PathLike[str]], *, suffixes: Collection[str] = IMAGE_SUFFIXES) -> FoundImages:
    """Finds the pictures that a command line names.

    A file is taken as it is, whatever its ending. A folder gives its pictures by ending, sorted by name, without hidden
    files and without sub-folders: `folder/**` names those too. A pattern that the shell did not expand, such as
    ``photos/*.jpg`` or ``photos/**/*.jpg``, is expanded as the shell would, sorted; ``**`` enters no linked folder, so
    that no loop of links is followed. A file named twice, however written, is taken once, at its first place.

    Args:
        names: Files, folders and patterns.
        suffixes: Endings, in lower case with their dot, of the files that are taken from folders; with those of
            pictures go some of kinds that `load_image` refuses, such as ``.heic``.

    Returns:
        The files, and what was named in vain. Nothing is raised for a name that leads nowhere.
    """
    if frozenset(suffixes) >= IMAGE_SUFFIXES:
        suffixes = frozenset(suffixes) | _UNREAD_SUFFIXES
    paths: dict[str, Path] = {}  # by absolute name, in order
    problems: list[tuple[str, str]] = []
    empty_folders: list[str] = []

    def add(path: str) -> None:
        paths.setdefault(os.path.abspath(path), Path(path))

    def add_folder(folder: str) -> None:
        try:
            files = _pictures_in(folder, suffixes)
        except OSError as error:
            problems.append((folder, f"cannot be listed ({error.strerror or error})"))
            return
        if not files:
            empty_folders.append(folder)
        for file in files:
            add(file)

    for item in names:
        name = os.fspath(item)
        if "\0" in name:
            problems.append((name, "is no path (it holds a NUL character)"))
        elif os.path.isdir(name):
            add_folder(name)
        elif os.path.lexists(name):  # also a pipe or a dead link: reading says what is wrong with it
            add(name)
        elif glob.has_magic(name):
            hidden: list[OSError] = []
            matches = sorted(_expand(name, suffixes, hidden.append))
            problems.extend((str(error.filename), f"cannot be listed ({error.strerror})") for error in hidden)
            if not matches and not hidden:
                problems.append((name, "no file has such a name"))
            for match in matches:
                if os.path.isdir(match):
                    add_folder(match)
                else:
                    add(match)
        else:
            problems.append((name, _why_missing(name)))
    return FoundImages(tuple(paths.values()), tuple(problems), tuple(empty_folders))


def _pictures_in(folder: str, suffixes: Collection[str]) -> list[str]:
    """Lists the pictures of a folder by ending, sorted; a link or a pipe that is called like a picture counts."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if _is_picture(name, suffixes)]
    return [path for path in paths if not os.path.isdir(path)]


def _is_picture(name: str, suffixes: Collection[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes


def _expand(pattern: str, suffixes: Collection[str], fail: Callable[[OSError], object]) -> Iterator[str]:
    """Yields what a pattern names; a ``**`` at its end names pictures only. Tells of folders that cannot be listed."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    first = parts.index("**")
    base = os.path.join(*parts[:first]) if first else "."
    rest = parts[first:]
    # Python's own ** follows links to folders, and a few that point to each other keep it busy for ever.
    for start in glob.iglob(base) if glob.has_magic(base) else [base]:
        for folder, folders, files in os.walk(start, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = Path(folder).relative_to(start).parts
            for name in files:
                whole = (*inside, name)
                wanted = _is_picture(name, suffixes) if rest == ("**",) else not name.startswith(".")
                if wanted and _matches(whole, rest):
                    yield os.path.join(*(() if start == "." and not pattern.startswith(".") else (start,)), *whole)


def _matches(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether the parts of a path fit the parts of a pattern, in which ``**`` stands for any number of folders."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        if patterns[1:] in ((), ("**",)):
            return True
        return _matches(names, patterns[1:]) or (bool(names) and _matches(names[1:], patterns))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])


def _why_missing(name: str) -> str:
    try:
        os.lstat(name)
    except PermissionError:
        return "lies in a folder that this user may not open (permission denied)"
    except FileNotFoundError:
        pass
    except OSError as error:  # a name too long, a loop of links on the way
        return f"cannot be reached ({error.strerror or error})"
    if "://" in name:
        return "is an address; save the picture and name the file"
    return "does not exist"
