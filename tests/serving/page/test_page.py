"""The page in a real browser, on a real server: pictures in, poses on the canvas, files out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from wholepose.draw import draw_poses
from wholepose.images import load_image
from wholepose.outputs import poses_document
from wholepose.skeletons import HALPE136

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
PICTURE = EXAMPLES / "people_3.jpg"
DESKTOP = {"width": 1100, "height": 760}
PHONE = {"width": 360, "height": 740}
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def answer(live_server):
    """The library's document for the picture that most tests show."""
    estimator = live_server.service.estimator
    image = load_image(PICTURE)
    poses = estimator.predict(image)
    assert len(poses) == 2
    name = estimator.runtime.card.name
    return poses_document(poses, image=PICTURE.name, size=image.shape[:2], model=name, uncertainty=True)


def above(answer, person, threshold, parts=tuple(HALPE136.parts)):
    """How many keypoints of a person are shown."""
    scores = np.array(answer["people"][person]["keypoints"])[:, 2]
    return sum(int((scores[list(HALPE136.parts[part])] > threshold).sum()) for part in parts)


def place_on_canvas(page, answer, x, y):
    """Where a place of a wholly seen picture is, in CSS pixels of the canvas."""
    box = page.locator("#view").bounding_box()
    scale = min((box["width"] - 24) / answer["width"], (box["height"] - 24) / answer["height"], 3)
    left = (box["width"] - answer["width"] * scale) / 2
    top = (box["height"] - answer["height"] * scale) / 2
    return {"x": left + (x + 0.5) * scale, "y": top + (y + 0.5) * scale}


def test_first_load(browser, live_server):
    """Less than 300 kB as sent without compression, all from this server, and nothing else is asked for."""
    context = browser.new_context(extra_http_headers={"Accept-Encoding": "identity"})
    page = context.new_page()
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(live_server.url, wait_until="networkidle")
    sizes = {each.url: len(each.body()) for each in answers}
    assert all(each.status == 200 for each in answers)
    assert all(url.startswith(live_server.url) for url in sizes)
    assert {url.removeprefix(live_server.url) for url in sizes} >= {"/", "/static/app.js", "/static/samples/one.jpg"}
    assert sum(sizes.values()) < MOST_BYTES
    context.close()


def test_upload(visit, on, live_server, answer, tmp_path):
    """The page shows what the library answers, and hands out the server's document byte for byte."""
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    assert page.locator("#people li").count() == 2
    status = page.inner_text("#status")
    assert re.fullmatch(r"2 people · 720 × 480 · \d+ ms", status)
    assert page.get_attribute("#view", "aria-label") == "people_3.jpg, 720 by 480 pixels. 2 people."
    assert page.inner_text("#shown") == f"Shows {above(answer, 0, 0.3)} of 136 keypoints of person 1."
    assert on.download(page, "#save-json", tmp_path / "a.json") == "people_3.json"
    assert json.loads((tmp_path / "a.json").read_text()) == answer


def test_png_looks_as_draw_poses(visit, on, live_server, tmp_path):
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    assert on.download(page, "#save-png", tmp_path / "a.png") == "people_3_poses.png"
    saved, plain = load_image(tmp_path / "a.png"), load_image(PICTURE)
    drawn = draw_poses(plain, live_server.service.estimator.predict(plain))
    assert saved.shape == drawn.shape

    def difference(first, second):
        return float(np.abs(first.astype(float) - second).mean())

    assert difference(saved, drawn) < 0.25 * difference(plain, drawn)


@pytest.mark.parametrize("way", ["sample", "paste", "drop"])
def test_other_ways_in(visit, live_server, way):
    page = visit(live_server, permissions=["clipboard-read", "clipboard-write"])
    if way == "sample":
        page.click("#intro .thumbs button >> nth=1")
    elif way == "paste":
        page.evaluate(
            """async () => {
              const picture = await createImageBitmap(await (await fetch("static/samples/two.jpg")).blob());
              const canvas = new OffscreenCanvas(picture.width, picture.height);
              canvas.getContext("2d").drawImage(picture, 0, 0);
              const item = new ClipboardItem({ "image/png": await canvas.convertToBlob() });
              await navigator.clipboard.write([item]);
            }"""
        )
        page.keyboard.press("Control+V")
    else:
        page.evaluate(
            """async () => {
              const transfer = new DataTransfer();
              const blob = await (await fetch("static/samples/two.jpg")).blob();
              transfer.items.add(new File([blob], "two.jpg", { type: "image/jpeg" }));
              for (const kind of ["dragenter", "dragover", "drop"]) {
                document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true }));
              }
            }"""
        )
    page.wait_for_selector("#people li")
    assert page.inner_text("#status").startswith("2 people · 960 × 720")
    assert "dropping" not in (page.get_attribute("body", "class") or "")


def spoken(keypoint):
    """A keypoint's name as the page says it."""
    name = HALPE136.keypoint_names[keypoint]
    return {"head": "top of the head", "hip": "middle of the hips"}.get(name, name.replace("_", " "))


