"""What a drawn picture says of its people: 136 keypoints, what is seen of them, boxes and masks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.synth.meshes import bounds
from wholepose.synth.person import Person
from wholepose.synth.render import Camera, Layers, Scene

SMALLEST_AREA_PX = 24
"""A person of whom fewer pixels show is not annotated."""

MIN_DEPTH_M = 0.05
"""Points nearer to the lens than this do not count for a box."""


@dataclasses.dataclass(frozen=True, eq=False)
class SynthSample:
    """A picture and its people.

    Convention:
        Pixels as in :mod:`wholepose.geometry`: the centre of the first pixel is (0, 0).
    """

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    keypoints: NDArray[np.float32]
    """(N, 136, 2) pixels, also of points outside the picture."""
    visibility: NDArray[np.uint8]
    """(N, 136): 2 seen, 1 hidden by something or by the person themselves, 0 outside the picture."""
    boxes: NDArray[np.float32]
    """(N, 4) xyxy pixels around what shows of each person."""
    areas: NDArray[np.float32]
    """(N,) pixels of the mask."""
    masks: NDArray[np.bool_]
    """(N, H, W) where each person shows."""
    person_ids: NDArray[np.int64]
    """(N,) who each person is in the scene, the same in all frames of a clip."""

    def __len__(self) -> int:
        return len(self.keypoints)


def projected_box(person: Person, camera: Camera, photo: tuple[int, int]) -> NDArray[np.float64]:
    """The box of a person in a photo (xyxy), cut at its edges."""
    points = np.concatenate([surface.vertices for surface in person.surfaces])
    pixels, depth = camera.project(points)
    pixels = pixels[depth > MIN_DEPTH_M]
    least, greatest = bounds(pixels)
    low = np.maximum(least, -0.5)
    high = np.minimum(greatest, np.array([photo[1], photo[0]]) - 0.5)
    high = np.maximum(high, low + 8)
    return np.concatenate([low, high])


def in_picture(pixels: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(...) which points (..., 2) lie on a picture of (height, width)."""
    limit = np.array([size[1], size[0]]) - 0.5
    return np.asarray(((pixels > -0.5) & (pixels < limit)).all(axis=-1))


def see(scene: Scene, people: list[Person], camera: Camera, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, 136) visibility of people in a photo of (height, width), whatever crop of it the camera's picture is."""
    points = np.concatenate([person.keypoints for person in people])
    owner = np.repeat(np.arange(len(people)), 136)
    seen = scene.seen(camera, points, np.concatenate([person.depths_m for person in people]), owner)
    pixels, depth = dataclasses.replace(camera, crop=None).project(points)
    inside = in_picture(pixels, size) & (depth > 0.02)
    return np.where(inside, np.where(seen, 2, 1), 0).astype(np.uint8).reshape(-1, 136)


def annotate(
    image: NDArray[np.uint8],
    layers: Layers,
    people: list[Person],
    camera: Camera,
    scene: Scene,
    photo: tuple[int, int],
    *,
    always: bool,
) -> SynthSample:
    """Annotates a picture.

    Args:
        image: (H, W, 3) what is drawn.
        layers: What the renderer found.
        people: Who is annotated; numbered as in the scene.
        camera: The camera.
        scene: What it looks at.
        photo: (height, width) of the photo that the picture is a crop of, or is.
        always: Also those of whom nothing shows.
    """
    size = image.shape[:2]
    pixels, _ = camera.project(np.concatenate([person.keypoints for person in people]))
    visibility = see(scene, people, camera, photo)
    visibility[~in_picture(pixels, size).reshape(-1, 136)] = 0
    masks, boxes, kept = [], [], []
    for number in range(len(people)):
        mask = layers.person == number
        if not always and mask.sum() < SMALLEST_AREA_PX:
            continue
        box = _mask_box(mask)
        if box is None:
            box = (-0.5, -0.5, size[1] - 0.5, size[0] - 0.5)
        _hide_stray_points(visibility[number], pixels[number * 136 : (number + 1) * 136], mask, box)
        boxes.append(box)
        masks.append(mask)
        kept.append(number)
    return SynthSample(
        image=image,
        keypoints=pixels.reshape(-1, 136, 2)[kept].astype(np.float32),
        visibility=visibility[kept],
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        areas=np.array([mask.sum() for mask in masks], dtype=np.float32),
        masks=np.array(masks, dtype=bool).reshape(-1, *layers.person.shape),
        person_ids=np.array(kept, dtype=np.int64),
    )


def _mask_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return (columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5)


def _hide_stray_points(
    visibility: NDArray[np.uint8],
    pixels: NDArray[np.floating],
    mask: NDArray[np.bool_],
    box: tuple[float, float, float, float],
) -> None:
    """Calls seen points hidden where no pixel of their person shows nearby: thinner than a pixel, or behind hair."""
    reach = int(0.03 * max(box[2] - box[0], box[3] - box[1]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = np.asarray(cv2.dilate(mask.astype(np.uint8), disc))
    seen = np.flatnonzero(visibility == 2)
    columns, rows = np.clip(np.round(pixels[seen]).astype(np.int64), 0, np.array(mask.shape[::-1]) - 1).T
    visibility[seen[near[rows, columns] == 0]] = 1
