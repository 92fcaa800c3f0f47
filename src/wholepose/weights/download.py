"""Downloads: resumed after any interruption, checked, and put under their name only when they are right.

Only http and https are spoken, nothing is compressed on the way, and every wait has an end.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from wholepose.errors import WeightsError
from wholepose.images.kinds import HEAD_BYTES, kind_of, printable_path
from wholepose.weights.files import sha256_of
from wholepose.weights.locks import exclusive

MAX_DOWNLOAD_BYTES = 64 << 30
"""Where the size is not known beforehand, no more than this is taken."""

_TRIES = 4
"""Interruptions in a row without a new byte after which a mirror is given up."""

_PAUSE_S = 0.5
_SLOWEST_BYTES_PER_S = 1024
_SLOWEST_WINDOW_S = 60.0


def is_offline() -> bool:
    """Whether ``WHOLEPOSE_OFFLINE`` forbids the network: set to anything but 0, false, no or nothing."""
    return os.environ.get("WHOLEPOSE_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    progress: bool = True,
    timeout_s: float = 20.0,
) -> Path:
    """Downloads a file, unless it is there already.

    What was received before an interruption, be it a kill, is kept beside the file as ``.part`` and the next call goes
    on from there. Several processes may ask for the same file: one downloads, the others wait and find it.

    Args:
        urls: Where the file is to be had, tried in this order; http or https.
        path: Where it shall be; folders are made. A file there that fits hash and size is left alone.
        sha256: Hash in lower-case hex digits; its first digits, at least 8, where no more are known. Without a hash, an
            interrupted download is resumed only where the server can tell that its file is still the same.
        size_bytes: Exact size, where it is known.
        progress: Show a bar on stderr, where that is a terminal.
        timeout_s: Seconds that a server may be silent.

    Returns:
        `path`.

    Raises:
        ValueError: There is no URL, one is not http or https, or `sha256` is no hash.
        WeightsError: No mirror gave the right file (each is named with its reason; a wrong file is deleted, both hashes
            are shown), the network is forbidden, or the folder cannot be written to.
    """
    target = Path(path)
    if not urls or not all(re.match(r"https?://", url, re.IGNORECASE) for url in urls):
        raise ValueError(f"urls must be http or https addresses, at least one, not {list(urls)!r}")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256 must be 8 to 64 lower-case hex digits, not {sha256!r}")
    wanted = _Wanted(target, sha256, size_bytes, progress, timeout_s)
    if wanted.is_there():
        return target
    if is_offline():
        raise WeightsError(f"{printable_path(target)} is not there, and WHOLEPOSE_OFFLINE forbids to fetch {urls[0]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target.with_name(f"{target.name}.lock")):
            if not wanted.is_there():  # another process may have been quicker
                _fetch_from_any(urls, wanted)
    except OSError as error:
        raise WeightsError(f"{printable_path(target)}: {_local_reason(error, target)}") from error
    return target


@dataclass(frozen=True)
class _Wanted:
    """What is to be downloaded, and where to."""

    target: Path
    sha256: str | None
    size_bytes: int | None
    progress: bool
    timeout_s: float

    @property
    def part(self) -> Path:
        """Where the bytes gather."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def origin(self) -> Path:
        """Where it is noted which file of which server the part belongs to."""
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def limit_bytes(self) -> int:
        """How many bytes may come at most."""
        return MAX_DOWNLOAD_BYTES if self.size_bytes is None else self.size_bytes

    def is_there(self) -> bool:
        """Whether the right file is in place."""
        if not self.target.is_file() or self.size_bytes not in (None, self.target.stat().st_size):
            return False
        return self.sha256 is None or sha256_of(self.target).startswith(self.sha256)

    def forget_part(self) -> None:
        """Removes what was received so far."""
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


class _MirrorError(Exception):
    """A mirror cannot be used; the next is tried."""


