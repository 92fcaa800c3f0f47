"""FAULTS 19, 22, 23 and 35 for videos on the command line: damage, signals, playlists, full disks."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from wholepose.errors import VideoError
from wholepose.videos import open_video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and limits of POSIX")


@pytest.fixture(scope="module")
def inputs(tiny_models, tiny_videos, tmp_path_factory):
    """A folder with a model and a long video."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_models.save_heatmap_model(folder / "tiny.onnx", name="tiny")
    tiny_videos.write_video(folder / "long.mp4", 1500, gop=50)
    return folder


def command(inputs, *words):
    model = ("--model", inputs / "tiny.onnx", "--box", "0,0,64,48", "--threads", 1)
    return [sys.executable, "-m", "wholepose", "predict", *map(str, (*words, *model))]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def start(inputs, out):
    """Starts on the long video and waits until it writes pictures."""
    program = subprocess.Popen(
        command(inputs, inputs / "long.mp4", "--out", out, "--draw"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_output(program, out, ".mp4")
    return program


def wait_for_output(program, out, suffix):
    """Waits until something is in a file that has no final name yet."""
    deadline = time.monotonic() + 120
    while not any(path.suffix == suffix and path.stat().st_size for path in out.glob(".*")):
        assert program.poll() is None, program.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(inputs, tmp_path, number, code):
    """FAULTS 22: Ctrl-C leaves a playable file or none; here none, since the video was not done."""
    program = start(inputs, tmp_path)
    program.send_signal(number)
    _, err = program.communicate(timeout=60)
    assert program.returncode == code
    assert b"Traceback" not in err
    assert names_in(tmp_path) == []


def test_killed(inputs, tmp_path):
    """FAULTS 35: nothing stands under a final name."""
    program = start(inputs, tmp_path)
    program.kill()
    program.communicate(timeout=60)
    assert [name for name in names_in(tmp_path) if not name.startswith(".")] == []


@pytest.mark.parametrize("how", ["documents", "pictures"])
def test_full_disk(inputs, tmp_path, how):
    """FAULTS 35: reported, and nothing half written is left."""

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    words = ("--draw",) if how == "pictures" else ("--frames", "0:60")
    done = subprocess.run(
        command(inputs, inputs / "long.mp4", "--out", tmp_path, *words),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert names_in(tmp_path) == []


def test_full_disk_while_pictures_are_written(tmp_path):
    """FAULTS 35: the writer says which file, and leaves none."""
    program = (
        "import resource, signal, numpy as np\n"
        "from wholepose.videos import VideoWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "noise = np.random.default_rng(0)\n"
        "try:\n"
        "    with VideoWriter('o.mp4', 10) as writer:\n"
        "        for index in range(60):\n"
        "            writer.write(noise.integers(0, 256, (96, 96, 3), dtype=np.uint8), index / 10)\n"
        "except OSError as error:\n"
        "    print(error.strerror, error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "File too large o.mp4", done.stderr
    assert names_in(tmp_path) == []


def test_reader_of_stdout_goes_away(inputs):
    """FAULTS 35: EPIPE ends the run quietly."""
    program = subprocess.Popen(command(inputs, inputs / "long.mp4"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(program.stdout.readline())["frame"] == 0
    program.stdout.close()
    err = program.stderr.read()
    assert program.wait(timeout=60) == 1
    assert b"Traceback" not in err


class Trap(http.server.BaseHTTPRequestHandler):
    """Remembers who came by."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_args):
        pass


@pytest.fixture
def trap():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def playlists(secret, port):
    """Files that name others: by path, by address, in every way FFmpeg knows."""
    address = f"http://127.0.0.1:{port}/x.mp4"
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n",
        "hls_key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{address}"\n#EXTINF:5,\nfile://{secret}\n',
        "concat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{address}'\n",
        "concat_bare": f"file '{secret}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
        f'<BaseURL>{address}</BaseURL><AdaptationSet><Representation id="1"><BaseURL>{secret}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "m3u": f"{address}\n{secret}\n",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".avi", ""])
def test_playlists_open_nothing(tiny_videos, tmp_path, trap, suffix):
    """FAULTS 23: refused; no other file is opened, no address is asked."""
    secret = tiny_videos.write_video(tmp_path / "secret.mp4", 3)
    opened = []
    active = [True]

    def watch(event, arguments):
        if active[0] and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    before = os.stat(secret).st_atime_ns  # noqa: PTH116
    try:
        for name, text in playlists(secret, trap.server_port).items():
            path = tmp_path / f"{name}{suffix}"
            path.write_text(text)
            with pytest.raises(VideoError, match="is no video that can be read"):
                open_video(path)
    finally:
        active[0] = False
    assert trap.asked == []
    assert not any("secret" in name for name in opened)
    assert os.stat(secret).st_atime_ns == before  # noqa: PTH116


def test_outside_references_are_not_followed(tiny_videos, tmp_path):
    """FAULTS 23: a QuickTime file may say that its pictures lie in another file; they are not fetched."""
    path = tiny_videos.write_video(tmp_path / "a.mov", 3)
    data = bytearray(path.read_bytes())
    start = data.rindex(b"dref")
    entry = data.index(b"url ", start)
    data[entry + 4 : entry + 8] = bytes(4)  # not "in this file" any more
    path.write_bytes(data)
    with open_video(path) as reader:  # FFmpeg reads on in this very file
        assert reader.info.size == (48, 64)


def test_damage_in_the_middle(inputs, tiny_videos, tmp_path):
    """FAULTS 19: goes on, counts, exit code 1, results of all that can be read."""
    path = tiny_videos.damage(tiny_videos.write_video(tmp_path / "d.mp4", 30), [8, 9, 20])
    done = subprocess.run(
        command(inputs, path, "--out", tmp_path / "out", "--draw"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    lost = 30 - len((tmp_path / "out" / "d.jsonl").read_text().splitlines())
    assert lost >= 3
    assert f"{lost} frames of it cannot be read (damaged or cut off); the other {30 - lost} are done" in done.stderr
    assert len(list(open_video(tmp_path / "out" / "d_poses.mp4"))) == 30 - lost


def test_a_recording_ends_with_ctrl_c(inputs, tiny_videos, tmp_path):
    """What comes from an address has no end of its own: Ctrl-C completes the files."""
    data = tiny_videos.write_video(tmp_path / "live.ts", 400, gop=5).read_bytes()

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                for start in range(0, len(data), 18_800):
                    self.wfile.write(data[start : start + 18_800])
                    self.wfile.flush()
                    over.wait(0.02)
                over.wait(60)
            except OSError:
                pass

        def log_message(self, *_args):
            pass

    over = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    out = tmp_path / "out"
    out.mkdir()
    try:
        address = f"http://127.0.0.1:{server.server_port}/live.ts"
        program = subprocess.Popen(
            command(inputs, address, "--out", out, "--draw"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_for_output(program, out, ".jsonl")
        program.send_signal(signal.SIGINT)
        over.set()
        _, err = program.communicate(timeout=60)
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert program.returncode == 130, err.decode()
    drawn = [path for path in out.iterdir() if path.suffix == ".mp4"]
    lines = [path for path in out.iterdir() if path.suffix == ".jsonl"]
    assert len(drawn) == len(lines) == 1
    assert len(list(open_video(drawn[0]))) == len(lines[0].read_text().splitlines()) > 0
