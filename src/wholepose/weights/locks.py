"""One process at a time: a lock that the system gives back when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Waits until no other process or thread holds the lock of this name, and holds it.

    The file is removed when the lock is given back. On a file system without locks it holds nothing.

    Args:
        path: Name of the lock file, beside what it protects; its folder must exist.
        wait: False: raise at once when another holds it.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: Another holds the lock, and it was not to wait.
        OSError: The lock file cannot be made.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(handle, wait)
            # Whoever held it before may have removed the file that was waited on, and another may hold a new one.
            if _is_at(handle, path):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; the next holder uses it again
            path.unlink()
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        status = path.stat()
    except OSError:
        return False
    return os.path.samestat(status, os.fstat(handle))


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, wait: bool) -> None:
        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from error
                time.sleep(0.1)

else:
    import fcntl

    def _lock(handle: int, wait: bool) -> None:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno in _UNSUPPORTED:
                    return
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                    raise
                if not wait and error.errno != errno.EINTR:
                    raise BlockingIOError(error.errno, error.strerror) from error
                time.sleep(0.1)
