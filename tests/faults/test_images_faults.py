"""Bad days with pictures: every item of FAULTS, images, that reading and finding must survive."""

import io
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wholepose.errors import ImageError
from wholepose.images import find_images, load_image, printable_path

PICTURE = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((130, 90))
)
FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "jpeg with restarts": ("JPEG", {"restart_marker_blocks": 4}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
}


def encoded(name: str) -> bytes:
    form, options = FORMATS[name]
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"", pixels: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(pixels or bytes(1 + 3 * 1000)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + png_chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_01_cut_files_are_refused(name: str) -> None:
    """FAULTS 1: cut at every 5 %, and close to the end."""
    data = encoded(name)
    assert load_image(data).shape == PICTURE.shape
    cuts = {len(data) * share // 100 for share in range(0, 100, 5)} | {len(data) - 20, len(data) - 9, len(data) - 3}
    for cut in sorted(cuts):
        with pytest.raises(ImageError):
            load_image(data[:cut])
        if name in ("jpeg", "progressive jpeg", "png"):  # a download that stopped in a file of the full size
            with pytest.raises(ImageError):
                load_image(data[:cut] + bytes(len(data) - cut))


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "jpeg with restarts", "png", "webp", "lossless webp"])
def test_01_no_byte_of_the_end_may_lack(name: str) -> None:
    """FAULTS 1: never a picture of which something is missing, be it a byte."""
    data = encoded(name)
    for missing in range(1, 40):
        with pytest.raises(ImageError):
            load_image(data[:-missing])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_02_mutations_give_an_image_error_or_an_array(name: str, data: st.DataObject) -> None:
    """FAULTS 2: bytes changed, removed, doubled."""
    sound = bytearray(encoded(name))
    mostly_header = st.one_of(st.integers(0, 80), st.integers(0, len(sound) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        where = min(data.draw(mostly_header), len(sound) - 1)
        action = data.draw(st.sampled_from(["change", "remove", "insert"]))
        if action == "change":
            sound[where] = data.draw(st.integers(0, 255))
        elif action == "remove":
            del sound[where : where + data.draw(st.integers(1, 8))]
        else:
            sound[where:where] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        image = load_image(bytes(sound))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", encoded("jpeg"))
    return buffer.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty, not an image"),
    "one byte": (b"\xff", "is of an unknown kind, not an image"),
    "zeros": (bytes(5000), "is nothing but zero bytes, not an image"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF document, not an image"),
    "pdf with a picture inside": (b"%PDF-1.4\n" + encoded("jpeg"), "is a PDF document, not an image"),
    "zip": (zip_archive(), "is a ZIP archive, not an image"),
    "zip before a picture": (zip_archive() + encoded("png"), "is a ZIP archive, not an image"),
    "mp4": (b"\0\0\0 ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99), "is an MP4 or MOV video, not an image"),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "is an HTML page, not an image"),
    "html with mark": (b"\xef\xbb\xbf<html>", "is an HTML page, not an image"),
    "svg": (
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "is an SVG drawing, which is not read",
    ),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is a PostScript (EPS) document, not an"),
    "binary eps": (b"\xc5\xd0\xd3\xc6" + bytes(60), "is a PostScript (EPS) document, not an image"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture, which is not read; convert it to one of JPEG"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "is an AVIF picture, which is not read"),
    "photoshop": (b"8BPS\0\1" + bytes(40), "is a Photoshop document, which is not read"),
    "icon": (b"\0\0\1\0\1\0" + bytes(40), "is a Windows icon, which is not read"),
    "text": ("Größe: 3\n".encode(), "is a text, not an image"),
    "json": (b'{"images": []}', "is a JSON document or a text, not an image"),
    "numpy": (b"\x93NUMPY\1\0", "is a NumPy array, not an image"),
    "matroska": (b"\x1aE\xdf\xa3" + bytes(40), "is a Matroska or WebM video, not an image"),
    "avi": (b"RIFF\x24\0\0\0AVI LIST", "is an AVI video, not an image"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_03_other_files_are_named_for_what_they_are(kind: str, tmp_path: Path) -> None:
    """FAULTS 3: whatever the ending says, the message names the file and the type found."""
    data, message = OTHERS[kind]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_03_no_subprocess_runs_and_no_other_format_opens(tmp_path: Path) -> None:
    """FAULTS 3: nothing is started, whatever the file is (an audit hook in a process of its own sees to it)."""
    for number, (data, _) in enumerate(OTHERS.values()):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    script = f"""
        import pathlib, sys
        def hook(event, arguments):
            if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.__new__"):
                print("FORBIDDEN", event)
        sys.addaudithook(hook)
        from wholepose.images import load_image
        from wholepose.errors import ImageError
        for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            try:
                load_image(path)
                print("read", path)
            except ImageError:
                pass
        print("EpsImagePlugin" in str(sorted(sys.modules)))
    """
    answer = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, "False\n"), answer.stderr


def gif_of_many_frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 40, 30, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    buffer = io.BytesIO()
    Image.fromarray(np.eye(30, 40, dtype=bool)).save(buffer, "GIF")
    data = buffer.getvalue()
    frame = data[data.index(b",\0\0\0\0") : -1]
    return head + frame * count + b";"


BOMBS: dict[str, Callable[[], bytes]] = {
    "50k x 50k png": lambda: png(50_000, 50_000, pixels=bytes(1 << 22)),
    "2^31 png": lambda: png(2**31 - 1, 2**31 - 1),
    "2^31 bmp": lambda: (
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "65535 gif": lambda: (
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0"
    ),
    "65500 jpeg": lambda: encoded("jpeg").replace(struct.pack(">HH", 90, 130), struct.pack(">HH", 65500, 65500), 1),
    "16383 webp": lambda: b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0VP8 " + bytes(20),
    "2^31 ppm": lambda: b"P6 2147483647 2147483647 255\n" + bytes(100),
    "iTXt of 300 MB": lambda: png(9, 9, png_chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(300 << 20), 1))),
    "100 iTXt of 1 MB": lambda: png(9, 9, png_chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(1 << 20))) * 100),
    "profile of 300 MB": lambda: png(9, 9, png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(300 << 20), 1))),
}