def clearest_keypoint(answer):
    """Of the first person's keypoints that stand apart from all others, the one with the best score."""
    points = np.concatenate([np.array(person["keypoints"]) for person in answer["people"]])
    apart = np.linalg.norm(points[:, None, :2] - points[None, :136, :2], axis=2)
    apart[np.arange(136), np.arange(136)] = np.inf
    alone = apart.min(axis=0) > 15
    return int(np.argmax(np.where(alone, points[:136, 2], -1)))


def test_hover_tells_of_a_keypoint(visit, on, live_server, answer):
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    person = answer["people"][0]
    keypoint = clearest_keypoint(answer)
    x, y, score = person["keypoints"][keypoint]
    xx, _, yy = person["covariances"][keypoint]
    before = on.canvas_pixels(page)
    page.hover("#view", position=place_on_canvas(page, answer, x, y))
    page.wait_for_selector("#tip:visible")
    deviation = ((xx + yy) / 2) ** 0.5
    assert page.inner_text("#tip") == f"{spoken(keypoint)}\nscore {score:.2f} ± {deviation:.1f} px"
    assert (on.canvas_pixels(page) != before).any(axis=2).sum() > 200  # the ellipse and the ring
    page.hover("#save-json")
    page.wait_for_selector("#tip", state="hidden")


def test_parts_and_threshold(visit, on, live_server, answer):
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    everything = on.canvas_pixels(page)
    page.uncheck("#parts input[name=face]", force=True)
    parts = [part for part in HALPE136.parts if part != "face"]
    assert page.inner_text("#shown") == f"Shows {above(answer, 0, 0.3, parts)} of 136 keypoints of person 1."
    on.settle(page)
    assert (on.canvas_pixels(page) != everything).any()
    page.check("#parts input[name=face]", force=True)
    on.settle(page)
    np.testing.assert_array_equal(on.canvas_pixels(page), everything)
    page.check("#show-ellipses", force=True)
    page.check("#show-boxes", force=True)
    on.settle(page)
    assert (on.canvas_pixels(page) != everything).any()
    page.fill("#threshold", "0.7")
    assert page.inner_text("#threshold-value") == "0.70"
    assert page.inner_text("#shown") == f"Shows {above(answer, 0, 0.7)} of 136 keypoints of person 1."
    page.click("#people button >> nth=1")
    assert page.inner_text("#shown") == f"Shows {above(answer, 1, 0.7)} of 136 keypoints of person 2."
    assert page.get_attribute("#people button >> nth=1", "aria-pressed") == "true"


def test_keys_table_and_zoom(visit, on, live_server, answer):
    """With the keyboard alone: through the keypoints, into the face and back."""
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    page.click("summary")
    page.focus("#view")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#said").startswith("nose, score ")
    on.settle(page)
    nose = on.tip_place(page)
    assert page.inner_text("tr.active th") == "nose"
    cells = page.locator("tr.active td").all_inner_texts()
    x, y, score = answer["people"][0]["keypoints"][0]
    assert cells[:3] == [f"{x:.1f}", f"{y:.1f}", f"{score:.2f}"]
    assert page.locator("tbody tr").count() == 136 + len(HALPE136.parts)
    page.keyboard.press("ArrowRight")
    on.settle(page)
    apart = np.abs(on.tip_place(page) - nose).max()
    page.keyboard.press("f")
    on.settle(page)
    close = on.tip_place(page)
    page.keyboard.press("ArrowLeft")
    on.settle(page)
    assert np.abs(on.tip_place(page) - close).max() > 3 * apart
    page.keyboard.press("0")
    on.settle(page)
    np.testing.assert_allclose(on.tip_place(page), nose)
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#said").startswith("Person 2 of 2")
    page.keyboard.press("Escape")
    on.settle(page)
    assert not page.is_visible("#tip")
    before = on.canvas_pixels(page)
    for button in ("#zoom-in", "#zoom-out"):
        page.click(button)
    on.settle(page)
    np.testing.assert_array_equal(on.canvas_pixels(page), before)


def test_mouse_zooms_and_drags(visit, on, live_server, answer):
    """The wheel zooms about the pointer; a drag moves the picture with the pointer."""
    page = visit(live_server)
    on.open_picture(page, PICTURE)
    keypoint = clearest_keypoint(answer)
    x, y, _ = answer["people"][0]["keypoints"][keypoint]
    page.hover("#view", position=place_on_canvas(page, answer, x, y))
    page.wait_for_selector("#tip:visible")
    first = on.tip_place(page)
    page.mouse.wheel(0, -900)
    on.settle(page)
    # The pointer stands on whole pixels, up to half a one beside the keypoint; zooming widens that.
    np.testing.assert_allclose(on.tip_place(page), first, atol=3)
    first = on.tip_place(page)
    assert spoken(keypoint) in page.inner_text("#tip")
    box = page.locator("#view").bounding_box()
    place = place_on_canvas(page, answer, x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + place["x"] + 30, box["y"] + place["y"] - 20, steps=4)
    on.settle(page)
    np.testing.assert_allclose(on.tip_place(page) - first, (30, -20), atol=1)
    page.mouse.up()


