"""What stands behind people: photos from a folder, or rooms, streets and skies made up."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError
from wholepose.images import IMAGE_SUFFIXES, load_image
from wholepose.synth.render import Camera


class Backgrounds:
    """Draws backgrounds.

    Args:
        folder: Folder with photos that show no people, or None for made-up places only.

    Raises:
        ConfigError: The folder holds no picture.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._paths: list[Path] = []
        if folder is not None:
            if not folder.is_dir():
                raise ConfigError(f"--backgrounds {folder} is not a folder")
            self._paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            if not self._paths:
                raise ConfigError(f"--backgrounds {folder} holds no picture ({', '.join(IMAGE_SUFFIXES)})")

    def sample(self, generator: np.random.Generator, size: tuple[int, int], camera: Camera) -> NDArray[np.float32]:
        """A background (H, W, 3) in [0, 1], sRGB.

        Args:
            generator: Random numbers.
            size: (height, width).
            camera: Tells where the horizon is.
        """
        kind = generator.random()
        if self._paths and kind < 0.65:
            return self._photo(generator, size)
        if kind < 0.72 and self._paths:
            return _flat(generator, size)
        if not self._paths and kind < 0.2:
            return _flat(generator, size)
        return _place(generator, size, camera)

    def _photo(self, generator: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
        path = self._paths[int(generator.integers(len(self._paths)))]
        image = load_image(path)
        height, width = size
        # The largest window of the wanted shape, shrunk a bit and placed at random.
        scale = min(image.shape[0] / height, image.shape[1] / width) * generator.uniform(0.55, 1.0)
        window_h, window_w = max(int(height * scale), 2), max(int(width * scale), 2)
        top = int(generator.integers(0, max(image.shape[0] - window_h, 0) + 1))
        left = int(generator.integers(0, max(image.shape[1] - window_w, 0) + 1))
        window = image[top : top + window_h, left : left + window_w]
        if generator.random() < 0.5:
            window = window[:, ::-1]
        interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        resized = cv2.resize(np.ascontiguousarray(window), (width, height), interpolation=interpolation)
        return np.asarray(resized.astype(np.float32) / 255, dtype=np.float32)


def _color(generator: np.random.Generator, strength: float = 0.2) -> NDArray[np.float64]:
    grey = generator.uniform(0.08, 0.95)
    return np.asarray(np.clip(grey + generator.normal(0, strength * 0.3, 3), 0.02, 1.0))


def _noise(generator: np.random.Generator, size: tuple[int, int], octaves: tuple[int, ...]) -> NDArray[np.float32]:
    """Smooth noise (H, W) of about unit spread; octaves are cells across."""
    height, width = size
    total = np.zeros(size, np.float32)
    for cells in octaves:
        rows = max(2, cells * height // max(width, 1))
        grid = generator.normal(0, 1, (rows, cells)).astype(np.float32)
        total += np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)) / np.sqrt(len(octaves))
    return np.asarray(total, dtype=np.float32)


