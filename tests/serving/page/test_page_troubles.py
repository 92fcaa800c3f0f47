"""The page on bad days: what it says, and what it offers to do about it."""

import contextlib
import itertools
import json
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
    with page.expect_response(lambda answer: answer.status == 401):
        unlock(page, "a key\u2013no header can hold it")
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


def test_keys_where_nobody_is(visit, on, live_server, tmp_path):
    """The keys that move the picture work; those that need a person do nothing."""
    with Image.open(PICTURE) as picture:
        picture.crop((0, 0, 90, 60)).save(tmp_path / "wall.png")
    page = visit(live_server)
    page.set_input_files("#file", EXAMPLES / "README.md")
    notice(page)
    page.focus("#view")
    for key in ("+", "Shift+ArrowLeft", "ArrowRight", "f"):  # no picture at all
        page.keyboard.press(key)
    page.set_input_files("#file", tmp_path / "wall.png")
    page.wait_for_selector("#notice >> text=Nobody found")
    on.settle(page)
    pictures = [on.canvas_pixels(page)]
    page.focus("#view")
    for key in ("+", "Shift+ArrowLeft", "ArrowRight", "ArrowDown", "f", "Escape", "0"):
        page.keyboard.press(key)
        on.settle(page)
        pictures.append(on.canvas_pixels(page))
    changed = [bool((after != before).any()) for before, after in itertools.pairwise(pictures)]
    assert changed == [True, True, False, False, False, False, True]
    assert (pictures[-1] == pictures[0]).all()


def test_server_gone(visit, on, servers, tiny_estimator):
    with servers.running(tiny_estimator, decoders=1) as live:
        page = visit(live)
        on.open_picture(page, PICTURE)
    page.set_input_files("#file", PICTURE)
    assert notice(page).startswith("No answer. The server does not answer.")
    assert page.locator("#people li").count() == 0
    page.click("#notice >> text=Try again")
    assert notice(page).startswith("No answer.")


