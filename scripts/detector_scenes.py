"""Training pictures for the person detector, composed from the photos of ../shared/data.

A picture is a mosaic of one to four tiles. A tile shows a part of a COCO photo, a photo without people, one person on
such a background, or a drawn scene; over all that go people cut out by their masks. Where a photo may show people whom
nobody labelled, the picture is marked "ignore". COCO's dev photos, the Halpe fixture and the held-out photos are never
opened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.evaluation.holdout import holdout_ids

MAX_PEOPLE = 40
SMALLEST_PX = 7.0
MIN_VISIBLE = 0.25
SMALLEST_AREA_PX = 30
SMALLEST_FIGURE_PX = 1500


@dataclass
class Photo:
    """A photo in memory, its people and what of it nobody vouches for.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy pixels.
        trust: (N,) how exact the boxes are, as a factor on their loss.
        ignore: (M, 4) xyxy regions with unlabelled people, such as crowds.
        complete: All people outside those regions are labelled.
        mask: (H, W) uint8 of the one person, 255 inside.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    trust: NDArray[np.float32]
    ignore: NDArray[np.float32]
    complete: bool
    mask: NDArray[np.uint8] | None = None


@dataclass
class Scene:
    """A picture under composition; `people` holds (box, trust) with what is still visible of each."""

    image: NDArray[np.uint8]
    ignore: NDArray[np.uint8]
    people: list[tuple[NDArray[np.float32], float]] = field(default_factory=list)


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path}: cannot be read")
    return np.ascontiguousarray(image[..., ::-1])


def run_length_mask(segmentation: dict[str, Any]) -> NDArray[np.uint8]:
    """(H, W) uint8, 255 where the mask of an annotation is."""
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.decode(segmentation), dtype=np.uint8) * 255


