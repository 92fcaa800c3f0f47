"""SynthPeople: pictures of made-up people with exact keypoints, one for every index."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError, require
from wholepose.geometry import BOX_PADDING, crop_matrices, crop_regions, transform_points
from wholepose.skeletons import HALPE136
from wholepose.synth.annotate import MIN_DEPTH_M, SynthSample, annotate, in_picture, projected_box, see
from wholepose.synth.assets import AssetFolder
from wholepose.synth.backgrounds import Backgrounds
from wholepose.synth.body import load_body
from wholepose.synth.effects import develop
from wholepose.synth.person import Casting
from wholepose.synth.render import Camera, Layers, Light, Renderer, Scene, Surface
from wholepose.synth.stage import Stage, draw_stage
from wholepose.weights import cache_folder

_CROP_FRAMINGS = {"full": 0.46, "group": 0.2, "knees": 0.12, "waist": 0.12, "chest": 0.07, "head": 0.03}

_ATTEMPTS = 3
_LEAST_SEEN = 8
"""A crop of whose person fewer keypoints are seen is drawn anew: it teaches nothing."""


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
            subject = self.subject(index, attempt)
            box = subject.box if part is None else subject.part_box(part)
            centers, sizes = crop_regions(box[None], self.size[1] / self.size[0], padding)
            sample = subject.sample(crop_matrices(centers, sizes, self.size)[0], self.size)
            if (sample.visibility == 2).sum() >= _LEAST_SEEN or attempt == _ATTEMPTS - 1:
                break
        return sample

    def subject(self, index: int, attempt: int = 0) -> Subject:
        """Draws up whom crop number `index` shows, before it is known where it is cropped.

        Args:
            index: Number of the crop.
            attempt: Another one, another person.
        """
        casting, renderer = self.load()
        generator = np.random.default_rng([self.seed, index, 1, attempt])
        photo = (480, 640) if generator.random() < 0.6 else (640, 480)
        extra = min(int(generator.choice([0, 1, 2, 3], p=[0.74, 0.15, 0.07, 0.04])), self.people[1] - 1)
        framing = str(generator.choice(list(_CROP_FRAMINGS), p=list(_CROP_FRAMINGS.values())))
        stage = draw_stage(generator, casting, photo, 1 + extra, framing=framing)
        return Subject(self, generator, stage, renderer.scene(_surfaces(stage)), photo)

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
        scene: Scene | None = None,
        photo: tuple[int, int] | None = None,
    ) -> SynthSample:
        """Renders a stage and annotates it.

        Args:
            generator: Random numbers for background and effects.
            stage: The scene.
            size: (height, width).
            background: (H, W, 3) in [0, 1]; drawn when None.
            scene: The stage's surfaces in the renderer, where they are there already.
            photo: (height, width) of the photo of which the camera's crop is drawn: black beyond its edges, and only
                the first person is annotated. None for all of the photo and all people.
        """
        scene = self.load()[1].scene(_surfaces(stage)) if scene is None else scene
        image, layers = self._draw(generator, stage, scene, size, background, photo)
        people = stage.people if photo is None else stage.people[:1]
        return annotate(image, layers, people, stage.camera, scene, photo or size, always=photo is not None)

    def _draw(
        self,
        generator: np.random.Generator,
        stage: Stage,
        scene: Scene,
        size: tuple[int, int],
        background: NDArray[np.float32] | None = None,
        photo: tuple[int, int] | None = None,
    ) -> tuple[NDArray[np.uint8], Layers]:
        behind = self.background(generator, stage.camera, size) if background is None else background
        light = _tint(stage.light, behind)
        layers = scene.render(stage.camera, light, size, samples=self._samples, seed=int(generator.integers(2**31)))
        image = develop(generator, _composite(generator, layers, behind), strength=self._effects)
        if photo is not None:
            x, y = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
            outside = ~in_picture(transform_points(np.stack([x, y], axis=-1), stage.camera.to_photo()[None]), photo)
            image[outside] = 0
            layers.person[outside] = -1
        return image, layers


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Somebody in a photo that is drawn only where it is looked at, and as sharply as that asks for."""

    people: SynthPeople
    generator: np.random.Generator
    """Random numbers for what is not yet drawn up: background, effects."""
    stage: Stage
    scene: Scene
    photo: tuple[int, int]
    """(height, width) of the photo."""

    @functools.cached_property
    def box(self) -> NDArray[np.float64]:
        """(4,) xyxy photo pixels around the person, cut at the photo's edges."""
        return projected_box(self.stage.people[0], self.stage.camera, self.photo)

    @functools.cached_property
    def keypoints(self) -> NDArray[np.float32]:
        """(136, 2) photo pixels."""
        return self.stage.camera.project(self.stage.people[0].keypoints)[0].astype(np.float32)

    @functools.cached_property
    def visibility(self) -> NDArray[np.uint8]:
        """(136,) 2 seen, 1 hidden, 0 outside the photo."""
        return np.asarray(see(self.scene, self.stage.people[:1], self.stage.camera, self.photo)[0])

    def part_box(self, part: str) -> NDArray[np.float64]:
        """(4,) xyxy photo pixels around a part of the skeleton; the person's box where it is behind the camera."""
        points, depth = self.stage.camera.project(self.stage.people[0].keypoints[list(HALPE136.parts[part])])
        if not (depth > MIN_DEPTH_M).all():
            return self.box
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def sample(self, matrix: NDArray[np.floating], size: tuple[int, int]) -> SynthSample:
        """Draws and annotates the crop that `matrix` (2, 3), from photo to crop pixels, takes; once a subject."""
        return self.people.picture(self.generator, self._cropped(matrix), size, scene=self.scene, photo=self.photo)

    def draw(self, matrix: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draws the crop (H, W, 3) alone; once a subject."""
        return self.people._draw(self.generator, self._cropped(matrix), self.scene, size, photo=self.photo)[0]

    def _cropped(self, matrix: NDArray[np.floating]) -> Stage:
        camera = dataclasses.replace(self.stage.camera, crop=np.asarray(matrix, dtype=np.float64))
        return dataclasses.replace(self.stage, camera=camera)


def _surfaces(stage: Stage) -> list[Surface]:
    return [surface for person in stage.people for surface in person.surfaces] + stage.things


def _tint(light: Light, background: NDArray[np.float32]) -> Light:
    """Takes the colour of the surroundings into the light from the sky and the ground."""
    half = background.shape[0] // 2
    above = np.square(background[:half].reshape(-1, 3)).mean(axis=0) + 0.02
    below = np.square(background[half:].reshape(-1, 3)).mean(axis=0) + 0.02
    return dataclasses.replace(
        light,
        sky=light.sky * (0.7 + 0.3 * above / above.mean()),
        bounce=light.bounce * (0.6 + 0.4 * below / below.mean()),
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
