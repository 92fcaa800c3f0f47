"""The way of a picture through the server: admitted, read, decoded, predicted, answered; all within limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request

from wholepose.errors import WeightsError
from wholepose.estimator import PoseEstimator
from wholepose.poses import Poses
from wholepose.runtimes.base import available_cores
from wholepose.serving.answers import answer, document
from wholepose.serving.batching import Batcher
from wholepose.serving.decoders import Decoders
from wholepose.serving.metrics import Metrics
from wholepose.serving.problems import ApiError, overloaded
from wholepose.serving.queries import Query
from wholepose.serving.settings import ServerSettings

Result = TypeVar("Result")


class Service:
    """A model with what it needs to serve requests. The model is loaded before, and no request loads another.

    Args:
        estimator: The model, and the detector.
        settings: Limits.
    """

    def __init__(self, estimator: PoseEstimator, settings: ServerSettings) -> None:
        self.estimator = estimator
        self.settings = settings
        self.metrics = Metrics()
        self.decoders = Decoders(settings, self.metrics)
        on_cpu = estimator.runtime.name.endswith("-cpu")
        self._batcher = Batcher(
            estimator,
            batch_size=settings.batch_size or (1 if on_cpu else 16),
            workers=settings.workers or (available_cores() if on_cpu else 2),
            metrics=self.metrics,
        )
        self._answerers = ThreadPoolExecutor(available_cores(), thread_name_prefix="wholepose-answers")
        self._in_flight = 0
        self._held_bytes = 0
        self._running = False
        self.metrics.in_flight.set_function(lambda: self._in_flight)
        self.metrics.held_bytes.set_function(lambda: self._held_bytes)

    async def start(self) -> None:
        """Starts threads and processes.

        Raises:
            OSError: A decoder process did not come up.
        """
        await self.decoders.start()
        self._batcher.start()
        self._running = True

    async def stop(self) -> None:
        """Ends threads and processes."""
        self._running = False
        await asyncio.get_running_loop().run_in_executor(None, self._batcher.stop)
        await self.decoders.stop()
        self._answerers.shutdown()

    @property
    def is_ready(self) -> bool:
        """Whether a picture that came now could be answered."""
        return self._running and bool(self.decoders.pids)

    @contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Counts a request as being worked on.

        Raises:
            ApiError: There are too many, or the server is stopping.
        """
        if not self._running:
            raise ApiError("shutting_down", "the server is stopping; try another, or later", {"Retry-After": "5"})
        admission = Admission(self)
        try:
            admission.add_pictures(1)
            yield admission
        finally:
            admission.leave()

    async def pose(self, data: bytes, query: Query, deadline: float) -> tuple[bytes, str]:
        """The body of the answer about one picture, and its media type.

        Raises:
            ApiError: The picture cannot be answered.
        """
        return await self._answered(data, query, deadline, answer)

    async def documents(self, pictures: Sequence[bytes], query: Query, deadline: float) -> list[Any]:
        """The JSON answers about several pictures; one that cannot be answered has its error there instead."""

        def make(poses: Poses, image: NDArray[np.uint8], query: Query, model: str) -> Any:
            return document(poses, (image.shape[0], image.shape[1]), query, model)

        async def one(data: bytes) -> Any:
            try:
                return await self._answered(data, query, deadline, make)
            except ApiError as problem:
                self.metrics.rejected.labels(problem.code).inc()
                return problem.document()

        return list(await asyncio.gather(*(one(data) for data in pictures)))

    async def _answered(
        self,
        data: bytes,
        query: Query,
        deadline: float,
        make: Callable[[Poses, NDArray[np.uint8], Query, str], Result],
    ) -> Result:
        with self.metrics.time("decode"):
            decoded = await self.decoders.decode(data, deadline)
        try:
            poses = await self._batcher.predict(
                decoded.image, query.boxes, whole_image=query.whole_image, flip_test=query.flip_test
            )
            self.metrics.people.inc(len(poses))
            with self.metrics.time("answer"):
                loop = asyncio.get_running_loop()
                name = self.estimator.runtime.card.name
                return await loop.run_in_executor(self._answerers, make, poses, decoded.image, query, name)
        except WeightsError as error:
            if not query.flip_test:
                raise
            raise ApiError("invalid_parameter", "flip_test: this server's model file has none; leave it off") from error
        finally:
            decoded.release()

    async def while_connected(self, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
        """Does work for a client until it is done, the client is gone or the deadline passes.

        Raises:
            ApiError: The deadline passed, or the work raised it.
            ClientDisconnect: The client is gone.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({task, gone}, timeout=self.settings.deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise ClientDisconnect
            raise ApiError(
                "deadline_exceeded",
                f"the server could not answer within {self.settings.deadline_s:g} s; try again later",
                {"Retry-After": str(self.retry_after_s)},
            )
        finally:
            task.cancel()
            gone.cancel()

    @property
    def room(self) -> int:
        """Pictures that may be worked on or wait: as many as are done in half the deadline, within the settings.

        Whoever is let in is then answered; on a busy machine a longer queue would only fill with what comes too late.
        """
        timely = int(self._batcher.pictures_a_second * self.settings.deadline_s / 2)
        return min(self.settings.max_requests, max(timely, self.settings.max_batch_images))

    @property
    def retry_after_s(self) -> int:
        """When a client that is refused now may have better luck: half of what waits will be done by then."""
        return max(1, min(30, math.ceil(self._in_flight / self._batcher.pictures_a_second / 2)))


class Admission:
    """What one request takes up, until it leaves."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pictures = 0
        self._bytes = 0

    def add_pictures(self, count: int) -> None:
        """Takes so many more places.

        Raises:
            ApiError: There are not as many.
        """
        service = self._service
        if service._in_flight + count > service.room:
            raise overloaded(service.retry_after_s)
        service._in_flight += count
        self._pictures += count

    def exchange(self, answer: bytes) -> None:
        """Counts the answer in place of the body, until it is sent.

        Raises:
            ApiError: All bodies and answers together are too long. One alone is always taken.
        """
        service = self._service
        service._held_bytes -= self._bytes
        self._bytes = 0
        if service._held_bytes and service._held_bytes + len(answer) > service.settings.max_held_bytes:
            raise overloaded(service.retry_after_s)
        service._held_bytes += len(answer)
        self._bytes = len(answer)

    def leave(self) -> None:
        """Frees places and bytes."""
        self._service._in_flight -= self._pictures
        self._service._held_bytes -= self._bytes
        self._pictures = self._bytes = 0

    async def read_body(self, request: Request, most: int) -> bytes:
        """Reads a request's body, within limits on its length and time.

        Raises:
            ApiError: It is too long or too slow, or all bodies and answers together are too long.
            ClientDisconnect: The client went away.
        """
        too_large = ApiError("body_too_large", f"the body is longer than the {most} bytes that are taken")
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        service = self._service
        body = bytearray()

        async def read() -> None:
            async for piece in request.stream():
                if len(body) + len(piece) > most:
                    raise too_large
                if service._held_bytes + len(piece) > service.settings.max_held_bytes:
                    raise overloaded(service.retry_after_s)
                service._held_bytes += len(piece)
                self._bytes += len(piece)
                body.extend(piece)

        with service.metrics.time("read"):
            try:
                await asyncio.wait_for(read(), service.settings.body_timeout_s)
            except asyncio.TimeoutError:
                raise ApiError(
                    "request_timeout",
                    f"the body did not arrive within {service.settings.body_timeout_s:g} s",
                    {"Connection": "close"},
                ) from None
        return bytes(body)


def deadline_of(settings: ServerSettings) -> float:
    """``time.monotonic()`` by which a request whose body is here must be answered."""
    return time.monotonic() + settings.deadline_s


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
