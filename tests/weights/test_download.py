"""Downloads against a real server on 127.0.0.1 that cuts, ignores, lies and waits."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wholepose.errors import WeightsError
from wholepose.weights import download as module
from wholepose.weights.download import download

DATA = random.Random(5).randbytes(600_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Moved</body></html>"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def offsets(server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_a_file_comes_whole_and_is_not_fetched_twice(file_server, tmp_path: Path, capfd) -> None:
    file_server.files["w.bin"] = DATA
    path = tmp_path / "deep" / "folder" / "w.bin"
    for _ in range(2):
        assert download([file_server.url("w.bin")], path, sha256=SHA256, size_bytes=len(DATA)) == path
    assert path.read_bytes() == DATA
    assert left_in(path.parent) == ["w.bin"]
    assert len(file_server.requests) == 1
    assert capfd.readouterr() == ("", "")  # no bar where stderr is no terminal
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], None])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_that_breaks_again_and_again(file_server, tmp_path: Path, sha256, chunked) -> None:
    """FAULTS 27: every connection goes on from where the last one ended."""
    file_server.files["w.bin"] = DATA
    file_server.stop_after, file_server.chunked = 100_000, chunked
    path = download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=sha256)
    assert path.read_bytes() == DATA
    assert offsets(file_server) == [None, *(f"bytes={n}00000-" for n in range(1, 6))]
    assert left_in(tmp_path) == ["w.bin"]


def test_a_connection_that_gives_nothing_is_given_up(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    file_server.stop_after = 0
    with pytest.raises(WeightsError, match="the connection ended after 0 of 600000 bytes"):
        download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256)
    assert len(file_server.requests) == module._TRIES


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_server_without_ranges_starts_again(file_server, tmp_path: Path, sha256) -> None:
    """FAULTS 27: Range ignored."""
    file_server.files["w.bin"] = DATA
    file_server.ranges = False
    file_server.stop_after, file_server.stops_left = 250_000, 2
    assert download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=sha256).read_bytes() == DATA
    assert offsets(file_server)[1:] == ["bytes=250000-"] * 2


def test_a_server_that_sends_another_range_starts_again(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    file_server.range_shift = 7
    file_server.stop_after, file_server.stops_left = 250_000, 1
    assert download([file_server.url("w.bin")], tmp_path / "w.bin").read_bytes() == DATA
    assert offsets(file_server) == [None, "bytes=250000-", None]


@pytest.mark.parametrize("etag", ['"v1"', 'W/"weak"', None])
def test_a_file_that_changed_meanwhile_starts_again(file_server, tmp_path: Path, etag) -> None:
    """FAULTS 27: the old half is never joined to a new one, without a hash by ETag, with a hash by itself."""
    path = tmp_path / "w.bin"
    file_server.etag = etag
    for sha256 in (None, SHA256):
        file_server.files["w.bin"] = bytes(len(DATA))
        file_server.stop_after = 300_000
        file_server.stops_left = module._TRIES
        file_server.ranges = False
        with pytest.raises(WeightsError, match="the connection ended"):
            download([file_server.url("w.bin")], path, sha256=sha256)
        assert left_in(tmp_path) == ["w.bin.part", "w.bin.part.json"]
        file_server.files["w.bin"], file_server.ranges, file_server.stop_after = DATA, True, None
        if etag == '"v1"':
            file_server.etag = f'"v2 {sha256}"'
        assert download([file_server.url("w.bin")], path, sha256=sha256).read_bytes() == DATA
        assert left_in(tmp_path) == ["w.bin"]
        path.unlink()
        file_server.etag = etag


def test_a_part_that_is_whole_or_too_long(file_server, tmp_path: Path) -> None:
    """FAULTS 27: stopped between the last byte and the new name; a part longer than the file (416)."""
    file_server.files["w.bin"] = DATA
    for part, size_bytes, requests in ((DATA, None, 1), (DATA, len(DATA), 0), (DATA + b"more", None, 2)):
        file_server.requests.clear()
        (tmp_path / "w.bin.part").write_bytes(part)
        path = download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256, size_bytes=size_bytes)
        assert path.read_bytes() == DATA
        assert len(file_server.requests) == requests
        path.unlink()


def test_a_damaged_part_starts_again_once(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    (tmp_path / "w.bin.part").write_bytes(bytes(100_000))
    assert download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256).read_bytes() == DATA
    assert offsets(file_server) == ["bytes=100000-", None]


@pytest.mark.parametrize(
    ("body", "seen"), [(b"wrong" * 99, ""), (PAGE, "; what came is an HTML page"), (b"", "; what came is empty")]
)
def test_a_wrong_file_is_refused_deleted_and_both_hashes_shown(file_server, tmp_path: Path, body, seen) -> None:
    """FAULTS 26: wrong hash, HTML page instead of weights."""
    file_server.files["w.bin"] = body
    with pytest.raises(WeightsError) as caught:
        download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256)
    assert f"(sha256 {hashlib.sha256(body).hexdigest()}, expected {SHA256}{seen})" in str(caught.value)
    assert left_in(tmp_path) == []
    with pytest.raises(WeightsError, match=f"expected {SHA256[:8]}"):
        download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256[:8])
    assert left_in(tmp_path) == []


def test_a_page_instead_of_a_file_without_hash(file_server, tmp_path: Path) -> None:
    """FAULTS 26."""
    file_server.files["w.bin"] = PAGE
    with pytest.raises(WeightsError, match="an HTML page came instead"):
        download([file_server.url("w.bin")], tmp_path / "w.bin")
    assert left_in(tmp_path) == []
    assert download([file_server.url("w.bin")], tmp_path / "page.html").read_bytes() == PAGE


def test_a_wrong_file_in_place_is_replaced(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    (tmp_path / "w.bin").write_bytes(b"old")
    assert download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256).read_bytes() == DATA
    file_server.files["w.bin"] = b"new"
    (tmp_path / "w.bin").write_bytes(b"old")
    with pytest.raises(WeightsError):
        download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256)
    assert (tmp_path / "w.bin").read_bytes() == b"old"


def test_mirrors_are_tried_in_order_and_each_is_named(file_server, tmp_path: Path) -> None:
    file_server.files |= {"wrong.bin": b"wrong", "good.bin": DATA}
    file_server.statuses["denied.bin"] = 403
    file_server.redirects |= {"local.bin": "file:///etc/passwd", "ftp.bin": "ftp://127.0.0.1:9/w.bin"}
    bad = [file_server.url(f"{name}.bin") for name in ("gone", "denied", "local", "ftp", "wrong")]
    bad.append("http://127.0.0.1:9/refused.bin")
    with pytest.raises(WeightsError) as caught:
        download(bad, tmp_path / "w.bin", sha256=SHA256)
    message = str(caught.value)
    for words in (
        "gone.bin: the server answers 404",
        "denied.bin: the server answers 403",
        "is not allowed",
        "ftp.bin: the server redirects to ftp://127.0.0.1:9/w.bin, which is not safe",
        "wrong.bin: the file is not the right one",
        "refused.bin: ",
    ):
        assert words in message
    assert download([*bad, file_server.url("good.bin")], tmp_path / "w.bin", sha256=SHA256).read_bytes() == DATA
    file_server.redirects["moved.bin"] = file_server.url("good.bin")
    assert download([file_server.url("moved.bin")], tmp_path / "v.bin").read_bytes() == DATA


def test_what_one_mirror_began_another_completes(file_server, tmp_path: Path) -> None:
    file_server.files |= {"a/w.bin": DATA, "b/w.bin": DATA}
    file_server.ranges = False
    file_server.stop_after, file_server.stops_left = 400_000, module._TRIES
    urls = [file_server.url("a/w.bin"), file_server.url("b/w.bin")]
    assert download(urls, tmp_path / "w.bin", sha256=SHA256).read_bytes() == DATA
    assert file_server.requests[-1][0] == "b/w.bin"
    assert file_server.requests[-1][1]["Range"] == "bytes=400000-"
    assert "If-Range" not in file_server.requests[-1][1]  # another server's tag means nothing there


def test_a_busy_server_is_asked_again(file_server, tmp_path: Path) -> None:
    class Once(dict):
        def __getitem__(self, name: str) -> int:
            return self.pop(name)

    file_server.files["w.bin"] = DATA
    file_server.statuses = Once({"w.bin": 503})
    assert download([file_server.url("w.bin")], tmp_path / "w.bin").read_bytes() == DATA
    assert len(file_server.requests) == 2


def test_sizes_are_kept(file_server, tmp_path: Path, monkeypatch) -> None:
    file_server.files["w.bin"] = DATA
    for chunked in (False, True):
        file_server.chunked = chunked
        with pytest.raises(WeightsError, match="599999 "):
            download([file_server.url("w.bin")], tmp_path / "w.bin", size_bytes=len(DATA) - 1)
        with pytest.raises(WeightsError, match="has 600000 bytes instead of 600001"):
            download([file_server.url("w.bin")], tmp_path / "w.bin", size_bytes=len(DATA) + 1)
        with monkeypatch.context() as patch:
            patch.setattr(module, "MAX_DOWNLOAD_BYTES", 1000)
            with pytest.raises(WeightsError, match="1000 "):
                download([file_server.url("w.bin")], tmp_path / "w.bin")
        assert "w.bin" not in left_in(tmp_path)


def test_compressed_answers_are_refused(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    file_server.extra_headers["Content-Encoding"] = "gzip"
    with pytest.raises(WeightsError, match=r"compresses the file \(gzip\)"):
        download([file_server.url("w.bin")], tmp_path / "w.bin")


def test_a_silent_server_is_left_in_time(file_server, tmp_path: Path) -> None:
    file_server.files["w.bin"] = DATA
    file_server.hold_after = 0
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no answer in time"):
        download([file_server.url("w.bin")], tmp_path / "w.bin", timeout_s=0.1)
    assert time.monotonic() - start < 5


def test_a_server_that_drips_is_left(file_server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SLOWEST_WINDOW_S", 0.0)
    monkeypatch.setattr(module, "_SLOWEST_BYTES_PER_S", 1e15)
    file_server.files["w.bin"] = DATA
    file_server.ranges = False
    with pytest.raises(WeightsError, match=r"only \d+ bytes came in 0 s"):
        download([file_server.url("w.bin")], tmp_path / "w.bin")


@pytest.mark.parametrize(
    ("urls", "sha256"),
    [
        ([], None),
        (["file:///etc/passwd"], None),
        (["ftp://127.0.0.1/w"], None),
        (["http://127.0.0.1/w"], "xyz"),
        (["http://127.0.0.1/w"], SHA256[:7]),
        (["http://127.0.0.1/w"], SHA256.upper()),
    ],
)
def test_arguments_are_checked(tmp_path: Path, urls, sha256) -> None:
    with pytest.raises(ValueError, match="must be"):
        download(urls, tmp_path / "w.bin", sha256=sha256)


def test_the_offline_switch(file_server, tmp_path: Path, monkeypatch) -> None:
    """FAULTS 29."""
    file_server.files["w.bin"] = DATA
    monkeypatch.setenv("WHOLEPOSE_OFFLINE", "1")
    with pytest.raises(WeightsError, match="WHOLEPOSE_OFFLINE forbids"):
        download([file_server.url("w.bin")], tmp_path / "w.bin")
    assert not file_server.requests
    monkeypatch.setenv("WHOLEPOSE_OFFLINE", "0")
    download([file_server.url("w.bin")], tmp_path / "w.bin")


def script(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(("from wholepose.weights.download import download", *lines))]


@pytest.mark.skipif(os.name == "nt", reason="uses SIGKILL")
@pytest.mark.parametrize("percent", [10, 50, 90])
@pytest.mark.parametrize("ranges", [True, False])
def test_killed_in_the_middle(file_server, tmp_path: Path, percent: int, ranges: bool) -> None:
    """FAULTS 27: killed at 10, 50 and 90 %, then the next call is right."""
    file_server.files["w.bin"] = DATA
    file_server.ranges = ranges
    file_server.hold_after = len(DATA) * percent // 100
    url, path = file_server.url("w.bin"), tmp_path / "w.bin"
    process = subprocess.Popen(script(f"download([{url!r}], {str(path)!r}, sha256={SHA256!r})"))
    part = tmp_path / "w.bin.part"
    deadline = time.monotonic() + 30
    while not part.exists() or part.stat().st_size < file_server.hold_after:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    held = part.stat().st_size
    file_server.hold_after = None
    assert download([url], path, sha256=SHA256).read_bytes() == DATA
    assert offsets(file_server) == [None, f"bytes={held}-"]
    assert left_in(tmp_path) == ["w.bin"]


def test_eight_processes_at_once_download_once(file_server, tmp_path: Path) -> None:
    """FAULTS 28: eight processes at first use."""
    file_server.files["w.bin"] = DATA
    file_server.hold_after = 300_000
    command = script(
        f"path = download([{file_server.url('w.bin')!r}], {str(tmp_path / 'w.bin')!r}, sha256={SHA256!r})",
        "print(len(path.read_bytes()))",
    )
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    time.sleep(1)
    file_server.go_on.set()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["600000\n"] * 8
    assert len(file_server.requests) == 1
    assert left_in(tmp_path) == ["w.bin"]


def test_threads_at_once_download_once(file_server, tmp_path: Path) -> None:
    """FAULTS 28: the same within one process."""
    file_server.files["w.bin"] = DATA
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(download([file_server.url("w.bin")], tmp_path / "w.bin", sha256=SHA256).read_bytes())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [DATA] * 8
    assert len(file_server.requests) == 1


@pytest.mark.skipif(os.name == "nt", reason="uses resource limits")
def test_a_full_disk_is_said_and_the_rest_comes_later(file_server, tmp_path: Path) -> None:
    """FAULTS 28 and 35: no room (a limit on the size of files gives the same error from the system)."""
    file_server.files["w.bin"] = DATA
    path = tmp_path / "w.bin"
    command = script(
        "import resource, signal",
        "from wholepose.errors import WeightsError",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))",
        "try:",
        f"    download([{file_server.url('w.bin')!r}], {str(path)!r}, sha256={SHA256!r})",
        "except WeightsError as error:",
        "    print(error)",
    )
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert f"{path}: the disk is full (File too large); free some space" in answer.stdout, answer.stderr
    assert not path.exists()
    assert download([file_server.url("w.bin")], path, sha256=SHA256).read_bytes() == DATA
    assert offsets(file_server)[-1] == "bytes=200000-"


def test_a_folder_that_cannot_be_made(file_server, tmp_path: Path) -> None:
    """FAULTS 28: read-only cache."""
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"cannot be written to \(.*; set WHOLEPOSE_HOME to a folder that can"):
        download([file_server.url("w.bin")], tmp_path / "file" / "w.bin")
    assert not file_server.requests