class _InterruptedError(Exception):
    """The connection broke; the same mirror may go on."""

    def __init__(self, reason: str, *, answered: bool = True) -> None:
        super().__init__(reason)
        self.answered = answered


def _fetch_from_any(urls: Sequence[str], wanted: _Wanted) -> None:
    """Tries the mirrors in order and puts the file in place."""
    reasons = []
    for url in urls:
        try:
            _fetch(url, wanted)
        except _MirrorError as error:
            reasons.append(f"{url}: {error}")
            continue
        with wanted.part.open("rb+") as file:
            os.fsync(file.fileno())
        wanted.part.replace(wanted.target)
        wanted.origin.unlink(missing_ok=True)
        return
    raise WeightsError(f"{printable_path(wanted.target.name)} cannot be downloaded: {'; '.join(reasons)}")


def _fetch(url: str, wanted: _Wanted) -> None:
    """Receives the file from one mirror, over as many connections as it takes, and checks it."""
    resumed = _held(wanted) > 0
    most = _held(wanted)
    tries = 0
    while True:
        try:
            if not 0 < _held(wanted) == wanted.size_bytes:  # else it was stopped between the last byte and the check
                _receive(url, wanted)
        except _InterruptedError as error:
            tries = 1 if _held(wanted) > most else tries + 1
            most = max(most, _held(wanted))
            # A server that has never answered is not asked again: a dead host costs one wait.
            if tries >= _TRIES or (tries == 1 and not error.answered):
                raise _MirrorError(str(error)) from error
            time.sleep(_PAUSE_S)
            continue
        problem = _problem(wanted)
        if not problem:
            return
        wanted.forget_part()
        if not resumed:
            raise _MirrorError(problem)
        resumed = False  # the part may have been of another file: once more from the beginning


def _held(wanted: _Wanted) -> int:
    """How many bytes are there from before."""
    return wanted.part.stat().st_size if wanted.part.is_file() else 0


def _problem(wanted: _Wanted) -> str:
    """Says what is wrong with the received file; empty when it is right."""
    size = _held(wanted)
    with wanted.part.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
    page = kind == "an HTML page" and wanted.target.suffix.lower() not in (".html", ".htm")
    seen = f"; what came is {kind}" if page or kind == "empty" else ""
    if wanted.sha256 is not None:
        actual = sha256_of(wanted.part)
        if not actual.startswith(wanted.sha256):
            return f"the file is not the right one and was deleted (sha256 {actual}, expected {wanted.sha256}{seen})"
    if wanted.size_bytes not in (None, size):
        return f"the file has {size} bytes instead of {wanted.size_bytes} and was deleted{seen}"
    if page and wanted.sha256 is None:
        return "an HTML page came instead of the file and was deleted"
    return ""


def _receive(url: str, wanted: _Wanted) -> None:
    """Receives what one connection gives, from where the part ends."""
    origin = _read_origin(wanted)
    known = origin.get("url") == url and bool(origin.get("validator"))
    offset = _held(wanted)
    if offset and not known and wanted.sha256 is None:
        wanted.forget_part()  # nothing could tell whether the rest belongs to it
        offset = 0
    headers = {"User-Agent": "wholepose", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known:
            headers["If-Range"] = origin["validator"]
    try:
        response = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=wanted.timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            _handle_status(error, offset, wanted)
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _InterruptedError(_network_reason(error), answered=False) from error
    with response:
        start, total = _span(response, offset, wanted)
        if start == 0:
            wanted.forget_part()
            validator = _validator(response)
            wanted.origin.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        _copy(response, start, total, wanted)


def _handle_status(error: urllib.error.HTTPError, offset: int, wanted: _Wanted) -> None:
    """Decides what an error status means; returns where the part is already the whole file."""
    if error.code == 416 and offset:  # nothing lies beyond the part: it is the whole file, or of another file
        match = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "").strip())
        if match and int(match.group(1)) == offset:
            return
        wanted.forget_part()
        raise _InterruptedError("the server cannot go on from where the download stopped")
    reason = f"the server answers {error.code} {error.reason}"
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _InterruptedError(reason)
    raise _MirrorError(reason)