@pytest.mark.skipif(os.name == "nt", reason="the resource module measures memory")
def test_04_bombs_are_refused_from_their_header(tmp_path: Path) -> None:
    """FAULTS 4: each within 100 MB and 2 s; a GIF of 10,000 frames costs one frame."""
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    (tmp_path / "frames of gif").write_bytes(gif_of_many_frames(10_000))
    script = f"""
        import pathlib, resource, sys, time, warnings
        from wholepose.images import load_image
        from wholepose.errors import ImageError
        warnings.simplefilter("ignore")
        scale = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            start = time.monotonic()
            try:
                print(path.name, load_image(path).shape)
            except ImageError as error:
                print(path.name, "refused")
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale
            if grown > 60e6 or time.monotonic() - start > 2:
                print(path.name, "took", grown, "bytes", time.monotonic() - start, "s")
    """
    answer = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    expected = sorted([f"{name} refused" for name in BOMBS] + ["frames of gif (30, 40, 3)"])
    assert sorted(answer.stdout.splitlines()) == expected


def test_05_no_pixels() -> None:
    """FAULTS 5: zero-size headers."""
    for width, height in ((0, 5), (5, 0), (0, 0)):
        with pytest.raises(ImageError):
            load_image(png(width, height))


def animation(form: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(
        buffer, form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_09_of_an_animation_the_first_frame_with_one_warning(form: str) -> None:
    """FAULTS 9."""
    with pytest.warns(UserWarning, match="only the first is used") as caught:
        image = load_image(animation(form))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert image.shape == (10, 20, 3)
    assert np.all(image == (255, 0, 0))


@pytest.mark.skipif(os.name == "nt", reason="named pipes and links of this kind are POSIX")
def test_12_special_files_are_refused_at_once(tmp_path: Path) -> None:
    """FAULTS 12: pipe, socket, folder, device, loop of links, dead link; none of them makes it wait."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dead.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "linked pipe.jpg").symlink_to("pipe.jpg")
    expected = {
        "pipe.jpg": "is a pipe, not an image file",
        "linked pipe.jpg": "is a pipe, not an image file",
        ".": "is a folder, not an image file",
        "loop.jpg": "is a symbolic link that leads to itself",
        "dead.jpg": "is a link to nothing",
        "gone.jpg": "does not exist",
        "x" * 300: "cannot be read (File name too long)",
        "nul\0.jpg": "is no path (",
        "/dev/zero": "is a device, not an image file",
    }
    start = time.monotonic()
    for name, message in expected.items():
        path = os.path.join(tmp_path, name)  # noqa: PTH118 (pathlib would drop the dot)
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert str(caught.value).startswith(f"{printable_path(path)}: {message}")
    with pytest.raises(ImageError, match="is an address; save the picture"):
        load_image("https://example.org/photo.jpg")
    assert time.monotonic() - start < 2


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets in the file system")
def test_12_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 12: a socket in the folder."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        with pytest.raises(ImageError, match="is a socket, not an image file"):
            load_image("socket.jpg")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_12_unreadable_file(tmp_path: Path) -> None:
    """FAULTS 12."""
    path = tmp_path / "secret.png"
    path.write_bytes(encoded("png"))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        load_image(path)


@pytest.mark.parametrize("name", ["👩‍🎤 Ünï.png", os.fsdecode(b"caf\xe9.png"), "line\nbreak\x1b[31m.png"])
def test_12_names_of_any_characters_are_read_and_printed(tmp_path: Path, name: str) -> None:
    """FAULTS 12: emoji, bytes that are not UTF-8, control characters that a terminal would obey."""
    path = tmp_path / name
    try:
        path.write_bytes(encoded("png"))
    except OSError:
        pytest.skip("this file system refuses the name")
    assert np.array_equal(load_image(path), PICTURE)
    found = find_images([str(tmp_path)])
    assert np.array_equal(load_image(found.paths[0]), PICTURE)
    path.unlink()  # deleted meanwhile
    with pytest.raises(ImageError, match="does not exist") as caught:
        load_image(found.paths[0])
    text = str(caught.value)
    text.encode()  # no lone surrogate
    assert "\n" not in text
    assert "\x1b" not in text


def test_printable_path() -> None:
    assert printable_path("a/Ünï 👍.jpg") == "a/Ünï 👍.jpg"
    assert printable_path(b"caf\xe9\n.jpg") == "caf\\xe9\\x0a.jpg"
    assert printable_path("right\u202eleft\u2028") == "right\\u202eleft\\u2028"


def test_the_next_call_is_still_right() -> None:
    """After every refusal above a sound picture reads as before, and Pillow's switches are as they were."""
    from PIL import ImageFile

    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    for data, _ in OTHERS.values():
        with pytest.raises(ImageError):
            load_image(data)
    assert np.array_equal(load_image(encoded("png")), PICTURE)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