def load_photos(data: Path, scenes: Path | None = None) -> dict[str, list[Photo]]:
    """Reads every training photo once: lists "coco", "single", "cutout" and "negative"; "drawn" and "figure" (people
    cut out of those) from the shards of scripts/draw_detector_scenes.py."""
    photos: dict[str, list[Photo]] = {"coco": [], "single": [], "cutout": [], "negative": [], "drawn": [], "figure": []}
    for path in sorted(scenes.glob("*.npz")) if scenes else ():
        shard = np.load(path)
        for image, owner in zip(shard["image"], shard["owner"], strict=True):
            _add_drawn(photos, image, owner)
    sets = [
        ("coco", "coco/train.json", 1.0),
        ("single", "lspet/train.json", 0.5),
        ("single", "lsp/train.json", 0.5),
        ("single", "studio/train.json", 0.5),
        ("cutout", "street/boxes.json", 1.0),
        ("negative", "negatives/train.json", 1.0),
    ]
    for kind, name, trust in sets:
        path = data / name
        document = json.loads(path.read_text())
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in document["annotations"]:
            rows.setdefault(row["image_id"], []).append(row)
        held_out = holdout_ids(entry["id"] for entry in document["images"]) if kind == "negative" else frozenset()
        for entry in document["images"]:
            if entry["id"] in held_out:
                continue
            people = rows.get(entry["id"], [])
            boxes = np.array([row["bbox"] for row in people], dtype=np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            crowd = np.array([row.get("iscrowd", 0) for row in people], dtype=bool)
            photos[kind].append(
                Photo(
                    image=_read(path.parent / entry["file_name"]),
                    boxes=boxes[~crowd],
                    trust=np.full(int((~crowd).sum()), trust, dtype=np.float32),
                    ignore=boxes[crowd],
                    complete=kind in ("coco", "negative"),
                    mask=run_length_mask(people[0]["segmentation"]) if kind == "cutout" else None,
                )
            )
    return photos


def _add_drawn(photos: dict[str, list[Photo]], image: NDArray[np.uint8], owner: NDArray[np.uint8]) -> None:
    """Adds a drawn scene, and its larger people as figures to cut out."""
    boxes = []
    for person in range(1, int(owner.max()) + 1):
        mask = owner == person
        if mask.sum() < SMALLEST_AREA_PX:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x1, y1, x2, y2 = box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        boxes.append(box)
        if mask.sum() > SMALLEST_FIGURE_PX:
            whole = np.array([[0, 0, x2 - x1, y2 - y1]], dtype=np.float32)
            cut = mask[y1:y2, x1:x2].astype(np.uint8) * 255
            nothing = np.empty((0, 4), dtype=np.float32)
            photos["figure"].append(
                Photo(image[y1:y2, x1:x2], whole, np.ones(1, np.float32), nothing, complete=False, mask=cut)
            )
    found = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    trust = np.ones(len(found), dtype=np.float32)
    photos["drawn"].append(Photo(image, found, trust, np.empty((0, 4), dtype=np.float32), complete=True))


class SceneMaker:
    """Composes training pictures from photos.

    Args:
        photos: What `load_photos` returned.
    """

    def __init__(self, photos: dict[str, list[Photo]]) -> None:
        self.photos = photos

    def make(
        self, size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """Composes one picture.

        Args:
            size: Its side in pixels.
            rng: Source of chance.

        Returns:
            Picture (size, size, 3) uint8, people (N, 5) as xyxy and trust, ignored pixels (size, size) uint8.
        """
        scene = Scene(np.full((size, size, 3), 114, np.uint8), np.zeros((size, size), np.uint8))
        for tile in self._tiles(size, rng):
            self._fill(scene, tile, rng)
        if rng.random() < 0.45:
            for _ in range(int(rng.integers(1, 5))):
                self._paste_cutout(scene, rng)
        image = _jitter(scene.image, rng)
        people = [(box, trust) for box, trust in scene.people if (box[2:] - box[:2]).min() >= 3][:MAX_PEOPLE]
        rows = np.array([[*box, trust] for box, trust in people], dtype=np.float32).reshape(-1, 5)
        for row in rows[(rows[:, 2:4] - rows[:, :2]).max(axis=1) < SMALLEST_PX]:
            x1, y1, x2, y2 = np.round(row[:4]).astype(int)
            scene.ignore[y1 : y2 + 1, x1 : x2 + 1] = 1
        return image, rows[(rows[:, 2:4] - rows[:, :2]).max(axis=1) >= SMALLEST_PX], scene.ignore

    def _tiles(self, size: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
        x, y = (int(rng.uniform(0.3, 0.7) * size) for _ in range(2))
        layout = rng.random()
        if layout < 0.4:
            return [(0, 0, size, size)]
        if layout < 0.55:
            return [(0, 0, x, size), (x, 0, size, size)]
        if layout < 0.65:
            return [(0, 0, size, y), (0, y, size, size)]
        return [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]

    def _pick(self, kind: str, rng: np.random.Generator) -> Photo:
        return self.photos[kind][int(rng.integers(len(self.photos[kind])))]

    def _fill(self, scene: Scene, tile: tuple[int, int, int, int], rng: np.random.Generator) -> None:
        width, height = tile[2] - tile[0], tile[3] - tile[1]
        choice = rng.random()
        if choice < 0.55:
            drawn = bool(self.photos["drawn"]) and choice < 0.13
            photo = self._pick("drawn" if drawn else "coco", rng)
            scale = float(np.exp(rng.uniform(np.log(0.33), np.log(1.25))))
            if len(photo.boxes) and rng.random() < 0.35:  # a person of any size, also one that fills the tile
                side = float((photo.boxes[rng.integers(len(photo.boxes))][2:]).max() + 1)
                scale = float(np.clip(max(width, height) * rng.uniform(0.3, 1.3) / side, 0.25, 2.5))
            if photo.image.shape[1] * scale < width or photo.image.shape[0] * scale < height:
                self._place(scene, tile, self._pick("negative", rng), None, rng)
            self._place(scene, tile, photo, scale, rng)
            return
        self._place(scene, tile, self._pick("negative", rng), None, rng)
        if choice < 0.85:
            photo = self._pick("single" if rng.random() < 0.85 else "cutout", rng)
            box = photo.boxes[0]
            largest = 1.35 * max(width, height)
            wanted = float(np.exp(rng.uniform(np.log(18), np.log(max(largest, 24)))))
            self._place(scene, tile, photo, wanted / float((box[2:] - box[:2]).max()), rng)

    def _place(
        self,
        scene: Scene,
        tile: tuple[int, int, int, int],
        photo: Photo,
        scale: float | None,
        rng: np.random.Generator,
    ) -> None:
        """Puts a photo into a tile as a rectangle: at a scale somewhere, or without one so that it covers the tile."""
        tile_width, tile_height = tile[2] - tile[0], tile[3] - tile[1]
        height, width = photo.image.shape[:2]
        if scale is None:
            scale = max(tile_width / width, tile_height / height) * float(rng.uniform(1.0, 1.8))
        aspect = float(np.exp(rng.uniform(-0.15, 0.15)))
        factors = np.array([scale * aspect**0.5, scale / aspect**0.5])
        spare = np.array([tile_width, tile_height]) - factors * [width, height]
        shift = spare * rng.random(2)
        if len(photo.boxes) and (spare < 0).any():  # keep some of one person in sight
            target = photo.boxes[rng.integers(len(photo.boxes))]
            aim = (target[:2] + (target[2:] - target[:2]) * rng.uniform(0.15, 0.85, 2)) * factors
            low = np.array([tile_width, tile_height]) * rng.uniform(0.1, 0.9, 2) - aim
            shift = np.where(spare < 0, np.clip(low, spare, 0), shift)
        mirrored = bool(rng.random() < 0.5)
        matrix = np.array([[factors[0], 0, shift[0]], [0, factors[1], shift[1]]])
        if mirrored:
            matrix[0] = [-factors[0], 0, tile_width - shift[0]]
        x1, y1, x2, y2 = tile
        canvas = scene.image[y1:y2, x1:x2]
        pixel_matrix = matrix.copy()
        pixel_matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        source = photo.image
        if scale < 0.45:  # against moire
            source = cv2.blur(source, (2, 2) if scale > 0.3 else (3, 3))
        warped = cv2.warpAffine(source, pixel_matrix, (tile_width, tile_height), flags=cv2.INTER_LINEAR)
        extent = np.clip(
            _move(np.array([[0, 0, width, height]], np.float32), matrix)[0], 0, [tile_width, tile_height] * 2
        )
        a, b, c, d = np.round(extent).astype(int)
        canvas[b:d, a:c] = warped[b:d, a:c]
        scene.people = [person for person in scene.people if not _hidden(person[0], x1 + a, y1 + b, x1 + c, y1 + d)]
        ignore = scene.ignore[y1:y2, x1:x2]
        ignore[b:d, a:c] = 0 if photo.complete else 1
        limits = np.array([tile_width, tile_height] * 2, dtype=np.float32)
        for region in np.clip(_move(photo.ignore, matrix), 0, limits):
            i, j, k, m = np.round(region).astype(int)
            ignore[j:m, i:k] = 1
        for box, trust in zip(_move(photo.boxes, matrix), photo.trust, strict=True):
            seen = np.clip(box, 0, limits)
            i, j, k, m = np.round(seen).astype(int)
            if (seen[2:] - seen[:2]).prod() < MIN_VISIBLE * (box[2:] - box[:2]).prod():
                ignore[j:m, i:k] = 1
                continue
            if not photo.complete:
                ignore[j:m, i:k] = 0
            scene.people.append((seen + np.array([x1, y1, x1, y1], np.float32), float(trust)))

    def _paste_cutout(self, scene: Scene, rng: np.random.Generator) -> None:
        photo = self._pick("figure" if self.photos["figure"] and rng.random() < 0.5 else "cutout", rng)
        assert photo.mask is not None
        size = scene.image.shape[0]
        x1, y1, x2, y2 = np.round(photo.boxes[0]).astype(int)
        if rng.random() < 0.4:  # only the upper part, as behind a table or a sill
            y2 = int(y1 + (y2 - y1) * rng.uniform(0.2, 0.8))
        image, mask = photo.image[y1:y2, x1:x2], photo.mask[y1:y2, x1:x2]
        tall = float(np.exp(rng.uniform(np.log(14), np.log(size * 0.9)))) * (y2 - y1) / float(photo.boxes[0][3] - y1)
        factor = min(tall / (y2 - y1), 1.1 * size / (x2 - x1))  # somebody who lies is wide
        tall = factor * (y2 - y1)
        new = (max(2, round((x2 - x1) * factor * float(rng.uniform(0.85, 1.2)))), max(2, round(tall)))
        image, mask = (cv2.resize(part, new, interpolation=cv2.INTER_AREA) for part in (image, mask))
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        left = int(rng.uniform(-0.4 * new[0], size - 0.6 * new[0]))
        top = int(rng.uniform(-0.3 * new[1], size - 0.5 * new[1]))
        a, b = max(0, -left), max(0, -top)
        c, d = min(new[0], size - left), min(new[1], size - top)
        if c - a < 3 or d - b < 3:
            return
        image, mask = image[b:d, a:c], mask[b:d, a:c]
        solid = mask > 127
        if solid.sum() < MIN_VISIBLE * (new[0] * new[1]) * 0.4:
            return
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        where = (slice(top + b, top + d), slice(left + a, left + c))
        hidden = np.zeros((size, size), dtype=np.uint8)
        hidden[where] = solid
        still: list[tuple[NDArray[np.float32], float]] = []
        for box, trust in scene.people:
            i, j, k, m = np.round(box).astype(int)
            under = hidden[j:m, i:k]
            if under.size and under.mean() > 0.55:
                continue
            still.append((box, trust))
        alpha = (mask.astype(np.float32) / 255)[..., None]
        scene.image[where] = (scene.image[where] * (1 - alpha) + image * alpha).astype(np.uint8)
        scene.ignore[where][solid] = 0
        corner = np.array([left + a, top + b] * 2, dtype=np.float32)
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32) + corner
        scene.people = [*still, (box, 1.0)]


def _move(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Boxes (N, 4) through a map that only scales, mirrors and shifts."""
    ends = np.stack([boxes[:, :2] * matrix.diagonal() + matrix[:, 2], boxes[:, 2:] * matrix.diagonal() + matrix[:, 2]])
    return np.concatenate([ends.min(axis=0), ends.max(axis=0)], axis=1).astype(np.float32)


def _hidden(box: NDArray[np.float32], x1: int, y1: int, x2: int, y2: int) -> bool:
    sides = np.minimum(box[2:], [x2, y2]) - np.maximum(box[:2], [x1, y1])
    return bool(sides.min() > 0 and sides.prod() > 0.6 * (box[2:] - box[:2]).prod())


def _jitter(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other saturation, white balance, contrast and brightness in one matrix; now and then noise or blur."""
    saturation = 0.0 if rng.random() < 0.15 else rng.uniform(0.5, 1.4)
    matrix = np.full((3, 3), (1 - saturation) / 3) + np.eye(3) * saturation
    if saturation:
        matrix *= rng.uniform(0.85, 1.15, (3, 1))
    contrast = rng.uniform(0.6, 1.35)
    shift = 114 * (1 - contrast) + rng.uniform(-35, 35)
    result = cv2.transform(image, np.concatenate([matrix * contrast, np.full((3, 1), shift)], axis=1))
    if rng.random() < 0.2:
        noise = np.zeros(image.shape, dtype=np.int16)
        cv2.randn(noise, (0, 0, 0), (rng.uniform(2, 10),) * 3)
        result = np.clip(result + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        result = cv2.GaussianBlur(result, (3, 3), 0)
    return np.asarray(result, dtype=np.uint8)
