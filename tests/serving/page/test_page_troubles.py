"""The page on bad days: what it says, and what it offers to do about it."""

import contextlib
import re
from pathlib import Path

import pytest
from PIL import Image, features

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
PICTURE = EXAMPLES / "people_3.jpg"
KEY = "a key for tests"


@pytest.fixture(scope="module")
def estimator(servers):
    from wholepose.estimator import PoseEstimator

    return PoseEstimator.from_pretrained(threads=1)


@pytest.fixture(scope="module")
def strict_server(servers, estimator):
    """A server with little room: small pictures, one at a time, and only for those who know its key."""
    limits = {"max_body_bytes": 60_000, "max_pixels": 600_000, "max_requests": 1, "max_batch_images": 1, "decoders": 1}
    with servers.running(estimator, api_key=KEY, **limits) as live:
        live.client.headers["Authorization"] = f"Bearer {KEY}"
        yield live


def unlock(page, key=KEY):
    page.fill("#notice input[type=password]", key)
    page.keyboard.press("Enter")


@pytest.fixture
def strict_page(visit, strict_server):
    page = visit(strict_server, ready=False)
    unlock(page)
    page.wait_for_selector("body[data-ready]")
    return page


def notice(page):
    page.wait_for_selector("#notice:visible")
    return page.inner_text("#notice p")


@contextlib.contextmanager
def taken(server, servers):
    """Takes a server's only place, with a request whose body does not come."""
    head = f"POST /v1/poses HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: image/png\r\n"
    with server.connect() as other:
        other.sendall(f"{head}Content-Length: 9\r\n\r\n".encode())
        servers.wait_until(lambda: server.metric("wholepose_in_flight") == 1, 10)
        yield


def test_key(visit, strict_server):
    """A wrong key is asked for again, a right one lasts for the next page too."""
    page = visit(strict_server, ready=False)
    assert notice(page).startswith("This server asks for a key.")
    assert page.is_hidden("#intro")
    assert page.evaluate("() => document.activeElement.type") == "password"
    with page.expect_response(lambda answer: answer.status == 401):
        unlock(page, "wrong")
    page.wait_for_selector("#notice >> text=That is not the key of this server.")
    unlock(page)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#intro")
    assert page.is_hidden("#notice")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#file", PICTURE)
    page.wait_for_selector("#people li")


@pytest.mark.parametrize("name", ["README.md", "cut.jpg"])
def test_not_an_image(visit, on, live_server, tmp_path, name):
    (tmp_path / "README.md").write_bytes((EXAMPLES / "README.md").read_bytes())
    (tmp_path / "cut.jpg").write_bytes(PICTURE.read_bytes()[:900])
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / name)
    assert notice(page).startswith(f"{name} cannot be read as a picture. T")  # and the server's own words
    assert page.get_attribute("#notice", "role") == "alert"
    assert page.is_disabled("#save-json")
    for button in ("#zoom-in", "#zoom-out", "#zoom-fit"):  # nothing to zoom, and no error
        page.click(button)
    on.open_picture(page, PICTURE)  # and it goes on
    assert page.is_hidden("#notice")


def test_read_by_the_server_alone(visit, on, live_server, tmp_path):
    """TIFF: the browser shows no picture, but the poses."""
    Image.open(PICTURE).save(tmp_path / "scan.tif")
    page = visit(live_server)
    on.open_picture(page, tmp_path / "scan.tif")
    assert "This browser cannot show this kind of picture" in page.inner_text("#status")
    assert page.locator("#people li").count() == 2
    assert on.canvas_pixels(page)[..., 3].max() > 200
    assert on.download(page, "#save-png", tmp_path / "a.png") == "scan_poses.png"