def test_camera(visit, on, live_server, tmp_path):
    """A camera that films a picture of two people: they are found in it, and the last picture stays."""
    page = visit(live_server)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "v1/poses" in request.url else None)
    page.click("#intro [data-do=camera]")
    page.wait_for_selector("#people li >> nth=1")
    page.wait_for_selector("text=/[0-9.]+ pictures a second/")
    while len(asked) < 12:
        page.wait_for_timeout(50)
    page.click("#live-stop")
    assert "The camera is off." in page.inner_text("#status")
    assert page.is_hidden("#live")
    people = page.locator("#people li").count()
    assert on.download(page, "#save-json", tmp_path / "a.json") == "camera.json"
    document = json.loads((tmp_path / "a.json").read_text())
    assert len(document["people"]) == people
    assert all(0 < person["score"] < person["box_score"] < 0.9 for person in document["people"])
    # People are searched for in every fifth picture, and kept in sight in those between.
    assert ["boxes=" in url for url in asked[:10]] == [False, True, True, True, True] * 2
    assert max(document["height"], document["width"]) <= 960
    assert not page.evaluate("() => document.getElementById('video').srcObject")


def test_video(visit, on, tiny_server, tiny_videos, tmp_path):
    """Frame by frame, each the right one; a model without a detector takes each frame as one person."""
    path = tiny_videos.write_video(tmp_path / "blob.webm", 12, codec="libvpx")
    page = visit(tiny_server)
    assert page.is_checked("#whole")
    assert page.is_disabled("#whole")
    page.set_input_files("#file", path)
    page.wait_for_selector("#people li")
    assert page.inner_text("#clip-time") == "0.00 s · 1 / 12"
    assert "64 × 48 · 10 frames a second" in page.inner_text("#status")
    page.click("#clip-on")
    page.wait_for_selector("text=0.10 s · 2 / 12")
    page.click("#clip-back")
    page.wait_for_selector("text=0.00 s · 1 / 12")
    page.click("#clip-play")
    page.wait_for_selector("text=1.10 s · 12 / 12")
    page.wait_for_selector("#clip-play:text('Play')")
    assert on.download(page, "#save-json", tmp_path / "a.json") == "blob.json"
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["skeleton"], document["model"]) == ("halpe136", "tiny")
    assert [frame["frame"] for frame in document["frames"]] == list(range(12))
    assert [frame["time_s"] for frame in document["frames"]] == [index / 10 for index in range(12)]
    for index, frame in enumerate(document["frames"]):
        (person,) = frame["people"]
        np.testing.assert_allclose(person["keypoints"][0][:2], tiny_videos.blob_center(index), atol=0.7)
    assert on.download(page, "#save-png", tmp_path / "a.png") == "blob_000011_poses.png"


def test_phone(visit, on, live_server, answer):
    """At 360 pixels nothing reaches beyond the screen; lines are as fine as the screen; fingers tap and pinch."""
    page = visit(live_server, viewport=PHONE, device_scale_factor=3, has_touch=True, is_mobile=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
    on.open_picture(page, PICTURE)
    assert page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert min(box["width"], box["height"]) >= 32
    width = page.locator("#view").bounding_box()["width"]
    assert on.canvas_pixels(page).shape[1] == round(3 * width)
    keypoint = clearest_keypoint(answer)
    x, y, _ = answer["people"][0]["keypoints"][keypoint]
    place = place_on_canvas(page, answer, x, y)
    page.tap("#view", position=place)
    page.wait_for_selector("#tip:visible")
    assert "score" in page.inner_text("#tip")

    box = page.locator("#view").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    touch = page.context.new_cdp_session(page)
    before = on.canvas_pixels(page)

    def send(kind, reach):
        points = [{"x": middle[0] + side * reach, "y": middle[1]} for side in (-1, 1)] if reach else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 20)
    for reach in range(25, 100, 5):
        send("touchMove", reach)
    send("touchEnd", 0)
    on.settle(page)
    assert page.evaluate("() => document.getElementById('view').style.touchAction") == "none"  # zoomed: fingers move it
    page.click("#zoom-fit")
    on.settle(page)
    assert page.evaluate("() => document.getElementById('view').style.touchAction") == "pan-y"
    assert np.abs(on.canvas_pixels(page).astype(int) - before).mean() < 5  # as it was, but for the keypoint tapped


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["light", "dark"])
def test_accessible(visit, on, live_server, scheme, viewport):
    """No finding of axe, whatever its weight: first page, a picture with its table, and a message."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = visit(live_server, viewport=viewport, color_scheme=scheme)

    def findings():
        return [(each["id"], each["help"], each["nodes"][0]["target"]) for each in axe.run(page).response["violations"]]

    assert findings() == []
    on.open_picture(page, PICTURE)
    page.click("summary")
    page.focus("#view")
    page.keyboard.press("ArrowRight")
    assert findings() == []
    page.set_input_files("#file", EXAMPLES / "README.md")
    page.wait_for_selector("#notice[role=alert]:visible")
    assert findings() == []
