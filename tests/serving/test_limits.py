"""FAULTS 45, 46, 48, 49: bodies too long, slow or packed, too many connections, decoders that die."""

import contextlib
import gzip
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

HEAD = "POST /v1/poses?whole_image=true HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.fixture(scope="module")
def small(servers, tiny_estimator):
    """A server with narrow limits."""
    limits = {
        "max_body_bytes": 1 << 20,
        "max_batch_body_bytes": 1 << 20,
        "max_pixels": 4_000_000,
        "max_held_pixels": 4_000_000,
        "max_connections": 40,
        "header_timeout_s": 0.6,
        "body_timeout_s": 0.6,
        "keep_alive_s": 1,
        "write_timeout_s": 1,
        "decoders": 2,
    }
    with servers.running(tiny_estimator, **limits) as live:
        yield live


def is_well(live, blob_png):
    """The server still answers, and nothing is left of what went before."""
    live.reconnect()  # narrow limits may end a connection that the client kept just as it is used again
    assert live.pose(blob_png, "?whole_image=true").status_code == 200
    assert live.metric("wholepose_in_flight") == 0
    assert live.metric("wholepose_held_bytes") == 0
    return True


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_body_too_long(small, servers, blob_png):
    """FAULTS 45: a length over the limit is refused before the body is read."""
    with small.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: 99999999999\r\n\r\n".encode())
        start = time.monotonic()
        answer = servers.read_all(connection)
    assert status_of(answer) == 413
    assert b"body_too_large" in answer
    assert time.monotonic() - start < 5  # and then the connection is closed, though the client never sent the body
    assert is_well(small, blob_png)


def test_chunked_body_without_end(small, servers, blob_png):
    """FAULTS 45: chunks are counted as they come; memory does not grow with what a client goes on sending."""
    chunk = b"10000\r\n" + b"\0" * 0x10000 + b"\r\n"
    before = resident_bytes()
    with small.connect() as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                connection.sendall(chunk)
        assert time.monotonic() - began < 10  # it was cut off
        assert resident_bytes() - before < 50 << 20
    assert is_well(small, blob_png)
    answer = small.client.post(
        "/v1/poses?whole_image=true", content=(chunk for _ in range(40)), headers={"Content-Type": "image/png"}
    )
    assert (answer.status_code, servers.code_of(answer)) == (413, "body_too_large")


def test_compressed_body(small, servers, blob_png):
    """FAULTS 45: a gzip bomb is not unpacked."""
    bomb = gzip.compress(b"\0" * (64 << 20))
    before = resident_bytes()
    answer = small.pose(bomb, "?whole_image=true", servers.PNG | {"Content-Encoding": "gzip"})
    assert (answer.status_code, servers.code_of(answer)) == (415, "unsupported_media_type")
    answer = small.pose(bomb, "?whole_image=true")
    assert (answer.status_code, answer.json()["error"]["message"][:27]) == (422, "the body is a gzip archive,")
    assert resident_bytes() - before < 50 << 20
    assert is_well(small, blob_png)