def test_file_changed(visit, on, live_server, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(PICTURE.read_bytes())
    page = visit(live_server)
    on.open_picture(page, path)
    path.write_bytes((EXAMPLES / "people_1.jpg").read_bytes())
    page.check("#whole")
    assert notice(page) == "That did not work. The file was changed or moved; open it again."


def test_sample_that_does_not_come(visit, live_server):
    page = visit(live_server)
    page.route("**/static/samples/*", lambda route: route.abort())
    page.click("#intro .thumbs button >> nth=1")
    assert notice(page).startswith("No answer. The server does not answer.")
    assert page.inner_text("#name") == "two.jpg"
    assert page.is_disabled("#save-json")
    page.unroute("**/static/samples/*")
    page.click("#notice >> text=Try again")
    page.wait_for_selector("#people li >> nth=1")


def test_turned_by_the_browser_alone(visit, on, live_server):
    """Poses on a picture that lies on its side are worse than poses alone."""

    def turn(route):
        answer = route.fetch()
        document = answer.json()
        document["width"], document["height"] = document["height"], document["width"]
        route.fulfill(response=answer, json=document)

    page = visit(live_server)
    page.route("**/v1/poses*", turn)
    on.open_picture(page, PICTURE)
    assert "480 × 720" in page.inner_text("#status")
    assert "This browser cannot show this kind of picture" in page.inner_text("#status")


@pytest.fixture(scope="module")
def moving_cameras(launch):
    """A browser with two cameras, which tell no side and whose pictures change."""
    browser = launch("--use-fake-device-for-media-stream=device-count=2", "--use-fake-ui-for-media-stream")
    yield browser
    browser.close()


@pytest.fixture
def camera_page(moving_cameras, live_server):
    """A page of that browser that keeps in `streams` what the cameras gave it, half a second after it asked."""
    page = moving_cameras.new_page()
    page.add_init_script(
        """
        window.streams = [];
        const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          const stream = await given(wanted);
          await new Promise((done) => setTimeout(done, 500));
          streams.push(stream);
          return stream;
        };
        """
    )
    page.goto(live_server.url)
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()


def cameras_on(page):
    """Which of the streams still film."""
    return page.evaluate("() => streams.map((stream) => stream.active)")


def test_camera_asked_for_twice(camera_page):
    """One camera is on, and none after Stop."""
    camera_page.evaluate("() => [1, 2].forEach(() => document.querySelector('#intro [data-do=camera]').click())")
    camera_page.wait_for_selector("text=/[0-9.]+ pictures a second/")
    assert cameras_on(camera_page) == [False, True]
    assert camera_page.is_hidden("#notice")
    camera_page.click("#live-stop")
    assert cameras_on(camera_page) == [False, False]


def test_camera_left_before_it_came(camera_page):
    camera_page.click("#intro [data-do=camera]")
    camera_page.set_input_files("#file", PICTURE)
    camera_page.wait_for_function("() => streams.length === 1 && !streams[0].active")
    camera_page.wait_for_selector("#people li >> nth=1")
    assert camera_page.is_hidden("#live")


def test_two_webcams(camera_page):
    """Where cameras tell no side, the switch takes one after the other; both are mirrors."""
    camera_page.click("#intro [data-do=camera]")
    for count in (1, 2, 3):
        camera_page.wait_for_function("(count) => streams.length === count", arg=count)
        camera_page.wait_for_selector("text=/[0-9.]+ pictures a second/")
        camera_page.click("#live-switch")
    camera_page.wait_for_function("() => streams.length === 4")
    ids = camera_page.evaluate("() => streams.map((stream) => stream.getVideoTracks()[0].getSettings().deviceId)")
    assert ids == [ids[0], ids[1], ids[0], ids[1]]
    assert ids[0] != ids[1]


def test_whole_picture_of_a_stopped_camera(camera_page):
    """The question is about the picture that is shown, not about the one that was on its way."""
    sent = []

    def answer_three(route):
        sent.append(route.request.post_data_buffer)
        if len(sent) != 4:
            route.continue_()

    camera_page.route("**/v1/poses*", answer_three)
    camera_page.click("#intro [data-do=camera]")
    while len(sent) < 4:
        camera_page.wait_for_timeout(50)
    camera_page.click("#live-stop")
    camera_page.check("#whole")
    camera_page.wait_for_selector("#status >> text=/^1 person · /")
    assert len(sent) == 5
    assert sent[4] == sent[2] != sent[3]


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
    page.check("#whole")  # there is no picture that could be asked about
    page.wait_for_timeout(300)
    assert notice(page).startswith("This video cannot be shown here.")
    on.open_picture(page, PICTURE)


def test_video_asked_about_again(visit, live_server, tiny_videos, tmp_path):
    """Of a video whose answers were given up there is nothing to save until one comes."""
    path = tiny_videos.write_video(tmp_path / "blob.webm", 3, codec="libvpx")
    page = visit(live_server)
    page.set_input_files("#file", path)
    page.wait_for_selector("#save-json:enabled")
    page.route("**/v1/poses*", lambda route: route.abort())
    page.check("#whole")
    assert notice(page).startswith("No answer.")
    assert page.is_disabled("#save-json")
    page.unroute("**/v1/poses*")
    page.click("#notice >> text=Try again")
    page.wait_for_selector("#people li")
    assert page.is_enabled("#save-json")


def test_video_asked_about_another_way(visit, live_server, tiny_videos, tmp_path):
    """An answer to the question before the switch was turned counts no more."""
    asked = []

    def keep_first(route):
        asked.append(route.request.url)
        if len(asked) > 1:
            route.continue_()

    path = tiny_videos.write_video(tmp_path / "blob.webm", 3, codec="libvpx")
    page = visit(live_server)
    page.route("**/v1/poses*", keep_first)
    page.set_input_files("#file", path)
    page.wait_for_selector("text=0.00 s · 1 / 3")
    while not asked:
        page.wait_for_timeout(50)
    page.check("#whole")
    page.wait_for_selector("#people li")
    assert ["whole_image=true" in url for url in asked] == [False, True]


def test_odd_names(visit, on, live_server, tmp_path):
    """What a file is called never reaches the page as HTML, nor the server as a bad parameter."""
    name = "Screenshot 10.00\u202fAM \U0001fa77\u202e <img src=x onerror=alert(1)> " + "ä" * 40 + ".jpg"
    (tmp_path / name).write_bytes(PICTURE.read_bytes())
    page = visit(live_server)
    page.set_input_files("#file", tmp_path / name)
    page.wait_for_selector("#people li")
    on.download(page, "#save-json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["image"] == name.replace("\u202e", " ")
    assert page.text_content("#name") == name
    assert page.locator("#name img").count() == 0
