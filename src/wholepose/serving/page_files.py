"""The page: static files, read once at the start, so that no request touches the disk."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

PAGE_FOLDER = Path(__file__).parent / "page"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
_PACKED = (".html", ".css", ".js", ".mjs", ".json", ".txt", ".svg", ".webmanifest", ".wasm")
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked about each time: a newer version shows at once
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@dataclass(frozen=True, eq=False)
class PageFile:
    """A file of the page.

    Attributes:
        media_type: For ``Content-Type``.
        etag: Names its content.
        body: Its bytes.
        packed: The same by gzip, None where that gains nothing.
    """

    media_type: str
    etag: str
    body: bytes
    packed: bytes | None


def read_page_files(folder: Path = PAGE_FOLDER) -> Mapping[str, PageFile]:
    """Reads the page's files.

    Args:
        folder: Where they are; hidden files and endings that the page has no use for are left out.

    Returns:
        By path relative to the folder, with ``/``.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _TYPES)
    return {path.relative_to(folder).as_posix(): _read(path) for path in paths if not path.name.startswith(".")}


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    packed = gzip.compress(body, mtime=0) if path.suffix in _PACKED else None
    if packed is not None and len(packed) >= len(body):
        packed = None
    return PageFile(_TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:32], body, packed)


def page_response(file: PageFile, request: Request) -> Response:
    """Answers with a file, packed where the client takes that, or with 304 where it has it already."""
    packed = file.packed if _takes_gzip(request.headers.get("accept-encoding", "")) else None
    etag = f'"{file.etag}{"-gzip" if packed is not None else ""}"'
    headers = {**_HEADERS, "ETag": etag}
    if file.packed is not None:
        headers["Vary"] = "Accept-Encoding"
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=304, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    return Response(packed if packed is not None else file.body, media_type=file.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for entry in accepted.split(","):
        coding, _, weight = entry.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
