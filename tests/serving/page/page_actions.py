"""What one does on the page, and sees."""

import base64

import numpy as np


def open_picture(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector("#status:not(:empty)")
    page.wait_for_selector("#people li")
    settle(page)


def settle(page):
    """Waits until what was asked for is painted."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def canvas_pixels(page):
    """(H, W, 4) uint8 of the canvas."""
    height, width, values = page.evaluate(
        """() => {
          const canvas = document.getElementById("view");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          let text = "";
          for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
          return [height, width, btoa(text)];
        }"""
    )
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)


def download(page, button, path):
    with page.expect_download() as waiting:
        page.click(button)
    waiting.value.save_as(path)
    return waiting.value.suggested_filename


def tip_place(page):
    box = page.locator("#tip").bounding_box()
    return np.array([box["x"], box["y"]])