def test_too_many_pixels(small, servers, tiny_models):
    """FAULTS 45: refused from the header."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    answer = small.pose(file.getvalue(), "?whole_image=true")
    assert (answer.status_code, servers.code_of(answer)) == (422, "invalid_image")
    assert "30000 x 30000" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"", 0),
        (b"POST /v1/po", 0),
        (HEAD.encode(), 0),
        (f"{HEAD}Content-Length: 1000\r\n\r\nabc".encode(), 408),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode(), 408),
    ],
    ids=["nothing", "line", "head", "body", "chunks"],
)
def test_slow_clients(small, servers, blob_png, start, status):
    """FAULTS 46: who does not finish a request is cut off."""
    with small.connect() as connection:
        connection.sendall(start)
        began = time.monotonic()
        answer = servers.read_all(connection)
    assert status_of(answer) == status
    assert time.monotonic() - began < 5
    assert is_well(small, blob_png)


def test_trickle(small, servers, blob_png):
    """FAULTS 46: a byte now and then does not keep a head open."""
    with small.connect() as connection:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in HEAD.encode():
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 4.5  # all of it would take longer
    assert is_well(small, blob_png)


def test_many_slow_clients(small, servers, blob_png):
    """FAULTS 46: connections over the limit are closed at once, and when the slow ones are gone others get in."""
    slow = [small.connect() for _ in range(80)]
    try:
        closed = sum(servers.read_all(connection) == b"" for connection in slow)
        assert closed == 80
    finally:
        for connection in slow:
            connection.close()
    assert is_well(small, blob_png)


@pytest.fixture(scope="module")
def noise():
    """A JPEG file whose drawing is far larger."""
    pixels = np.random.default_rng(0).integers(0, 256, (1900, 1900, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=5)
    return file.getvalue()


def ask_for_drawing(connection, body):
    head = HEAD.replace("true", "true&format=png").replace("image/png", "image/jpeg")
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_unread_answer(servers, small, blob_png, noise):
    """A client that does not read its picture is cut off, and its place comes free."""
    whole = len(small.pose(noise, "?whole_image=true&format=png", servers.JPEG).content)
    with small.connect() as connection:
        ask_for_drawing(connection, noise)
        servers.wait_until(lambda: small.metric("wholepose_held_bytes") == whole, 10)
        servers.wait_until(lambda: small.metric("wholepose_in_flight") == 0, 10)
        assert len(servers.read_all(connection)) < whole
    assert is_well(small, blob_png)


def test_many_unread_answers(servers, tiny_estimator, noise):
    """Answers that nobody reads count against the memory for bodies, and others are put off meanwhile."""
    limits = {"max_body_bytes": 1 << 20, "max_batch_body_bytes": 1 << 20, "max_held_bytes": 2 << 20}
    with servers.running(tiny_estimator, write_timeout_s=5, **limits) as live:
        with live.connect() as connection:
            ask_for_drawing(connection, noise)
            servers.wait_until(lambda: live.metric("wholepose_held_bytes") > limits["max_held_bytes"], 10)
            refused = live.pose(noise, "?whole_image=true&format=png", servers.JPEG)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        servers.wait_until(lambda: live.metric("wholepose_held_bytes") == 0, 10)
        assert live.pose(noise, "?whole_image=true&format=png", servers.JPEG).status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET http://[::1/ HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /static/../../settings.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /static/%2e%2e%2fsettings.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_no_http(small, servers, blob_png, request_bytes):
    """FAULTS 49, 51: what is malformed gets a 4xx in JSON, or the connection ends; no word of the inside."""
    with small.connect() as connection:
        connection.sendall(request_bytes)
        answer = servers.read_all(connection)
    assert 400 <= status_of(answer) < 500
    assert b'{"error":{"code":' in answer
    for word in (b"Traceback", b"site-packages", b"/src/", b".py", b" at 0x", b"root:"):
        assert word not in answer
    assert is_well(small, blob_png)


@pytest.mark.parametrize(
    "body",
    [b"http://127.0.0.1:1/a.jpg", b"file:///etc/passwd", b"../../etc/passwd\0", b'{"url": "http://127.0.0.1:1/"}'],
)
def test_addresses_are_no_pictures(small, servers, body):
    """FAULTS 49: nothing is fetched or read for what a body says."""
    answer = small.pose(body, "?whole_image=true")
    assert (answer.status_code, servers.code_of(answer)) == (422, "invalid_image")


def test_decoder_dies(small, servers, blob_png):
    """FAULTS 48: one request fails, and in less than 5 s everything is as before."""
    before = small.service.decoders.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    answers = [small.pose(blob_png, "?whole_image=true") for _ in range(6)]
    failed = [answer for answer in answers if answer.status_code != 200]
    assert len(failed) <= len(before)
    for answer in failed:
        assert (answer.status_code, servers.code_of(answer)) == (503, "decoder_failed")
        assert int(answer.headers["retry-after"]) >= 1
    took = servers.wait_until(lambda: len(set(small.service.decoders.pids) - set(before)) == 2, 5)
    assert took < 5
    assert all(is_alive(pid) for pid in small.service.decoders.pids)
    assert is_well(small, blob_png)


def test_decoder_hangs(servers, tiny_estimator, blob_png):
    """A decoder that takes too long is replaced; the next picture is answered."""
    with servers.running(tiny_estimator, decoders=1, decode_timeout_s=0.5) as live:
        (pid,) = live.service.decoders.pids
        os.kill(pid, signal.SIGSTOP)
        answer = live.pose(blob_png, "?whole_image=true")
        assert (answer.status_code, servers.code_of(answer)) == (422, "invalid_image")
        assert live.service.decoders.pids != [pid]
        assert not is_alive(pid)
        assert live.metric('wholepose_decoder_restarts_total{reason="too slow"}') == 1
        assert is_well(live, blob_png)


def test_decoder_memory(tmp_path):
    """A picture that needs more memory than a decoder may have is refused, and the decoder lives."""
    import io
    import multiprocessing

    from PIL import Image

    from wholepose.images import ImageLimits
    from wholepose.serving.decoder_process import PIXELS, READY, REFUSED, decode_until_closed

    file = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(file, "PNG")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=decode_until_closed, args=(theirs, ImageLimits(), 40 << 20), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.recv_bytes() == READY
        ours.send_bytes(file.getvalue())
        answer = ours.recv_bytes()
        assert answer.startswith(REFUSED)
        assert b"memory" in answer
        small = io.BytesIO()
        Image.new("RGB", (60, 60)).save(small, "PNG")
        ours.send_bytes(small.getvalue())
        assert ours.recv_bytes().startswith(PIXELS)
        assert len(ours.recv_bytes()) == 60 * 60 * 3
    finally:
        ours.close()
        process.join(10)
        assert process.exitcode == 0


def test_pixels_wait_for_room(servers, tiny_estimator, blob_png):
    """Pictures that would not fit into memory together wait for each other."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1000, 900)).save(file, "PNG")
    with servers.running(tiny_estimator, decoders=4, max_pixels=900_000, max_held_pixels=1_000_000) as live:
        statuses = []

        def ask():
            statuses.append(live.pose(file.getvalue(), "?whole_image=true").status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert statuses == [200] * 8
        assert is_well(live, blob_png)


def test_full_queue_and_deadline(servers, tiny_estimator, blob_png):
    """A full server says 503 at once; who waits too long gets 503 too; both say when to come again."""
    limits = {"decoders": 1, "max_requests": 3, "max_batch_images": 3, "deadline_s": 1.5, "decode_timeout_s": 60}
    with servers.running(tiny_estimator, **limits) as live:
        (pid,) = live.service.decoders.pids
        os.kill(pid, signal.SIGSTOP)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(live.pose(blob_png, "?whole_image=true"))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        servers.wait_until(lambda: live.metric("wholepose_in_flight") == 3, 1)
        start = time.monotonic()
        refused = live.pose(blob_png, "?whole_image=true")
        assert time.monotonic() - start < 0.5
        assert (refused.status_code, servers.code_of(refused)) == (503, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        for thread in threads:
            thread.join(10)
        assert {(answer.status_code, servers.code_of(answer)) for answer in answers} == {(503, "deadline_exceeded")}
        os.kill(pid, signal.SIGCONT)
        servers.wait_until(lambda: live.pose(blob_png, "?whole_image=true").status_code == 200, 5)
        assert is_well(live, blob_png)


def test_clients_that_leave(small, servers, blob_png):
    """FAULTS 47, in small: nothing is left of clients that go away at any moment."""
    folder = Path("/proc/self/fd")
    descriptors = len(list(folder.iterdir()))
    request = f"{HEAD}Content-Length: {len(blob_png)}\r\n\r\n".encode() + blob_png
    for number in range(200):
        with small.connect() as connection:
            connection.sendall(request[: len(request) * (number % 11) // 10])
    servers.wait_until(lambda: small.connections <= 1, 10)
    assert is_well(small, blob_png)
    servers.wait_until(lambda: len(list(folder.iterdir())) <= descriptors + 3, 10)
