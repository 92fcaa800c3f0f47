"""SynthPeople: pictures of made-up people with exact keypoints, one for every index."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError, require
from wholepose.geometry import BOX_PADDING, crop_regions
from wholepose.skeletons import HALPE136
from wholepose.synth.assets import AssetFolder
from wholepose.synth.backgrounds import Backgrounds
from wholepose.synth.body import load_body
from wholepose.synth.effects import develop
from wholepose.synth.meshes import bounds
from wholepose.synth.person import Casting, Person
from wholepose.synth.render import Camera, Layers, Light, Renderer, Scene
from wholepose.synth.stage import Stage, draw_stage
from wholepose.weights import cache_folder

SMALLEST_AREA_PX = 24
"""A person of whom fewer pixels show is not annotated."""

_CROP_FRAMINGS = {"full": 0.46, "group": 0.2, "knees": 0.12, "waist": 0.12, "chest": 0.07, "head": 0.03}

MIN_DEPTH_M = 0.05
"""Points nearer to the lens than this do not count for a box."""

_ATTEMPTS = 3
_LEAST_SEEN = 8
"""A crop of whose person fewer keypoints are seen is drawn anew: it teaches nothing."""


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


class SynthPeople:
    """Draws pictures; equal arguments and index give an equal picture on one kind of device.

    It may be sent to worker processes: each loads the body when it draws its first picture.

    Args:
        seed: Seed of the whole series.
        size: (height, width) of the pictures.
        people: Least and most people in a picture; around the person of a crop stand at most as many others.
        assets: Folder of MakeHuman assets with ``index.json``; None for procedural clothes and hair alone.
        backgrounds: Folder of photos without people; None for made-up places.
        hand_poses: ``.npz`` of hand shapes, see :class:`wholepose.synth.hands.HandShapes`.
        clean: Use nothing whose licence is unproven: refuses `hand_poses` and leaves out skin pictures.
        samples: Rays a pixel, a square number.
        effects: How much cameras spoil pictures, 0 to 1.
        device: ``"cpu"`` or a CUDA device.

    Raises:
        ConfigError: A folder is missing or the options contradict each other.
        ValueError: A size, range or number is nonsense.
    """

    def __init__(
        self,
        seed: int = 0,
        size: tuple[int, int] = (480, 640),
        *,
        people: tuple[int, int] = (1, 4),
        assets: Path | str | None = None,
        backgrounds: Path | str | None = None,
        hand_poses: Path | str | None = None,
        clean: bool = False,
        samples: int = 4,
        effects: float = 1.0,
        device: str = "cpu",
    ) -> None:
        if min(size) < 32 or max(size) > 4096:
            raise ValueError(f"size must be (height, width) between 32 and 4096 pixels, not {size}")
        if not 1 <= people[0] <= people[1] <= 12:
            raise ValueError(f"people must be (least, most) with 1 <= least <= most <= 12, not {people}")
        if seed < 0:
            raise ValueError(f"seed must not be negative: {seed}")
        if samples < 1 or round(samples**0.5) ** 2 != samples:
            raise ValueError(f"samples must be a square number such as 1, 4 or 9, not {samples}")
        if not 0 <= effects <= 1:
            raise ValueError(f"effects must be between 0 and 1, not {effects}")
        if clean and hand_poses is not None:
            raise ConfigError("hand poses come under a research licence and cannot be used for clean pictures")
        require("warp", "synth")
        self.seed, self.size, self.people = seed, size, people
        self._folder = Path(assets) if assets is not None else None
        self._hand_poses = Path(hand_poses) if hand_poses is not None else None
        self._clean, self._samples, self._effects, self._device = clean, samples, effects, device
        self._backgrounds = Backgrounds(Path(backgrounds) if backgrounds is not None else None)
        if self._folder is not None:
            AssetFolder(self._folder)  # complains here, not in a worker
        self._loaded: tuple[Casting, Renderer] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def load(self) -> tuple[Casting, Renderer]:
        """What makes people and what renders them; the first call in a process takes a second."""
        if self._loaded is None:
            assets = AssetFolder(self._folder) if self._folder is not None else None
            casting = Casting(load_body(cache_folder()), assets, clean=self._clean, hand_poses=self._hand_poses)
            self._loaded = casting, Renderer(self._device)
        return self._loaded

    def sample(self, index: int) -> SynthSample:
        """Draws picture number `index`."""
        casting, _ = self.load()
        generator = np.random.default_rng([self.seed, index])
        count = int(generator.integers(self.people[0], self.people[1] + 1))
        stage = draw_stage(generator, casting, self.size, count)
        return self.picture(generator, stage, self.size)

    def sample_crop(self, index: int, *, padding: float = BOX_PADDING, part: str | None = None) -> SynthSample:
        """Draws crop number `index`: one person, framed as a person's box in a photo is cropped.

        The crop is black where it would reach beyond its photo, other people may stand around, and now and then only a
        part of the person is in the photo.

        Args:
            index: Number of the crop.
            padding: How much larger than the box the crop is, on a side.
            part: A part of the skeleton, such as ``"face"`` or ``"left_hand"``, to frame instead of the person.

        Returns:
            A sample with N = 1 whose image has this series' size.
        """
        for attempt in range(_ATTEMPTS):
            sample = self._crop(np.random.default_rng([self.seed, index, 1, attempt]), padding, part)
            if (sample.visibility == 2).sum() >= _LEAST_SEEN or attempt == _ATTEMPTS - 1:
                break
        return sample

    def _crop(self, generator: np.random.Generator, padding: float, part: str | None) -> SynthSample:
        casting, _ = self.load()
        photo = (480, 640) if generator.random() < 0.6 else (640, 480)
        extra = min(int(generator.choice([0, 1, 2, 3], p=[0.74, 0.15, 0.07, 0.04])), self.people[1] - 1)
        framing = str(generator.choice(list(_CROP_FRAMINGS), p=list(_CROP_FRAMINGS.values())))
        stage = draw_stage(generator, casting, photo, 1 + extra, framing=framing)
        box = _projected_box(stage.people[0], stage.camera, photo)
        if part is not None:
            points, depth = stage.camera.project(stage.people[0].keypoints[list(HALPE136.parts[part])])
            if (depth > MIN_DEPTH_M).all():
                box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        height, width = self.size
        centers, sizes = crop_regions(box[None], width / height, padding)
        factor = width / sizes[0, 1]
        origin = centers[0] - np.array([width, height]) / 2 / factor
        camera = dataclasses.replace(
            stage.camera,
            focal_px=stage.camera.focal_px * factor,
            center=(
                float((stage.camera.center[0] - origin[0]) * factor),
                float((stage.camera.center[1] - origin[1]) * factor),
            ),
        )
        edges = (np.array([-0.5, -0.5, photo[1] - 0.5, photo[0] - 0.5]) - np.tile(origin, 2)) * factor
        stage = dataclasses.replace(stage, camera=camera)
        return self.picture(generator, stage, self.size, keep=edges, only_first=True)

    def background(
        self, generator: np.random.Generator, camera: Camera, size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Draws a background (H, W, 3) in [0, 1] of this series' kind, for a camera."""
        return self._backgrounds.sample(generator, size or self.size, camera)

    def picture(
        self,
        generator: np.random.Generator,
        stage: Stage,
        size: tuple[int, int],
        *,
        background: NDArray[np.float32] | None = None,
        keep: NDArray[np.floating] | None = None,
        only_first: bool = False,
    ) -> SynthSample:
        """Renders a stage and annotates it.

        Args:
            generator: Random numbers for background and effects.
            stage: The scene.
            size: (height, width).
            background: (H, W, 3) in [0, 1]; drawn when None.
            keep: (4,) xyxy pixels outside of which the picture is black, as beyond a photo's edge.
            only_first: Annotate only the first person.
        """
        _, renderer = self.load()
        height, width = size
        behind = self.background(generator, stage.camera, size) if background is None else background
        light = _tint(stage.light, behind)
        scene = renderer.scene([surface for person in stage.people for surface in person.surfaces] + stage.things)
        layers = scene.render(stage.camera, light, size, samples=self._samples, seed=int(generator.integers(2**31)))
        image = develop(generator, _composite(generator, layers, behind), strength=self._effects)
        window = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        if keep is not None:
            window[:2] = np.maximum(window[:2], keep[:2])
            window[2:] = np.minimum(window[2:], keep[2:])
            y, x = np.mgrid[0:height, 0:width]
            outside = (x < window[0]) | (x > window[2]) | (y < window[1]) | (y > window[3])
            image[outside] = 0
            layers.person[outside] = -1
        people = stage.people[:1] if only_first else stage.people
        return _annotate(image, layers, people, stage.camera, scene, window, always=only_first)


