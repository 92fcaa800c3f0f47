"""The server's side of decoding: processes with a limit on time and memory, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from wholepose.images import ImageLimits
from wholepose.serving.decoder_process import PIXELS, READY, SIZE, decode_until_closed
from wholepose.serving.metrics import Metrics
from wholepose.serving.problems import ApiError, invalid_image
from wholepose.serving.settings import ServerSettings

_LOG = logging.getLogger("wholepose.serving")
_START_S = 60.0
_MEMORY_BYTES = 256 << 20
_BYTES_A_PIXEL = 20  # at most: RGBA, its RGB on white, and copies of both while formats are converted


class PixelBudget:
    """How many decoded pixels there may be; who needs more waits.

    Args:
        total: Height x width, of all pictures together.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._changed = threading.Condition()

    def take(self, pixels: int, timeout_s: float) -> bool:
        """Waits for so many pixels; False where they did not come free in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= pixels, timeout_s):
                return False
            self._free -= pixels
            return True

    def give_back(self, pixels: int) -> None:
        """Lets others have them."""
        with self._changed:
            self._free += pixels
            self._changed.notify_all()


@dataclass(eq=False)
class Decoded:
    """A picture that counts against the budget until it is released.

    Attributes:
        image: (H, W, 3) uint8 RGB, read-only.
    """

    image: NDArray[np.uint8]
    _budget: PixelBudget
    _released: bool = False

    def release(self) -> None:
        """Gives the pixels' room back; a second call does nothing."""
        if not self._released:
            self._released = True
            self._budget.give_back(self.image.shape[0] * self.image.shape[1])


class _Decoder:
    """One process, used by one thread at a time."""

    def __init__(self, settings: ServerSettings, budget: PixelBudget, metrics: Metrics) -> None:
        self._settings = settings
        self._budget = budget
        self._metrics = metrics
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Starts a process and waits until it can decode.

        Raises:
            OSError: It did not come up.
        """
        self.stop()
        settings = self._settings
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._connection, theirs = context.Pipe()
        limits = ImageLimits(max_pixels=settings.max_pixels, max_bytes=settings.max_body_bytes)
        memory_bytes = _MEMORY_BYTES + _BYTES_A_PIXEL * settings.max_pixels + 3 * settings.max_body_bytes
        process = context.Process(
            target=decode_until_closed, args=(theirs, limits, memory_bytes), name="wholepose-decoder", daemon=True
        )
        process.start()
        self._process = process
        theirs.close()  # so that the end of the process ends the connection
        if not self._connection.poll(_START_S) or self._connection.recv_bytes() != READY:
            self.stop()
            raise OSError("a decoder process did not start")

    def stop(self) -> None:
        """Ends the process, at once."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        self._connection = self._process = None

    @property
    def pid(self) -> int | None:
        """Number of the process, None where there is none."""
        return None if self._process is None else self._process.pid

    def decode(self, data: bytes, deadline: float) -> Decoded:
        """Decodes a picture; called in a thread.

        Args:
            data: The file.
            deadline: ``time.monotonic()`` by which there must be room for the pixels.

        Returns:
            The pixels.

        Raises:
            ApiError: The picture is refused or takes too long, or the process died.
        """
        try:
            if self._process is None:
                self.start()
            return self._exchange(data, deadline)
        except (EOFError, OSError) as error:
            self._replace("died")
            raise ApiError(
                "decoder_failed",
                "the process that decoded this picture ended; the picture may be at fault, or try again",
                {"Retry-After": "1"},
            ) from error

    def _exchange(self, data: bytes, deadline: float) -> Decoded:
        assert self._connection is not None
        self._connection.send_bytes(data)
        if not self._connection.poll(self._settings.decode_timeout_s):
            self._replace("too slow")
            raise invalid_image(f"decoding takes more than {self._settings.decode_timeout_s:g} s")
        head = self._connection.recv_bytes()
        if not head.startswith(PIXELS):
            raise invalid_image(head[1:].decode("utf-8", "replace"))
        height, width = SIZE.unpack(head[1:])
        if not self._budget.take(height * width, deadline - time.monotonic()):
            self._replace("no room")  # it holds the pixels that there is no room for
            raise ApiError("deadline_exceeded", "the server has no room for the picture", {"Retry-After": "2"})
        try:
            pixels = np.frombuffer(self._connection.recv_bytes(), dtype=np.uint8).reshape(height, width, 3)
        except BaseException:
            self._budget.give_back(height * width)
            raise
        return Decoded(pixels, self._budget)

    def _replace(self, reason: str) -> None:
        """Starts another process; where that fails, the next picture tries again."""
        _LOG.warning("decoder process %s: %s; it is replaced", self.pid, reason)
        self._metrics.decoder_restarts.labels(reason).inc()
        try:
            self.start()
        except OSError as error:
            _LOG.error("%s", error)


class Decoders:
    """Decodes pictures in processes, as many at a time as there are.

    Args:
        settings: Their number and limits.
        metrics: Told of restarts.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        budget = PixelBudget(settings.max_held_pixels)
        self._all = [_Decoder(settings, budget, metrics) for _ in range(settings.decoder_count)]
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(len(self._all), thread_name_prefix="wholepose-decoders")
        self._tasks: set[asyncio.Task[Decoded]] = set()

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [decoder.pid for decoder in self._all if decoder.pid is not None]

    async def start(self) -> None:
        """Starts all processes.

        Raises:
            OSError: One did not come up.
        """
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, decoder.start) for decoder in self._all))
        for decoder in self._all:
            self._idle.put_nowait(decoder)

    async def stop(self) -> None:
        """Ends all processes."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for decoder in self._all:
            decoder.stop()
        self._threads.shutdown()

    async def decode(self, data: bytes, deadline: float) -> Decoded:
        """Decodes a picture.

        Args:
            data: The file.
            deadline: ``time.monotonic()`` by which there must be room for the pixels.

        Returns:
            The pixels; the caller releases them.

        Raises:
            ApiError: The picture is refused or takes too long, or a process died.
        """
        decoder = await self._idle.get()
        task = asyncio.create_task(self._decode(decoder, data, deadline))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)  # the process goes on with the picture when nobody waits for it any more
        except asyncio.CancelledError:
            task.add_done_callback(_release)
            raise

    async def _decode(self, decoder: _Decoder, data: bytes, deadline: float) -> Decoded:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, decoder.decode, data, deadline)
        finally:
            self._idle.put_nowait(decoder)


def _release(task: asyncio.Task[Decoded]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().release()