def _flat(generator: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """A studio wall: a gradient with a little noise."""
    height, width = size
    first, second = _color(generator), _color(generator, 0.15)
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (np.cos(angle) * x / width + np.sin(angle) * y / height + 1) / 2
    blend = (first + (second - first) * generator.uniform(0.1, 0.6) * along[..., None]).astype(np.float32)
    blend += 0.03 * generator.random() * _noise(generator, size, (4, 16))[..., None]
    return np.asarray(np.clip(blend, 0, 1), dtype=np.float32)


def _place(generator: np.random.Generator, size: tuple[int, int], camera: Camera) -> NDArray[np.float32]:
    """A floor in perspective, walls or sky above it, and clutter."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    to_photo = camera.to_photo().astype(np.float32)
    x, y = (row[0] * x + row[1] * y + row[2] for row in to_photo)
    rays = np.stack(
        [(x - camera.center[0]) / camera.focal_px, (y - camera.center[1]) / camera.focal_px, np.ones_like(x)], -1
    )
    rays = rays @ camera.rotation.astype(np.float32)
    up = rays[..., 2]
    flat = np.maximum(np.hypot(rays[..., 0], rays[..., 1]), 1e-6)
    wall_m = float(generator.choice([generator.uniform(2, 6), generator.uniform(8, 40)])) + float(
        np.linalg.norm(camera.position[:2])
    )
    indoors = wall_m < 14
    down = up < -1e-4
    reach = np.where(down, camera.position[2] / np.maximum(-up, 1e-4), 1e6)
    on_floor = down & (reach * flat < wall_m)
    floor_x = camera.position[0] + rays[..., 0] * np.minimum(reach, 1e3)
    floor_y = camera.position[1] + rays[..., 1] * np.minimum(reach, 1e3)
    # The wall or far scenery is a cylinder around the camera.
    angle = np.arctan2(rays[..., 0], rays[..., 1])
    rise = camera.position[2] + up / flat * wall_m
    picture = np.empty((height, width, 3), np.float32)

    wall = _color(generator)
    texture = _noise(generator, size, (3, 9, 40))[..., None] * generator.uniform(0.01, 0.05)
    picture[:] = wall + texture
    style = generator.random()
    if indoors:
        if style < 0.25:  # bricks or tiles
            brick = generator.uniform(0.1, 0.5)
            row = np.floor(rise / brick)
            column = np.floor(angle * wall_m / (2 * brick) + 0.5 * (row % 2))
            shade = np.sin(row * 12.9898 + column * 78.233) * 43758.5453
            picture += ((shade - np.floor(shade))[..., None] - 0.5).astype(np.float32) * 0.12
            joint = (np.mod(rise / brick, 1) < 0.08) | (
                np.mod(angle * wall_m / (2 * brick) + 0.5 * (row % 2), 1) < 0.04
            )
            picture[joint] *= 0.75
        elif style < 0.45:  # stripes of wallpaper or a curtain
            picture *= 1 + 0.12 * np.sin(angle * wall_m * generator.uniform(6, 40))[..., None]
        picture[rise < generator.uniform(0.05, 0.15)] *= 0.7
    else:
        sky = np.array([0.55, 0.7, 0.92]) * generator.uniform(0.6, 1.1) + generator.normal(0, 0.05, 3)
        clouds = np.clip(_noise(generator, size, (3, 7, 15)) * generator.uniform(0.1, 0.6), 0, 1)[..., None]
        above = np.clip(up / flat * 2, 0, 1)[..., None]
        skyline = (sky * (1 - 0.35 * above) * (1 - clouds) + clouds * 0.95).astype(np.float32)
        edge = generator.uniform(0.5, 9) + 3 * np.abs(_noise(generator, (1, width), (6, 14)))
        blocks = np.floor(angle * generator.uniform(4, 14))
        steps = np.sin(blocks * 127.1) * 43758.5453
        roof = edge if generator.random() < 0.5 else generator.uniform(2, 5) + 7 * (steps - np.floor(steps))
        picture = np.where((rise > roof)[..., None], skyline, picture)
        if generator.random() < 0.5:
            leaves = _noise(generator, size, (20, 60))[..., None] * 0.12
            green = np.array([0.22, 0.33, 0.14]) * generator.uniform(0.6, 1.3)
            picture = np.where((rise <= roof)[..., None], green + leaves, picture)
        elif generator.random() < 0.6:  # windows
            open_ = (np.mod(angle * wall_m / 2.2, 1) < 0.5) & (np.mod(rise / 2.8, 1) < 0.55) & (rise <= roof)
            picture[open_] = picture[open_] * 0.5 + 0.08
    floor = _color(generator) * 0.9
    ground = np.broadcast_to(floor, picture.shape).astype(np.float32)
    grain = _noise(generator, size, (12, 60))[..., None] * generator.uniform(0.005, 0.05)
    ground = ground + grain
    kind = generator.random()
    tile = generator.uniform(0.15, 1.2)
    fade = np.clip(1.5 - reach * 0.06, 0.0, 1.0)[..., None]
    if kind < 0.3:
        check = (np.floor(floor_x / tile) + np.floor(floor_y / tile)) % 2
        ground = ground * (1 - 0.3 * generator.random() * fade * check[..., None])
    elif kind < 0.55:
        plank = np.sin(np.floor(floor_x / (tile * 0.4)) * 91.7) * 43758.5453
        ground = ground * (1 + 0.25 * fade * ((plank - np.floor(plank))[..., None] - 0.5))
    elif kind < 0.7:
        joint = (np.mod(floor_x / tile, 1) < 0.04) | (np.mod(floor_y / tile, 1) < 0.04)
        ground = ground * (1 - 0.35 * fade * joint[..., None])
    picture = np.where(on_floor[..., None], ground, picture).astype(np.float32)
    picture = _clutter(generator, np.clip(picture, 0, 1), int(generator.integers(0, 10)))
    if generator.random() < 0.4:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), generator.uniform(0.4, 0.012 * width + 0.5)))
    return np.clip(picture, 0, 1).astype(np.float32)


def _clutter(generator: np.random.Generator, picture: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Boxes, poles, discs and lines such as furniture, signs and cars leave in a photo."""
    height, width = picture.shape[:2]
    canvas = np.ascontiguousarray(picture)
    for _ in range(count):
        color = tuple(float(part) for part in _color(generator, generator.choice([0.15, 0.4, 0.8])))
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        reach_x = int(generator.uniform(0.02, 0.3) * width) + 1
        reach_y = int(generator.uniform(0.02, 0.3) * height) + 1
        shape = generator.random()
        if shape < 0.45:
            cv2.rectangle(canvas, (x, y), (x + reach_x, y + reach_y), color, -1)
            if generator.random() < 0.5:
                cv2.rectangle(canvas, (x, y), (x + reach_x, y + reach_y), (0.1, 0.1, 0.1), 1)
        elif shape < 0.6:
            cv2.ellipse(canvas, (x, y), (reach_x // 2 + 1, reach_y // 2 + 1), 0.0, 0.0, 360.0, color, -1)
        elif shape < 0.85:
            end = (x + int(generator.normal(0, 0.5) * width * 0.2), y + int(generator.normal(0, 1) * height * 0.5))
            cv2.line(canvas, (x, y), end, color, int(generator.integers(1, max(2, width // 40))), cv2.LINE_AA)
        else:
            points = (np.array([[x, y]]) + generator.normal(0, 0.12, (4, 2)) * [width, height]).astype(np.int32)
            cv2.fillConvexPoly(canvas, cv2.convexHull(points), color, cv2.LINE_AA)
    return canvas
