"""What a file is, told from its first bytes and never from its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

HEAD_BYTES = 4096
"""How many bytes of a file's beginning `kind_of` looks at."""

# (offset, magic, kind); the first that fits wins, so a longer magic stands before a shorter one.
_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"P1", "PPM"),
    (0, b"P2", "PPM"),
    (0, b"P3", "PPM"),
    (0, b"P4", "PPM"),
    (0, b"P5", "PPM"),
    (0, b"P6", "PPM"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript (EPS) document"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypheix", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftyp", "an MP4 or MOV video"),
    (4, b"moov", "an MP4 or MOV video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WAVE", "a WAV sound"),
    (0, b"\x00\x00\x01\xba", "an MPEG video"),
    (0, b"\x00\x00\x01\xb3", "an MPEG video"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"OggS", "an Ogg file"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
)
_MARKUP = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body|script|!--)", re.IGNORECASE)
_SVG = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!doctype svg[^>]*>\s*)?<svg", re.IGNORECASE | re.DOTALL
)
# Escaped in messages: control characters, line separators, bidirectional overrides, undecodable bytes (surrogates).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def kind_of(head: bytes) -> str:
    """Names the kind of a file from its beginning.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, or all of it where it is shorter.

    Returns:
        ``"JPEG"``, ``"PNG"``, ``"WebP"``, ``"GIF"``, ``"TIFF"``, ``"BMP"`` or ``"PPM"`` for the kinds that are read;
        else words that complete "the file is ...", such as ``"a PDF document"`` or ``"empty"``.
    """
    if not head:
        return "empty"
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset) and (magic not in (b"WEBP", b"AVI ", b"WAVE") or head.startswith(b"RIFF")):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _SVG.match(text):
        return "an SVG drawing"
    if _MARKUP.match(text):
        return "an HTML page"
    if text.lstrip().startswith(b"<?xml"):
        return "an XML document"
    if not any(head):
        return "nothing but zero bytes"
    if text.lstrip().startswith((b"{", b"[")) and b"\x00" not in head:
        return "a JSON document or a text"
    # Bytes that no text holds; a multi-byte character may be cut at the end of the head.
    if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head) and _is_utf8(head):
        return "a text"
    return "of an unknown kind"


def printable_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""Returns a path as it may be printed anywhere.

    Args:
        path: Any path, with whatever characters or undecodable bytes the file system allowed.

    Returns:
        The path with control characters, bidirectional overrides and bytes that are not UTF-8 written as ``\x..`` or
        ``\u....``; emoji and all other letters stay.
    """
    return _UNPRINTABLE.sub(_escape, os.fsdecode(path) if not isinstance(path, Path) else str(path))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, as Python's surrogateescape holds it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) >= HEAD_BYTES
    return True
