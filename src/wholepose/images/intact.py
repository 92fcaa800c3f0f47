"""Whether a picture's file is whole and sound, told from its bytes without a decoder."""

from __future__ import annotations

import re
import zlib

from wholepose.errors import ImageError

_MOST_PNG_TEXTS = 24
_MOST_PIECES = 200_000
"""Segments of a JPEG, chunks of a PNG: encoders write far fewer, and following more would take seconds."""
# Stuffed zeros, restarts and fill bytes belong to the entropy-coded data; the end has no length, all others have one.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")


def check_jpeg_end(data: bytes, name: str) -> None:
    """Follows a JPEG's segments to its end marker.

    The decoder fills what is missing before the end with grey and says nothing when the file goes on with other bytes,
    such as the zeros of a download that stopped. What follows the end (thumbnails, videos of motion photos) is fine.
    """
    position = 2
    for _ in range(_MOST_PIECES):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:
            break
        if marker[1] == b"\xd9":
            return
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    else:
        raise ImageError(f"{name}: this JPEG file has more than {_MOST_PIECES} segments; save it again")
    raise ImageError(f"{name}: this JPEG file is cut short (its end marker is missing)")


def check_png_chunks(data: bytes, name: str) -> None:
    """Follows a PNG's chunks to its end, checks the sums of those that make pixels and counts compressed texts.

    Pillow unpacks at most 1 MB of each text, but 64 MB in all.
    """
    texts = pieces = 0
    position = 8
    view = memoryview(data)
    while position + 12 <= len(data):
        pieces += 1
        if pieces > _MOST_PIECES:
            raise ImageError(f"{name}: this PNG file has more than {_MOST_PIECES} chunks; save it again")
        length = int.from_bytes(view[position : position + 4], "big")
        end = position + 12 + length
        chunk = data[position + 4 : position + 8]
        if end > len(data):
            break
        stored = int.from_bytes(view[end - 4 : end], "big")
        if chunk[:1].isupper() and zlib.crc32(view[position + 4 : end - 4]) != stored:
            raise ImageError(f"{name}: this PNG file is damaged (the check sum of chunk {chunk.decode('latin-1')!r})")
        texts += chunk in (b"zTXt", b"iTXt", b"iCCP")
        if texts > _MOST_PNG_TEXTS:
            raise ImageError(f"{name}: this PNG file has more than {_MOST_PNG_TEXTS} compressed texts; save it without")
        if chunk == b"IEND":
            return
        position = end
    raise ImageError(f"{name}: this PNG file is cut short (its end chunk is missing)")
