"""FAULTS 35 and the exit codes of `wholepose predict`: full disk, closed pipe, signals while writing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wholepose.images import save_image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and limits of POSIX")

PICTURES = 400


@pytest.fixture
def work(tiny_models, tmp_path):
    """A folder with a model and many pictures."""
    tiny_models.save_heatmap_model(tmp_path / "tiny.onnx", name="tiny")
    photos = tmp_path / "photos"
    photos.mkdir()
    save_image(photos / "p000.png", tiny_models.blob_image((200, 180), (100, 90), 9))
    for index in range(1, PICTURES):
        shutil.copy(photos / "p000.png", photos / f"p{index:03}.png")
    return tmp_path


def command(*words):
    return [sys.executable, "-m", "wholepose", "predict", "--model", "tiny.onnx", "--box", "60,40,140,150", *words]


def names_in(folder):
    """Names of what a folder holds, hidden files too, sorted."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def check_documents(folder):
    """Every file under a final name is whole."""
    names = [name for name in names_in(folder) if not name.startswith(".")]
    for name in names:
        assert len(json.loads((folder / name).read_text())["people"]) == 1
    return names


def start(work, *words, **more):
    """Starts the command and waits until it has written something."""
    program = subprocess.Popen(
        command(*words, "--out", "out"), cwd=work, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **more
    )
    deadline = time.monotonic() + 60
    while not any(name.startswith("p") for name in names_in(work / "out")):
        assert program.poll() is None, program.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return program


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_interrupted(work, number, code, word):
    """Ctrl-C gives 130, SIGTERM 143; what is there under a final name is whole, and nothing else is left."""
    program = start(work, "photos")
    program.send_signal(number)
    out, err = program.communicate(timeout=30)
    assert program.returncode == code, err.decode()
    assert err.decode().splitlines()[-1] == f"wholepose: {word}"
    assert b"Traceback" not in err
    assert out == b""
    assert 0 < len(check_documents(work / "out")) < PICTURES
    assert not [name for name in names_in(work / "out") if name.startswith(".")]


def test_killed(work):
    """FAULTS 35: SIGKILL while writing leaves whole files only, and the next run is right."""
    program = start(work, "photos")
    program.kill()
    program.communicate(timeout=30)
    assert program.returncode == -signal.SIGKILL
    assert 0 < len(check_documents(work / "out")) < PICTURES
    again = subprocess.run(
        command("photos/p00*.png", "--out", "out"), cwd=work, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "10 pictures, 10 people" in again.stderr
    check_documents(work / "out")


def test_failures_are_listed_when_interrupted(work):
    (work / "photos" / "a.png").write_bytes(b"no picture")
    program = start(work, "photos")
    program.terminate()
    _, err = program.communicate(timeout=30)
    assert program.returncode == 143
    assert "1 input failed:" in err.decode()
    assert "photos/a.png" in err.decode()


def test_reader_goes_away(work):
    """FAULTS 35: EPIPE, as with `| head -1`: ends at once, quietly, exit 1."""
    program = subprocess.Popen(command("photos"), cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = program.stdout.readline()
    assert len(json.loads(first)["people"]) == 1
    program.stdout.close()
    err = program.stderr.read()
    program.stderr.close()
    assert program.wait(timeout=30) == 1
    assert err == b""


def test_full_disk(work):
    """FAULTS 35: no room for a document: said with its name, exit 1, and what was there before stays."""
    assert subprocess.run(command("photos/p000.png", "--out", "out"), cwd=work, check=False).returncode == 0
    before = (work / "out" / "p000.json").read_bytes()
    import resource

    done = subprocess.run(
        command("photos/p00[01].png", "--uncertainty", "--out", "out"),
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 1
    assert "p000.json" in done.stderr
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert (work / "out" / "p000.json").read_bytes() == before
    assert names_in(work / "out") == ["p000.json"]


def test_no_space_at_all(work):
    """FAULTS 35: a full device stops the run, since no other document would fit either."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command("photos"), cwd=work, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes everywhere")
def test_folder_without_right(work):
    (work / "out").mkdir(mode=0o500)
    done = subprocess.run(
        command("photos/p000.png", "--out", "out"), cwd=work, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
