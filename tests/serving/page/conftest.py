"""A browser that visits real servers."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PICTURE = HERE.parent.parent.parent / "examples" / "people_3.jpg"
DESKTOP = {"width": 1100, "height": 760}


@pytest.fixture(scope="session")
def on():
    """The module tests/serving/page/page_actions.py: what one does on the page."""
    spec = importlib.util.spec_from_file_location("page_actions", HERE / "page_actions.py")
    module = sys.modules.setdefault("page_actions", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sync_api():
    return pytest.importorskip("playwright.sync_api", reason="needs playwright, of the [dev] extra")


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory):
    """What the browser's make-believe camera shows: a still picture."""
    path = tmp_path_factory.mktemp("camera") / "people.mjpeg"
    path.write_bytes(PICTURE.read_bytes() * 2)
    return path


@pytest.fixture(scope="module")
def playwright(sync_api):
    # Not longer than this module: while it runs, nothing else in this thread can have an event loop.
    with sync_api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def launch(playwright):
    """launch(*arguments) starts Chromium: the system's, else playwright's own."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next((name for name in found if name), playwright.chromium.executable_path)
    if not Path(path).exists():
        pytest.skip("needs Chromium: `apt install chromium`, or `playwright install chromium`")
    return lambda *arguments: playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])


@pytest.fixture(scope="module")
def browser(launch, camera_file):
    browser = launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera_file}",
    )
    yield browser
    browser.close()


@pytest.fixture
def visit(browser):
    """visit(server, ...) opens the page as a new visitor; at the end nothing must have gone wrong in its scripts."""
    contexts, complaints = [], []

    def open_page(server, *, viewport=DESKTOP, ready=True, **options):
        context = browser.new_context(viewport=viewport, reduced_motion="reduce", **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(server.url)
        if ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # What a server refuses, the browser's console tells too.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
