"""What runs inside a decoder process: pictures' bytes in, pixels out, within limits of its own.

A process apart, since decoders are C code that meets bytes of strangers: what crashes there, or takes too much memory,
takes one request along and not the server.
"""

from __future__ import annotations

import contextlib
import signal
import struct
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from wholepose.errors import ImageError
from wholepose.images import ImageLimits, load_image

READY, PIXELS, REFUSED = b"r", b"p", b"e"
"""The first byte of a message to the server: at the start; before pixels, with their size; with the reason."""

SIZE = struct.Struct("<II")
"""Height and width in pixels."""


def decode_until_closed(connection: Connection, limits: ImageLimits, memory_bytes: int) -> None:
    """Answers each picture's bytes with its size and pixels, or with why there are none, until the server is gone.

    Args:
        connection: To the server.
        limits: What to refuse.
        memory_bytes: Address space that this process may add to what it has now.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the server ends this process
    warnings.simplefilter("ignore")
    _limit_resources(memory_bytes)
    with contextlib.suppress(EOFError, OSError):  # the server went away
        connection.send_bytes(READY)
        while True:
            _answer(connection, connection.recv_bytes(), limits)


def _answer(connection: Connection, data: bytes, limits: ImageLimits) -> None:
    try:
        image = load_image(data, limits=limits)
    except ImageError as error:
        connection.send_bytes(REFUSED + str(error).encode("utf-8", "replace"))
        return
    connection.send_bytes(PIXELS + SIZE.pack(*image.shape[:2]))
    connection.send_bytes(image.data.cast("B"))


def _limit_resources(memory_bytes: int) -> None:
    """Bounds memory, and forbids core files and writing, where the system can."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
