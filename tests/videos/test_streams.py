"""Streams over the network, from servers on this machine; and cameras where there are none."""

import base64
import contextlib
import json
import re
import socket
import struct
import sys
import threading
import time

import numpy as np
import pytest

from wholepose.cli.main import main
from wholepose.errors import VideoError
from wholepose.videos import open_video

FRAMES = 20


class RtspServer:
    """Sends an H.264 stream to whoever asks, as an IP camera does: RTSP, with RTP in the same TCP connection.

    Each picture part is one RTP packet (RFC 6184, single NAL units), which TCP carries at any size.
    """

    def __init__(self, stream, *, seconds_a_frame, silent=False):
        self.parts = [part for part in re.split(rb"\x00\x00\x00?\x01", stream) if part]
        self.seconds_a_frame, self.silent = seconds_a_frame, silent
        self.over = threading.Event()
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.talk(connection)

    def talk(self, connection):
        file = connection.makefile("rb")
        while True:
            lines = []
            while (line := file.readline().decode().strip()) or not lines:
                lines.append(line)
                if not line:
                    return
            method, address = lines[0].split()[:2]
            self.asked.append(method)
            number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
            extra, body = "", ""
            if method == "OPTIONS":
                extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                sets = ",".join(base64.b64encode(part).decode() for part in self.parts if part[0] & 31 in (7, 8))
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    "a=rtpmap:96 H264/90000\r\na=control:track\r\n"
                    f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={sets}\r\n"
                )
                extra = f"Content-Base: {address}/\r\nContent-Type: application/sdp\r\n"
            elif method == "SETUP":
                extra = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            elif method == "PLAY":
                extra = "Session: 1\r\n"
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}{length}\r\n{body}".encode())
            if method == "PLAY":
                self.play(connection)
                return

    def play(self, connection):
        frame = 0
        for number, part in enumerate(self.parts):
            if self.silent:
                self.over.wait(60)
                return
            shown = part[0] & 31 in (1, 5)
            head = struct.pack(">BBHII", 0x80, 96 | (128 if shown else 0), number, frame * 9000, 1)
            connection.sendall(b"$\x00" + struct.pack(">H", len(head) + len(part)) + head + part)
            if shown:
                frame += 1
                if self.over.wait(self.seconds_a_frame):
                    return

    def close(self):
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def serve(tiny_videos, tmp_path):
    servers = []

    def start(**how):
        path = tiny_videos.write_video(tmp_path / "live.h264", FRAMES, container="h264", options={}, gop=5)
        servers.append(RtspServer(path.read_bytes(), **how))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_frames_of_an_rtsp_camera(serve, tiny_videos):
    server = serve(seconds_a_frame=0.02)
    with open_video(f"rtsp://127.0.0.1:{server.port}/live") as reader:
        assert reader.info.is_live
        assert (reader.info.size, reader.info.codec, reader.expected_frames) == ((48, 64), "h264", None)
        frames = list(reader)
    assert "PLAY" in server.asked
    assert len(frames) == FRAMES
    for frame in frames:
        np.testing.assert_allclose(tiny_videos.blob_place(frame.image), tiny_videos.blob_center(frame.index), atol=0.7)
        assert frame.time_s == pytest.approx(frame.index / 10, abs=0.02)  # FFmpeg gives the first packet no time


def test_predict_an_rtsp_camera(serve, tiny_models, tmp_path, capsys):
    """Its name comes from the address without the password; the files are complete when the camera ends."""
    model = tiny_models.save_heatmap_model(tmp_path / "tiny.onnx", name="tiny")
    server = serve(seconds_a_frame=0.1)
    words = ["--model", model, "--box", "0,0,64,48", "--threads", 2, "--out", tmp_path / "out", "--draw", "--smooth"]
    address = f"rtsp://me:secret@127.0.0.1:{server.port}/live"
    code = main(["predict", address, *map(str, words)])
    err = capsys.readouterr().err
    assert code == 0, err
    name = f"127.0.0.1_{server.port}_live"
    lines = (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
    assert 0 < len(lines) <= FRAMES
    assert len(list(open_video(tmp_path / "out" / f"{name}_poses.mp4"))) == len(lines)
    assert json.loads(lines[0])["image"] == f"rtsp://127.0.0.1:{server.port}/live"
    assert "secret" not in err + lines[0]


def test_a_camera_that_falls_silent(serve, monkeypatch):
    """An error that names it, after the time limit."""
    monkeypatch.setattr("wholepose.videos.sources._OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr("wholepose.videos.sources.READ_TIMEOUT_S", 1.0)
    server = serve(seconds_a_frame=0.02, silent=True)
    start = time.monotonic()
    with pytest.raises(VideoError, match=rf"rtsp://127\.0\.0\.1:{server.port}/live: "):
        open_video(f"rtsp://127.0.0.1:{server.port}/live")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("address", ["rtsp://127.0.0.1:9/live", "http://127.0.0.1:9/live.ts"])
def test_nobody_answers(address):
    with pytest.raises(VideoError, match=r"cannot be opened \(Connection refused\)"):
        open_video(address)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cameras have other names elsewhere")
def test_no_such_camera():
    with pytest.raises(VideoError, match=r"webcam:97: cannot be opened \(No such file or directory\)"):
        open_video("webcam:97")
    with pytest.raises(VideoError, match="webcam:front: cameras are counted from 0: webcam:0"):
        open_video("webcam:front")
