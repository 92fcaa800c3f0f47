"""FAULTS 52: `wholepose serve` as a process: SIGTERM under load, a taken port, weights that are missing."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="talks to the server with httpx")
pytest.importorskip("uvicorn", reason="needs the [serve] extra")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PICTURE = (Path(__file__).resolve().parent.parent.parent / "examples" / "people_1.jpg").read_bytes()


def start(*words):
    """Starts the command; gives the process and its address."""
    program = subprocess.Popen(
        [sys.executable, "-m", "wholepose", "serve", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    line = program.stderr.readline()
    match = re.fullmatch(r"wholepose: serving on (http://127\.0\.0\.1:\d+)/\n", line)
    assert match, line + program.stderr.read()
    return program, match.group(1)


def children(pid):
    folder = Path(f"/proc/{pid}/task")
    return [int(each) for task in folder.iterdir() for each in (task / "children").read_text().split()]


def is_running(pid):
    """Whether a process still does something within a second; its entry may stay where nobody collects it."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drains(number):
    """What was begun is answered in full, new connections are refused, the exit code is 0, and no process is left."""
    program, url = start()
    answers, refused = [], []
    stop = threading.Event()

    def ask():
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/poses", content=PICTURE, headers={"Content-Type": "image/jpeg"})
                except httpx.ConnectError:
                    refused.append(1)
                    return
                except httpx.TransportError:  # a kept connection that the server closed while it was idle
                    continue
                answers.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while len(answers) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        decoders = children(program.pid) if sys.platform == "linux" else []
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        program.kill()
    assert program.returncode == 0, err
    assert set(answers) == {200}
    assert len(refused) == 8
    assert (out, err) == ("", "")
    if sys.platform == "linux":
        assert decoders
        for pid in decoders:
            assert not is_running(pid)


def test_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "wholepose", "serve", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == f"wholepose: 127.0.0.1 port {port}: {os.strerror(98)}\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "missing.onnx"), 1, "missing.onnx"),
        (("--batch-size", "0"), 2, "a whole number from 1 on is needed"),
        (("--port", "70000"), 2, "a number from 0 to 65535"),
    ],
)
def test_cannot_start(words, code, said):
    done = subprocess.run(
        [sys.executable, "-m", "wholepose", "serve", "--port", "0", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
