"""Where the time goes between a picture's file and its poses."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from wholepose.boxes import whole_image_box
from wholepose.detectors import PersonDetector
from wholepose.draw import draw_poses
from wholepose.estimator import PoseEstimator
from wholepose.export.pictures import draw_pictures
from wholepose.geometry import Protocol, crop_image, crop_matrices, crop_regions
from wholepose.images import load_image
from wholepose.runtimes import Runtime

_JPEG_QUALITY = 95


def draw_photo() -> bytes:
    """A drawn 640 x 480 picture as a JPEG file, for where the user has given none; nobody is on it."""
    picture = draw_pictures(1, (480, 640))[0]
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


def time_stages(
    photo: bytes, runtime: Runtime, detector: PersonDetector | None, *, seconds: float, flip_test: bool = False
) -> tuple[dict[str, float], int]:
    """Times each step from a picture's bytes to a drawing.

    Args:
        photo: The picture's file.
        runtime: The pose model.
        detector: Finds the people; None, or a picture in which it finds nobody, takes the picture as one person's box.
        seconds: How long to time each step.
        flip_test: With the flip test.

    Returns:
        Median milliseconds by step, for the whole picture, and how many people were on it.

    Raises:
        ImageError: The bytes are no picture.
    """
    card = runtime.card
    image = load_image(photo)
    found = detector.detect([image])[0].boxes if detector is not None else np.zeros((0, 4), np.float32)
    boxes = found if len(found) else whole_image_box(image).astype(np.float32)
    protocol: Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"

    def cut() -> np.ndarray:
        regions = crop_regions(boxes, card.input_size[1] / card.input_size[0])
        matrices = crop_matrices(*regions, card.input_size, protocol=protocol)
        return np.stack([crop_image(image, matrix, card.input_size) for matrix in matrices])

    crops = cut()
    poses = PoseEstimator(runtime).predict(image, boxes)
    steps: dict[str, Callable[[], object]] = {"decode image": lambda: load_image(photo)}
    if detector is not None:
        steps["detect people"] = lambda: detector.detect([image])
    steps["cut crops"] = cut
    steps["infer, with decoding"] = lambda: runtime.predict(crops, flip_test=flip_test)
    steps["draw"] = lambda: draw_poses(image, poses)
    return {name: _median(step, seconds) for name, step in steps.items()}, len(boxes)


def _median(step: Callable[[], object], seconds: float) -> float:
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