def _span(response: Any, offset: int, wanted: _Wanted) -> tuple[int, int | None]:
    """Returns (first byte that comes, size of the whole file where it is told), and refuses what cannot be right."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _MirrorError(f"the server compresses the file ({response.headers['Content-Encoding']})")
    length = response.headers.get("Content-Length", "")
    start, total = 0, int(length) if length.isascii() and length.isdigit() else None
    if response.status == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match or int(match.group(1)) != offset:
            wanted.forget_part()
            raise _InterruptedError("the server sends another part of the file than was asked for")
        start, total = offset, None if match.group(2) == "*" else int(match.group(2))
    elif response.status != 200:
        raise _MirrorError(f"the server answers {response.status}")
    if total is not None:
        if total > wanted.limit_bytes:
            raise _MirrorError(f"the file has {total} bytes there; at most {wanted.limit_bytes} are taken")
        free = shutil.disk_usage(wanted.target.parent).free
        if total - start > free:
            raise OSError(errno.ENOSPC, f"{total - start} bytes are needed and {free} are free")
    return start, total


def _copy(response: Any, start: int, total: int | None, wanted: _Wanted) -> None:
    """Appends what comes to the part; every byte is on its way to disk before the next is asked for."""
    received = start
    bar: tqdm[Any] = tqdm(
        total=total,
        initial=start,
        unit="B",
        unit_scale=True,
        desc=printable_path(wanted.target.name),
        file=sys.stderr,
        disable=None if wanted.progress else True,
        leave=False,
    )
    with bar, wanted.part.open("ab", buffering=0) as part:
        window_start, window_bytes = time.monotonic(), 0
        while block := _read(response):
            received += len(block)
            if received > wanted.limit_bytes:
                wanted.forget_part()
                raise _MirrorError(f"more than {wanted.limit_bytes} bytes come; what came was deleted")
            _write_all(part, block)
            bar.update(len(block))
            window_bytes += len(block)
            elapsed = time.monotonic() - window_start
            if elapsed > _SLOWEST_WINDOW_S:
                if window_bytes < elapsed * _SLOWEST_BYTES_PER_S:
                    raise _InterruptedError(f"only {window_bytes} bytes came in {elapsed:.0f} s")
                window_start, window_bytes = time.monotonic(), 0
    if total is not None and received < total:
        raise _InterruptedError(f"the connection ended after {received} of {total} bytes")


def _read(response: Any) -> bytes:
    """Reads what has come, without waiting for a full block."""
    try:
        return bytes(response.read1(1 << 18))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _InterruptedError(_network_reason(error)) from error


def _write_all(file: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) or 0 :]


def _validator(response: Any) -> str:
    """Returns what tells that a server's file is still the same: a strong entity tag, else the date of the file."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(response.headers.get("Last-Modified", ""))


def _read_origin(wanted: _Wanted) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(wanted.origin.read_text(encoding="utf-8"))
        if isinstance(document, dict) and all(isinstance(value, str) for value in document.values()):
            return document
    return {}


def _network_reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(error, TimeoutError) or isinstance(reason, TimeoutError):
        return "no answer in time"
    return str(reason or error) or type(error).__name__


def _local_reason(error: OSError, target: Path) -> str:
    """Says why the file cannot be written, and what helps."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({what}); free some space and ask again, what was received is kept"
    folder = printable_path(target.parent)
    return f"the folder {folder} cannot be written to ({what}); set WHOLEPOSE_HOME to a folder that can"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections within http and https, never from https down to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.split(":", 1)[0].lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise _MirrorError(f"the server redirects to {newurl}, which is not safe to follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener without the handlers of file, ftp and data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()
