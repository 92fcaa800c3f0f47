"""A light HTTP client for load: requests on kept connections, each timed and its answer checked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

_LIMIT = 32 << 20


@dataclass(frozen=True)
class Picture:
    """A file to send, and the answer that is right for it; None: a damaged one, which must be refused with 422."""

    data: bytes
    answer: bytes | None

    def request(self) -> bytes:
        lines = ("POST /v1/poses HTTP/1.1", "Host: localhost", "Content-Type: image/jpeg")
        return "\r\n".join((*lines, f"Content-Length: {len(self.data)}", "", "")).encode() + self.data


@dataclass(frozen=True)
class Outcome:
    """What became of a request; status 0 is a connection that broke."""

    started: float
    seconds: float
    status: int
    right: bool


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], picture: Picture) -> Outcome:
    """Sends one picture and waits for the answer."""
    reader, writer = streams
    started = time.perf_counter()
    try:
        writer.write(picture.request())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        return Outcome(started, time.perf_counter() - started, 0, False)
    status = int(head.split(b" ", 2)[1])
    refused = status == 503 or (status == 422 and picture.answer is None)
    right = body == picture.answer if status == 200 else refused
    return Outcome(started, time.perf_counter() - started, status, right)


async def closed_loop(port: int, pictures: Sequence[Picture], clients: int, seconds: float) -> list[Outcome]:
    """So many clients, each of whom sends the next picture when it has the answer to the last."""
    outcomes: list[Outcome] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < end:
            streams = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
            try:
                while time.perf_counter() < end:
                    number += 1
                    outcome = await ask(streams, pictures[number % len(pictures)])
                    outcomes.append(outcome)
                    if outcome.status == 503:
                        await asyncio.sleep(1)  # as Retry-After asks at least
                    if outcome.status == 0:
                        break
            finally:
                streams[1].close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return outcomes


async def open_loop(port: int, pictures: Sequence[Picture], rate: float, seconds: float) -> list[Outcome]:
    """Requests at a steady rate, whatever becomes of those before; connections are kept and used again."""
    outcomes: list[Outcome] = []
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    tasks = []

    async def one(number: int) -> None:
        try:
            streams = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
        except OSError:
            outcomes.append(Outcome(time.perf_counter(), 0, 0, False))
            return
        outcome = await ask(streams, pictures[number % len(pictures)])
        outcomes.append(outcome)
        if outcome.status:
            idle.append(streams)
        else:
            streams[1].close()

    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(number)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return outcomes


async def slow_connections(port: int, count: int, until: asyncio.Event) -> int:
    """Connections that send a byte of a head each second; opened again when they are closed. Returns how often."""
    closed = 0

    async def one() -> None:
        nonlocal closed
        while not until.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    for byte in b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 1000:
                        if until.is_set():
                            break
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(1)
                finally:
                    writer.close()
            closed += 1
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(count)))
    return closed - count