def test_upright(visit, on, live_server, tmp_path):
    """A picture that its EXIF turns is shown as the server sees it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(PICTURE) as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    page = visit(live_server)
    on.open_picture(page, tmp_path / "turned.jpg")
    assert "720 × 480" in page.inner_text("#status")
    on.open_picture(page, PICTURE)
    assert "720 × 480" in page.inner_text("#status")


@pytest.mark.parametrize(
    ("size", "quality", "words"),
    [
        ((810, 540), 95, r"It has 0\.\d MB; the server takes 0\.1 MB\."),
        ((1440, 960), 20, "It has 1 million pixels; the server takes 1 million pixels."),
    ],
    ids=["bytes", "pixels"],
)
def test_too_large(strict_page, tmp_path, size, quality, words):
    """A smaller copy is offered, and it is small enough."""
    with Image.open(PICTURE) as picture:
        picture.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=quality)
    strict_page.set_input_files("#file", tmp_path / "large.jpg")
    assert re.search(words, notice(strict_page))
    assert strict_page.locator("#people li").count() == 0
    strict_page.click("#notice >> text=Send a smaller copy")
    strict_page.wait_for_selector("#people li")
    assert strict_page.inner_text("#name") == "large_small.jpg"


def test_read_by_the_browser_alone(visit, live_server, tmp_path):
    """AVIF: the browser sends what it sees as JPEG."""
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    Image.open(PICTURE).save(tmp_path / "new.avif", quality=95)
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / "new.avif")
    assert notice(page).startswith("new.avif cannot be read as a picture.")
    page.click("#notice >> text=Send a JPEG copy")
    page.wait_for_selector("#people li")
    assert "720 × 480" in page.inner_text("#status")


def test_busy(strict_page, strict_server, servers):
    """While another has the only place, the page waits and says so; then it gets its turn."""
    with taken(strict_server, servers):
        strict_page.set_input_files("#file", PICTURE)
        assert re.fullmatch(r"The server is busy\. Trying again in \d+ s\.", notice(strict_page))
        assert strict_page.get_attribute("#notice", "role") == "status"
        assert strict_page.locator("#people li").count() == 0
    strict_page.wait_for_selector("#people li")
    assert strict_page.is_hidden("#notice")


def test_busy_and_stopped(strict_page, strict_server, servers):
    """One may stop waiting: nothing is asked any more, until one wants to."""
    with taken(strict_server, servers):
        strict_page.set_input_files("#file", PICTURE)
        notice(strict_page)
        strict_page.click("#notice >> text=Stop")
    strict_page.wait_for_timeout(1800)
    assert strict_page.locator("#people li").count() == 0
    assert strict_page.is_hidden("#progress")
    strict_page.click("#notice >> text=Try again")
    strict_page.wait_for_selector("#people li")


def test_nobody_then_the_whole_picture(visit, live_server, tmp_path):
    Image.new("RGB", (160, 120), (90, 120, 150)).save(tmp_path / "sky.png")
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / "sky.png")
    assert notice(page).startswith("Nobody found in this picture.")
    assert page.inner_text("#status").startswith("Nobody found")
    page.click("#notice >> text=Treat the whole picture as one person")
    page.wait_for_selector("#people li")
    assert page.locator("#people li").count() == 1
    assert page.is_checked("#whole")
    assert page.is_hidden("#notice")
    assert page.evaluate("() => document.activeElement.id") == "view"  # the focus is not lost with the message
    page.uncheck("#whole")
    assert notice(page).startswith("Nobody found in this picture.")


def test_server_gone(visit, on, servers, tiny_estimator):
    with servers.running(tiny_estimator, decoders=1) as live:
        page = visit(live)
        on.open_picture(page, PICTURE)
    page.set_input_files("#file", PICTURE)
    assert notice(page).startswith("No answer. The server does not answer.")
    assert page.locator("#people li").count() == 0
    page.click("#notice >> text=Try again")
    assert notice(page).startswith("No answer.")


def test_no_camera(launch, live_server):
    browser = launch()
    page = browser.new_page()
    page.goto(live_server.url)
    page.wait_for_selector("body[data-ready]")
    page.click("#intro [data-do=camera]")
    assert notice(page) in (
        "No camera. There is no camera here.",
        "No camera. The browser was told not to use the camera. Allow it in the address bar and try again.",
    )
    assert page.is_hidden("#live")
    browser.close()


def test_unplayable_video(visit, on, live_server, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / "clip.mp4")
    assert notice(page).startswith("This video cannot be shown here.")
    assert "wholepose predict clip.mp4 --draw" in notice(page)
    on.open_picture(page, PICTURE)


def test_odd_names(visit, live_server, tmp_path):
    """What a file is called never reaches the page as HTML, nor the server as a bad parameter."""
    name = "Screenshot 10.00\u202fAM <img src=x onerror=alert(1)> " + "ä" * 40 + ".jpg"
    (tmp_path / name).write_bytes(PICTURE.read_bytes())
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / name)
    page.wait_for_selector("#people li")
    assert page.text_content("#name") == name
    assert page.locator("#name img").count() == 0
