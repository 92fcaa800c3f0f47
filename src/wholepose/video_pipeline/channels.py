"""Channels between the threads of a pipeline, all of which one signal stops."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """The pipeline was told to stop while a thread waited."""


class Signal:
    """One condition for all threads of a pipeline, which also tells them to stop."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.stopped = False

    def stop(self) -> None:
        """Wakes up everybody who waits, with a StoppedError."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def check(self) -> None:
        """Lets long work end early.

        Raises:
            StoppedError: The pipeline stops.
        """
        if self.stopped:
            raise StoppedError

    def wait(self, ready: Callable[[], bool]) -> None:
        """Waits, with ``changed`` held, until something is so.

        Raises:
            StoppedError: The pipeline stops, or the program ends.
        """
        while not self.stopped and not ready():
            # Now and then awake: Windows delivers Ctrl-C only then, and at the program's end nobody calls stop().
            self.changed.wait(0.5)
            self.stopped = self.stopped or not threading.main_thread().is_alive()
        self.check()


class Channel(Generic[T]):
    """Hands items from one thread to the next. What bounds it is the number of frames in flight."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Adds an item; never waits."""
        with self._signal.changed:
            self._items.append(item)
            self._signal.changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Says that nothing more comes, and why."""
        with self._signal.changed:
            self._closed, self._error = True, error
            self._signal.changed.notify_all()

    def take(self, fewest: int, most: int) -> list[T]:
        """Waits for items; gives fewer at the end, and none after it.

        Raises:
            BaseException: What the channel was closed with, once all items are taken.
            StoppedError: The pipeline stops.
        """
        with self._signal.changed:
            self._signal.wait(lambda: len(self._items) >= fewest or self._closed)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            if not taken and self._error is not None:
                error, self._error = self._error, None
                raise error
            return taken
