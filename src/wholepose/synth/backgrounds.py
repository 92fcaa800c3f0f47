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
    width = size[1]
    across, ahead, up = _rays(camera, size)
    level = np.maximum(np.hypot(across, ahead), np.float32(1e-6))
    east, north, height_m = (float(value) for value in camera.position)
    wall_m = float(generator.choice([generator.uniform(2, 6), generator.uniform(8, 40)])) + float(np.hypot(east, north))
    down = up < -1e-4
    reach = np.where(down, height_m / np.maximum(-up, np.float32(1e-4)), np.float32(1e6))
    # The wall or far scenery is a cylinder around the camera.
    around_m = np.arctan2(across, ahead) * np.float32(wall_m)
    rise = height_m + up / level * wall_m

    # Planes of colour (3, H, W): with colours last, NumPy's inner loop would be three long.
    wall = _color(generator).astype(np.float32)[:, None, None]
    picture = wall + _noise(generator, size, (3, 9, 40)) * np.float32(generator.uniform(0.01, 0.05))
    style = generator.random()
    if wall_m < 14:
        picture = _indoors(generator, picture, around_m, rise, style)
    else:
        picture = _outdoors(generator, picture, around_m, rise, slope=up / level, far_m=wall_m)
    limit = np.float32(1e3)
    floor_x, floor_y = (p + ray * np.minimum(reach, limit) for p, ray in ((east, across), (north, ahead)))
    picture = np.where(down & (reach * level < wall_m), _floor(generator, floor_x, floor_y, reach), picture)
    picture = np.ascontiguousarray(np.clip(picture, 0, 1).transpose(1, 2, 0))
    picture = _clutter(generator, picture, int(generator.integers(0, 10)))
    if generator.random() < 0.4:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), generator.uniform(0.4, 0.012 * width + 0.5)))
    return np.asarray(np.clip(picture, 0, 1), dtype=np.float32)


def _rays(camera: Camera, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Directions of a picture's pixels in the world, without distortion: x, y and z (H, W)."""
    to_ray = np.diag([1 / camera.focal_px, 1 / camera.focal_px, 1.0])
    to_ray[:2, 2] = -np.array(camera.center) / camera.focal_px
    maps = camera.rotation.T @ to_ray @ np.vstack([camera.to_photo(), [0, 0, 1]])
    x, y = np.arange(size[1]), np.arange(size[0])[:, None]
    return [((row[0] * x + row[2]) + row[1] * y).astype(np.float32) for row in maps]


def _chance(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """A number in [0, 1) for each place that looks drawn by chance, equal for equal places."""
    steps = np.sin(places.astype(np.float64)) * 43758.5453
    return np.asarray(steps - np.floor(steps), np.float32)


def _indoors(
    generator: np.random.Generator,
    picture: NDArray[np.float32],
    around_m: NDArray[np.float32],
    rise: NDArray[np.float32],
    style: float,
) -> NDArray[np.float32]:
    """Bricks, tiles, stripes or nothing, as style in [0, 1) says, on a wall's planes (3, H, W); a skirting board."""
    if style < 0.25:  # bricks or tiles
        brick = float(generator.uniform(0.1, 0.5))
        course = rise / brick
        row = np.floor(course)
        along = around_m / (2 * brick) + 0.5 * (row % 2)
        picture = picture + (_chance(row * 12.9898 + np.floor(along) * 78.233) - np.float32(0.5)) * np.float32(0.12)
        joint = (course - row < 0.08) | (along - np.floor(along) < 0.04)
        picture = picture * np.where(joint, np.float32(0.75), np.float32(1))
    elif style < 0.45:  # stripes of wallpaper or a curtain
        picture = picture * (1 + np.float32(0.12) * np.sin(around_m * float(generator.uniform(6, 40))))
    board = rise < generator.uniform(0.05, 0.15)
    return np.asarray(picture * np.where(board, np.float32(0.7), np.float32(1)))


def _outdoors(
    generator: np.random.Generator,
    picture: NDArray[np.float32],
    around_m: NDArray[np.float32],
    rise: NDArray[np.float32],
    slope: NDArray[np.float32],
    far_m: float,
) -> NDArray[np.float32]:
    """A sky above a skyline of trees or houses, whose planes (3, H, W) are given."""
    size = rise.shape[0], rise.shape[1]
    sky = np.array([0.55, 0.7, 0.92]) * generator.uniform(0.6, 1.1) + generator.normal(0, 0.05, 3)
    clouds = np.clip(_noise(generator, size, (3, 7, 15)) * np.float32(generator.uniform(0.1, 0.6)), 0, 1)
    above = np.clip(slope * 2, 0, 1)
    clear = (1 - np.float32(0.35) * above) * (1 - clouds)
    skyline = sky.astype(np.float32)[:, None, None] * clear + clouds * np.float32(0.95)
    edge = float(generator.uniform(0.5, 9)) + 3 * np.abs(_noise(generator, (1, size[1]), (6, 14)))
    blocks = np.floor(around_m * (float(generator.uniform(4, 14)) / far_m))
    roof = edge if generator.random() < 0.5 else float(generator.uniform(2, 5)) + 7 * _chance(blocks * 127.1)
    built = rise <= roof
    picture = np.where(built, picture, skyline)
    if generator.random() < 0.5:
        leaves = _noise(generator, size, (20, 60)) * np.float32(0.12)
        green = np.array([0.22, 0.33, 0.14]) * generator.uniform(0.6, 1.3)
        picture = np.where(built, green.astype(np.float32)[:, None, None] + leaves, picture)
    elif generator.random() < 0.6:  # windows
        open_ = (np.mod(around_m / 2.2, 1) < 0.5) & (np.mod(rise / 2.8, 1) < 0.55) & built
        picture = np.where(open_, picture * np.float32(0.5) + np.float32(0.08), picture)
    return np.asarray(picture)


def _floor(
    generator: np.random.Generator,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    reach: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Planes (3, H, W) of a floor: plain, checked, of planks or tiled, fading where it is far; x, y in metres."""
    color = (_color(generator) * 0.9).astype(np.float32)[:, None, None]
    size = x.shape[0], x.shape[1]
    ground = color + _noise(generator, size, (12, 60)) * np.float32(generator.uniform(0.005, 0.05))
    kind = generator.random()
    tile = float(generator.uniform(0.15, 1.2))
    fade = np.clip(np.float32(1.5) - reach * np.float32(0.06), 0, 1)
    if kind < 0.3:
        check = (np.floor(x / tile) + np.floor(y / tile)) % 2
        ground = ground * (1 - float(0.3 * generator.random()) * fade * check)
    elif kind < 0.55:
        plank = _chance(np.floor(x / (tile * 0.4)) * 91.7)
        ground = ground * (1 + np.float32(0.25) * fade * (plank - np.float32(0.5)))
    elif kind < 0.7:
        joint = (np.mod(x / tile, 1) < 0.04) | (np.mod(y / tile, 1) < 0.04)
        ground = ground * (1 - np.float32(0.35) * fade * joint)
    return np.asarray(ground)


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
