"""Running the application on uvicorn until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from wholepose.errors import ConfigError
from wholepose.serving.protocol import guarded_protocol
from wholepose.serving.settings import ServerSettings

_LARGEST_HEAD_BYTES = 16 << 10
_BACKLOG = 512


class Server(uvicorn.Server):
    """A uvicorn server that ends quietly: after a signal it finishes what was begun, and returns."""

    def __init__(self, app: Starlette, settings: ServerSettings, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded_protocol(settings),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type] # call_later takes fractions
                timeout_graceful_shutdown=settings.drain_s,  # type: ignore[arg-type] # and so does wait_for
                h11_max_incomplete_event_size=_LARGEST_HEAD_BYTES,
            )
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and says so.

        Raises:
            ConfigError: The application could not start; uvicorn has logged why.
        """
        try:
            await super().startup(sockets)
        except SystemExit as stop:
            raise ConfigError("the server could not start its processes; the lines above say why") from stop
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops at SIGTERM and Ctrl-C; unlike uvicorn's own does not raise them once more at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; connections are taken once the server runs.

    Args:
        host: Name or address of this machine.
        port: 0 takes a free one.

    Raises:
        OSError: The address is taken, or is not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, f"{host} port {port}") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """Where a bound socket is reached, such as ``http://127.0.0.1:8000``."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
