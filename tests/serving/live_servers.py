"""Starts servers in threads, and talks to them."""

import contextlib
import socket
import threading
import time

import httpx

from wholepose.serving.app import create_app
from wholepose.serving.run import Server, address_of, listen
from wholepose.serving.settings import ServerSettings

PNG = {"Content-Type": "image/png"}
JPEG = {"Content-Type": "image/jpeg"}


class Live:
    """A server that runs in a thread.

    Attributes:
        url: Its address.
        app: The application; ``app.state.service`` is what it does.
    """

    def __init__(self, estimator, settings):
        self.app = create_app(estimator, settings)
        self.service = self.app.state.service
        self.settings = settings
        started = threading.Event()
        self._socket = listen("127.0.0.1", 0)
        self.url = address_of(self._socket)
        self.address = self._socket.getsockname()
        self._server = Server(self.app, settings, started.set)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        assert started.wait(60), "the server did not start"
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def reconnect(self):
        """Makes the client forget the connections that it kept."""
        self.client.close()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def stop(self):
        self.client.close()
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._socket.close()

    def pose(self, data, query="", headers=PNG):
        return self.client.post(f"/v1/poses{query}", content=data, headers=headers)

    @property
    def connections(self):
        """How many are open."""
        return len(self._server.server_state.connections)

    def connect(self, timeout=30):
        """A raw connection."""
        return socket.create_connection(self.address, timeout=timeout)

    def metric(self, line):
        """A value of /metrics, by all that stands before it on its line; 0 where there is none."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.rpartition(" ")[0] == line), 0.0)


@contextlib.contextmanager
def running(estimator, settings=None, **limits):
    live = Live(estimator, settings or ServerSettings(**limits))
    try:
        yield live
    finally:
        live.stop()


def read_all(connection):
    """What comes until the other side closes, or resets."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def wait_until(condition, seconds):
    """Waits until a condition holds; returns how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start


def code_of(response):
    return response.json()["error"]["code"]