def _projected_box(person: Person, camera: Camera, photo: tuple[int, int]) -> NDArray[np.float64]:
    """The box of a person in a photo (xyxy), cut at its edges."""
    points = np.concatenate([surface.vertices for surface in person.surfaces])
    pixels, depth = camera.project(points)
    pixels = pixels[depth > MIN_DEPTH_M]
    least, greatest = bounds(pixels)
    low = np.maximum(least, -0.5)
    high = np.minimum(greatest, np.array([photo[1], photo[0]]) - 0.5)
    high = np.maximum(high, low + 8)
    return np.concatenate([low, high])


def _tint(light: Light, background: NDArray[np.float32]) -> Light:
    """Takes the colour of the surroundings into the light from the sky and the ground."""
    half = background.shape[0] // 2
    above = np.square(background[:half].reshape(-1, 3)).mean(axis=0) + 0.02
    below = np.square(background[half:].reshape(-1, 3)).mean(axis=0) + 0.02
    return dataclasses.replace(
        light,
        sky=light.sky * (0.55 + 0.45 * above / above.mean()),
        bounce=light.bounce * (0.45 + 0.55 * below / below.mean()),
    )


def _composite(generator: np.random.Generator, layers: Layers, background: NDArray[np.float32]) -> NDArray[np.float32]:
    """People over their background, whose ground takes their shadow; sRGB in [0, 1]."""
    depth = np.float32(generator.uniform(0.55, 0.95))
    behind = np.square(background) * (1 - depth * layers.shadow)[..., None]
    cover = layers.coverage[..., None]
    # Film shoulder: bright cloth in full sun keeps its folds.
    color = layers.color
    color = np.where(color > 0.7, 0.7 + 0.3 * (1 - np.exp(-(color - 0.7) / 0.3)), color)
    return np.asarray(np.sqrt(np.clip(color * cover + behind * (1 - cover), 0, 1)), dtype=np.float32)


def _annotate(
    image: NDArray[np.uint8],
    layers: Layers,
    people: list[Person],
    camera: Camera,
    scene: Scene,
    window: NDArray[np.floating],
    *,
    always: bool,
) -> SynthSample:
    points = np.concatenate([person.keypoints for person in people])
    owner = np.repeat(np.arange(len(people)), 136)
    pixels, depth = camera.project(points)
    seen = scene.seen(camera, points, np.concatenate([person.depths_m for person in people]), owner)
    inside = (
        (pixels[:, 0] > window[0])
        & (pixels[:, 0] < window[2])
        & (pixels[:, 1] > window[1])
        & (pixels[:, 1] < window[3])
    )
    inside &= depth > 0.02
    visibility = np.where(inside, np.where(seen, 2, 1), 0).astype(np.uint8).reshape(-1, 136)
    masks, boxes, kept = [], [], []
    for number in range(len(people)):
        mask = layers.person == number
        if not always and mask.sum() < SMALLEST_AREA_PX:
            continue
        box = _mask_box(mask)
        if box is None:
            box = (float(window[0]), float(window[1]), float(window[2]), float(window[3]))
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
