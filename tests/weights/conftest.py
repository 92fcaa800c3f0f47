"""A file server on 127.0.0.1 that can be told to misbehave."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class FileServer:
    """What is served, how, and what was asked for."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    etag: str | None = '"v1"'
    ranges: bool = True  # False: every answer is the whole file
    range_shift: int = 0  # bytes by which a partial answer misses what was asked for
    chunked: bool = False
    stop_after: int | None = None  # bytes of each answer after which the connection is closed
    stops_left: int = 10**6  # how often it does so
    hold_after: int | None = None  # bytes of each answer after which it waits for `go_on`
    go_on: threading.Event = field(default_factory=threading.Event)
    statuses: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    extra_headers: dict[str, str] = field(default_factory=dict)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_GET(self) -> None:
        state, name = self.state, self.path.lstrip("/")
        state.requests.append((name, dict(self.headers)))
        if name in state.redirects:
            return self._answer(302, {"Location": state.redirects[name]})
        if name in state.statuses:
            return self._answer(state.statuses[name], {})
        if name not in state.files:
            return self._answer(404, {})
        data = state.files[name]
        wanted = self.headers.get("Range")
        if wanted and state.ranges and self.headers.get("If-Range", state.etag) == state.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + state.range_shift
            if start >= len(data):
                return self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return self._answer(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])
        return self._answer(200, {}, data)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        state = self.state
        self.send_response(status)
        for key, value in (headers | state.extra_headers).items():
            self.send_header(key, value)
        if state.etag and status in (200, 206):
            self.send_header("ETag", state.etag)
        chunked = state.chunked and status in (200, 206)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        stop = len(body)
        if state.stop_after is not None and state.stops_left > 0 and state.stop_after < len(body):
            state.stops_left -= 1
            stop = state.stop_after
        for start in range(0, stop, 4096):
            if state.hold_after is not None and start >= state.hold_after:
                state.go_on.wait(30)
            block = body[start : min(start + 4096, stop)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        if chunked and stop == len(body):
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server; proxies of the environment are left aside."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("WHOLEPOSE_OFFLINE", raising=False)
    state = FileServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield state
    state.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()
