"""uvicorn's HTTP/1.1 connection, with the times and numbers that it leaves open.

uvicorn waits for ever for a request's head, its body, and a client that does not read its answer; slow clients could
take all descriptors.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from wholepose.serving.problems import ApiError
from wholepose.serving.settings import ServerSettings

_LINGER_S = 2.0  # for what a client still sends after its answer; closing at once would take the answer from it


def guarded_protocol(settings: ServerSettings) -> type[H11Protocol]:
    """The protocol class for these limits, for ``uvicorn.Config(http=...)``."""

    class Guarded(GuardedProtocol):
        limits = settings

    return Guarded


class GuardedProtocol(H11Protocol):
    """A connection that is closed when its client is too slow, or one of too many."""

    limits: ServerSettings

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._phase: object = None
        self._phase_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for a request's head, or closes where there are too many connections."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the timers."""
        for timer in (self._phase_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn leaves to run after a reset

    def data_received(self, data: bytes) -> None:
        """Takes bytes, and begins to wait for what has to come next."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Waits a little for what the client still sends."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Gives the client so long for the phase that the request is in."""
        theirs = self.conn.their_state
        answered = self.cycle is not None and self.cycle.response_complete
        if theirs is h11.IDLE and self.timeout_keep_alive_task is None:
            phase, seconds = "head", self.limits.header_timeout_s
        elif theirs is h11.SEND_BODY and answered:
            phase, seconds = "rest", _LINGER_S
        elif theirs is h11.SEND_BODY:
            phase, seconds = "body", self.limits.body_timeout_s + _LINGER_S  # the application says 408 before
        else:
            phase, seconds = "", 0.0
        if phase == self._phase:
            return
        self._phase = phase
        if self._phase_timer is not None:
            self._phase_timer.cancel()
        self._phase_timer = self.loop.call_later(seconds, self.transport.abort) if phase else None

    def pause_writing(self) -> None:
        """Gives the client a while to read what is on the way."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection, also where its client has left an answer unread."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.limits.write_timeout_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's word is plain text
        """Answers what is not HTTP, as all errors are answered."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.cycle_is_answering():
            self.transport.close()
            return
        body = ApiError("invalid_request", "this is no HTTP request that can be read").response().body
        head = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=bytes(body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def cycle_is_answering(self) -> bool:
        """Whether an answer has begun and is not complete."""
        return self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
