"""`wholepose predict --show`: a window where there is a display, and a word of help where there is none."""

import os
import shutil
import subprocess
import sys

import pytest

from wholepose.cli.main import main
from wholepose.cli.window import Window
from wholepose.errors import ConfigError

pytest.importorskip("tkinter", reason="this Python has no Tk")


@pytest.fixture(scope="module")
def display():
    """The name of a display without a screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb, a display without a screen: apt install xvfb")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24"]
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, pass_fds=(writer,), **nowhere)
    os.close(writer)
    with os.fdopen(reader) as numbers:
        yield f":{numbers.readline().strip()}"
    server.kill()
    server.wait(timeout=20)


def run(program, display, *words):
    """Runs a program of its own: X ends those whose display goes away."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=os.environ | {"DISPLAY": display},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_no_display(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="--show: no window can be opened"):
        Window()
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert main(["predict", str(tmp_path / "clip.mp4"), "--show"]) == 2
    assert "write a film with --draw instead" in capsys.readouterr().err


PICTURES = """
import os, time
import av, numpy as np
from wholepose.cli.window import Window

def screen(window):
    window._root.geometry("+0+0")
    window._root.update()
    with av.open(os.environ["DISPLAY"], format="x11grab", options={"video_size": "800x600", "draw_mouse": "0"}) as grab:
        return next(grab.decode(video=0)).to_ndarray(format="rgb24")

image = np.zeros((60, 80, 3), np.uint8)
image[:, :40], image[:, 40:] = (250, 10, 20), (10, 20, 250)
with Window() as window:
    assert window.show(image, "first")
    shown = screen(window)
    assert (shown == (250, 10, 20)).all(-1).sum() == (shown == (10, 20, 250)).all(-1).sum() == 2400
    assert window.show(np.full((1200, 2000, 3), 77, np.uint8), "larger than the screen")
    assert (screen(window) == 77).all(-1).sum() == 720 * 432
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    window.show(image, "warm")
    start = time.perf_counter()
    for _ in range(20):
        window.show(image, "clip")
    print(f"{(time.perf_counter() - start) / 20 * 1e3:.1f}")
    window._root.focus_force()
    window._root.event_generate("<q>")
    assert not window.show(image, "closed")
assert not window.show(image, "closed")
"""


def test_pictures_are_on_the_screen(display):
    """As they are, or as large as the screen allows; Q closes; showing is no brake on a camera."""
    milliseconds = float(run(PICTURES, display))
    print(f"{milliseconds} ms a picture of 640x360")
    assert milliseconds < 100


PREDICT = """
import sys
from wholepose.cli.main import main
from wholepose.cli.window import Window

seen = []
show = Window.show

def close_at_the_third(window, image, title):
    seen.append(title)
    if len(seen) == 3:
        window.close()
    return show(window, image, title)

Window.show = close_at_the_third
clip, model, out = sys.argv[1:]
words = ["predict", clip, "--model", model, "--box", "0,0,64,48", "--threads", "1", "--show", "--smooth"]
assert main([*words, "--out", out, "--draw"]) == 0
assert seen == [clip] * 3
Window.show = show
assert main(words) == 0
"""


def test_a_file_is_predicted_to_its_end(display, tiny_models, tiny_videos, tmp_path):
    """With or without somebody who looks; without --out, nothing is written."""
    model = tiny_models.save_heatmap_model(tmp_path / "tiny.onnx", name="tiny")
    clip = tiny_videos.write_video(tmp_path / "clip.mp4", 12)
    assert run(PREDICT, display, clip, model, tmp_path / "out") == ""
    assert len((tmp_path / "out" / "clip.jsonl").read_text().splitlines()) == 12
