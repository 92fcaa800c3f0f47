"""Several pictures in one body: each as 4 bytes of length, most significant first, and then so many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from wholepose.serving.problems import ApiError

MEDIA_TYPE = "application/vnd.wholepose.images"
_LENGTH = struct.Struct(">I")


def join_pictures(pictures: Iterable[bytes]) -> bytes:
    """The body that holds these files."""
    return b"".join(_LENGTH.pack(len(picture)) + picture for picture in pictures)


def split_pictures(body: bytes, *, most: int, max_bytes: int) -> list[bytes]:
    """The files in a body.

    Args:
        body: What ``join_pictures`` made.
        most: How many there may be.
        max_bytes: How long each may be.

    Returns:
        At least one file.

    Raises:
        ApiError: There are none or too many, one is too long, or a length does not fit the body.
    """
    pictures: list[bytes] = []
    place = 0
    while place < len(body):
        if len(pictures) == most:
            raise ApiError("body_too_large", f"the body holds more than {most} pictures")
        if place + _LENGTH.size > len(body):
            raise ApiError("invalid_request", f"the body ends within the length of picture {len(pictures)}")
        (length,) = _LENGTH.unpack_from(body, place)
        place += _LENGTH.size
        if length > max_bytes:
            raise ApiError(
                "body_too_large", f"picture {len(pictures)} has {length} bytes; at most {max_bytes} are taken"
            )
        if place + length > len(body):
            raise ApiError(
                "invalid_request",
                f"picture {len(pictures)} has {length} bytes by its length, and {len(body) - place} are there",
            )
        pictures.append(body[place : place + length])
        place += length
    if not pictures:
        raise ApiError("invalid_request", "the body holds no picture: send each as 4 bytes of length and its bytes")
    return pictures
