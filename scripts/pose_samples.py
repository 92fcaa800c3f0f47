"""Batches of varied samples for scripts/train_pose.py.

Sets that label only some keypoints are mixed: what a set does not label weighs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np
import torch
from pose_photos import DRAWN, HANDS, ZOOMED, Labelled, Material
from torch.utils.data import IterableDataset, get_worker_info

from wholepose.geometry import crop_matrices, crop_regions, transform_points
from wholepose.skeletons import HALPE136

ZOOMED_SHARES = dict.fromkeys(ZOOMED, 0.04)
SHARES = {
    "clean": {"body": 0.6, "face": 0.1, "left_hand": 0.08, "right_hand": 0.08, **ZOOMED_SHARES, "nobody": 0.02},
    "default": {
        "lspet": 0.3,
        "lsp": 0.06,
        "coco": 0.12,
        "studio": 0.03,
        "face68": 0.07,
        "hand21": 0.1,
        "body": 0.1,
        "scenes": 0.25,
        "face": 0.03,
        "left_hand": 0.05,
        "right_hand": 0.05,
        **ZOOMED_SHARES,
        "street": 0.12,
        "web": 0.9,
        **dict.fromkeys(HANDS, 0.04),
        "nobody": 0.04,
    },
}
"""Share of each set in a batch, by stage."""
UNLABELLED = ("street", "web")
"""Sets that nobody has labelled: other networks tell something of them."""
PART_OF = {**{name: name for name in DRAWN[1:]}, **ZOOMED, **HANDS}
"""The part that is framed, of sets of whole people of whom a part is framed."""
GROWTH = {"face68": 2.8, **dict.fromkeys(("hand21", *PART_OF), 2.0)}
"""How much larger than its keypoints the box around a face or a hand may be."""
BESIDE, HIDDEN, COARSE = 0.35, 0.35, 0.5
"""How often somebody stands beside or before a person, how often something else hides a part, and how often the photo
is coarse, while crops are varied most."""
COARSEST, COARSEST_PART = 0.22, 0.2
"""How small a photo may be against the crop, of people and of faces and hands."""
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
"""A standard normal deviate for each value of a random byte: drawn so, noise costs a third of the time."""
UPPER = frozenset(range(11)) | {17, 18}
HALF, CUT = 0.2, 0.25
"""How often a half of somebody is framed, and how often the photo ends within them, while crops are varied most."""


class Batch(NamedTuple):
    """What is learnt from at once.

    Attributes:
        crops: (B, H, W, 3) uint8, as the learner sees them.
        plain: (B, H, W, 3) uint8, the same ones in their own colours, sharp, with nothing and nobody put into them;
            (B, 0, W, 3) where nobody asks for them.
        keypoints: (B, 136, 2) float32 in crop pixels; infinite where they are known to be nowhere.
        weights: (B, 136) float32: 1 where labelled, else 0.
    """

    crops: torch.Tensor
    plain: torch.Tensor
    keypoints: torch.Tensor
    weights: torch.Tensor


def augmented(
    person: Labelled,
    kind: str,
    background: np.ndarray | None,
    size: tuple[int, int],
    rng: np.random.Generator,
    strength: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One crop (H, W, 3) uint8 in its own colours, its keypoints (136, 2) in crop pixels and their weights (136,)."""
    chance, cut, half = rng.random(), CUT * strength, HALF * strength
    if kind not in GROWTH and chance < cut:
        person = cut_off(person, rng)
    box = person.box.astype(np.float64)
    keypoints, photo = person.keypoints.astype(np.float64), person.photo
    if kind in GROWTH:
        part = person.labelled & np.isfinite(keypoints).all(1)
        if kind in PART_OF:
            part = np.zeros(136, dtype=bool)
            part[list(HALPE136.parts[PART_OF[kind]])] = True
        box = np.concatenate([keypoints[part].min(0), keypoints[part].max(0)])
        grow = np.exp(rng.uniform(np.log(0.95), np.log(GROWTH[kind])))
    else:
        body = np.flatnonzero(person.labelled & np.isfinite(keypoints).all(1))
        if cut <= chance < cut + half and len(body) > 8:
            upper = rng.random() < 0.7
            chosen = [k for k in body if (k in UPPER or k >= 26) == upper]
            if len(chosen) > 2:
                box = np.concatenate([keypoints[chosen].min(0), keypoints[chosen].max(0)])
                box += np.array([-1, -1, 1, 1]) * 0.12 * (box[2:] - box[:2]).max()
        grow = np.clip(rng.normal(1.0, 0.25 * strength), 0.65, 1.5)
    centers, sizes = crop_regions(box[None], size[1] / size[0])
    sizes = sizes * grow
    centers = centers + strength * rng.uniform(-0.1, 0.1, (1, 2)) * sizes[:, ::-1]
    if kind in ("left_hand", "right_hand"):  # drawn people let them hang, photos show them in any direction
        turn = rng.uniform(-180, 180)
    else:
        turn = np.clip(rng.normal(0, 30 * strength), -80, 80) if rng.random() < 0.6 else 0.0
    matrix = crop_matrices(centers, sizes, size, turn)[0]
    shrink = np.abs(np.linalg.det(matrix[:, :2])) ** 0.5
    if shrink < 0.5 and rng.random() < 0.5:  # sometimes smooth, sometimes aliased, as photos come
        photo = cv2.GaussianBlur(photo, (0, 0), 0.35 / shrink)
    if background is not None:
        crop = cv2.resize(background, (size[1], size[0]))
        cv2.warpAffine(photo, matrix, (size[1], size[0]), crop, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    else:
        crop = cv2.warpAffine(photo, matrix, (size[1], size[0]))
    known = np.isfinite(keypoints).all(1, keepdims=True)
    placed = np.where(known, transform_points(np.where(known, keypoints, 0), matrix), np.inf)
    return crop, placed, person.labelled.astype(np.float32)


def cut_off(person: Labelled, rng: np.random.Generator) -> Labelled:
    """The person in a photo that ends within them: what lies beyond is nowhere, and the box ends there too."""
    axis = int(rng.random() < 0.65)  # 1: above or below
    seen = np.flatnonzero(person.labelled & np.isfinite(person.keypoints).all(1))
    places = np.sort(person.keypoints[seen, axis])
    least = max(5, len(places) // 3)
    if len(places) <= least + 1:
        return person
    number = int(rng.integers(least, len(places) - 1))
    after = rng.random() < (0.85 if axis else 0.5)  # it ends below, or at the right
    if not after:
        number = len(places) - 1 - number
    edge = round(float(places[number] + rng.random() * (places[number + 1] - places[number])))
    length = person.photo.shape[1 - axis]
    edge = min(max(edge, 8), length - 8)
    start, end = (0, edge) if after else (edge, length)
    photo = person.photo[start:end] if axis else person.photo[:, start:end]
    keypoints, box = person.keypoints.copy(), person.box.astype(np.float64)
    keypoints[:, axis] -= start
    box[axis::2] = np.clip(box[axis::2] - start, 0, end - start)
    gone = (keypoints[:, axis] < 0) | (keypoints[:, axis] >= end - start)
    keypoints[gone] = np.inf
    if box[axis + 2] - box[axis] < 8:
        return person
    return dataclasses.replace(person, photo=photo, keypoints=keypoints, box=box)


def beside(crop: np.ndarray, figure: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The crop with somebody else at its left or right, who may hide a part of the person in the middle."""
    height, width = crop.shape[:2]
    scale = min(height * rng.uniform(0.5, 1.3) / figure.shape[0], 1.2 * width / figure.shape[1])
    side = 1 if rng.random() < 0.5 else -1
    x, y = width * (0.5 + side * rng.uniform(0.28, 0.6)), height * rng.uniform(0.35, 0.75)
    across = scale if rng.random() < 0.5 else -scale
    matrix = np.array([[across, 0, x - across * figure.shape[1] / 2], [0, scale, y - scale * figure.shape[0] / 2]])
    pasted = cv2.warpAffine(figure, matrix, (width, height))
    shown = pasted[..., 3].astype(np.float32) / 255
    somebody = cv2.convertScaleAbs(cv2.cvtColor(pasted, cv2.COLOR_RGBA2RGB), alpha=rng.uniform(0.6, 1.3))
    return cv2.blendLinear(somebody, crop, shown, 1 - shown)


def recoloured(crop: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Brightness, contrast, colour cast, grey, blur, noise and something in the way."""
    if rng.random() < 0.7 * strength:
        levels = (np.arange(256)[:, None] - 128) * rng.uniform(0.6, 1.4) + 128 + rng.uniform(-35, 35)
        levels = levels + rng.uniform(-14, 14, 3)
        crop = cv2.LUT(crop, levels.round().clip(0, 255).astype(np.uint8)[None])
    if rng.random() < 0.1 * strength:
        crop = cv2.transform(crop, np.full((3, 3), 1 / 3))
    if rng.random() < 0.15 * strength:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.15 * strength:
        noise = cv2.LUT(rng.integers(0, 256, crop.shape, dtype=np.uint8), NORMAL * np.float32(rng.uniform(2, 14)))
        crop = cv2.add(crop, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.15 * strength:
        height, width = crop.shape[:2]
        h, w = int(height * rng.uniform(0.08, 0.3)), int(width * rng.uniform(0.08, 0.35))
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        crop = crop.copy()
        crop[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    return crop


def coarse(crop: np.ndarray, rng: np.random.Generator, coarsest: float) -> np.ndarray:
    """The crop as it is where people are few pixels tall, or photos are packed tightly, or both."""
    height, width = crop.shape[:2]
    chance = rng.random()
    if chance < 0.75:
        factor = np.exp(rng.uniform(np.log(coarsest), np.log(0.9)))
        crop = cv2.resize(crop, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    if chance > 0.4:
        crop = packed(crop, int(rng.uniform(25, 95)))
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)


def packed(photo: np.ndarray, quality: int) -> np.ndarray:
    """The photo (H, W, 3) uint8 after a JPEG file of that quality."""
    file = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(file, cv2.IMREAD_COLOR)


def behind(crop: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The crop with a piece of another picture, an ellipse or a rectangle, before a part of it."""
    height, width = crop.shape[:2]
    axes = np.array([width, height]) * rng.uniform(0.08, 0.3, 2)
    center = np.array([width, height]) * rng.uniform(0, 1, 2)
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:
        cv2.ellipse(mask, (tuple(center), tuple(2 * axes), rng.uniform(0, 180)), 1, -1)
    else:
        cv2.rectangle(mask, *(np.round(center + sign * axes).astype(int).tolist() for sign in (-1, 1)), 1, -1)
    return cv2.copyTo(cv2.resize(things, (width, height)), mask, crop.copy())


def nobody(background: np.ndarray, size: tuple[int, int], rng: np.random.Generator):
    """A crop without a person: every keypoint counts, none is there."""
    height = int(rng.integers(96, 257))
    width = min(256, height * size[1] // size[0])
    y, x = rng.integers(0, 257 - height), rng.integers(0, 257 - width)
    crop = cv2.resize(background[y : y + height, x : x + width], (size[1], size[0]))
    return recoloured(crop, rng), crop, np.full((136, 2), np.inf), np.ones(136, np.float32)


def mirrored(crop: np.ndarray, plain: np.ndarray, keypoints: np.ndarray, weights: np.ndarray):
    """The mirror images, left and right exchanged."""
    keypoints = keypoints[HALPE136.flip_indices]
    keypoints[:, 0] = crop.shape[1] - 1 - keypoints[:, 0]
    return cv2.flip(crop, 1), cv2.flip(plain, 1), keypoints, weights[HALPE136.flip_indices]


class Samples(IterableDataset):  # type: ignore[type-arg]
    """Batches of varied samples without end; what they are like may be changed while they are made.

    Args:
        material: What to draw from.
        shares: Of each set; sets of nobody are left out.
        seed: Of the choices; worker processes add their number.
        plain: Whether crops are wanted as they were before they were varied, too.
    """

    def __init__(self, material: Material, shares: dict[str, float], seed: int, plain: bool = True) -> None:
        self._material, self._plain = material, plain
        self._shares = {k: v for k, v in shares.items() if k == "nobody" or material.people.get(k)}
        self._seed = seed
        self._wanted = torch.zeros(4, dtype=torch.float64).share_memory_()
        self.want((128, 96), 32)

    def want(self, size: tuple[int, int], count: int, strength: float = 1.0) -> None:
        """Says what batches are to be like from now on: (height, width), how many crops, and how varied.

        The less `strength`, from 1 down to 0, the more crops are as they come when the model is used. Worker processes
        still deliver what they have made before.
        """
        self._wanted.copy_(torch.tensor([*size, count, strength]))

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([self._seed, worker.id if worker else 0])
        names, shares = list(self._shares), np.array(list(self._shares.values()))
        while True:
            height, width, count, strength = self._wanted.tolist()
            chosen = rng.choice(names, int(count), p=shares / shares.sum())
            samples = [self._sample(str(name), (int(height), int(width)), strength, rng) for name in chosen]
            crops, plain, keypoints, weights = (np.stack(column) for column in zip(*samples, strict=True))
            plain = plain if self._plain else plain[:, :0].copy()
            yield Batch(*(torch.from_numpy(v) for v in (crops, plain, keypoints.astype(np.float32), weights)))

    def _sample(self, name: str, size: tuple[int, int], strength: float, rng: np.random.Generator):
        backgrounds, figures = self._material.backgrounds, self._material.figures
        background = backgrounds[rng.integers(len(backgrounds))]
        if name == "nobody":
            return nobody(background, size, rng)
        people = self._material.people[name]
        person = people[rng.integers(len(people))]
        around = background if rng.random() < 0.5 * strength else None
        plain, *labels = augmented(person, name, around, size, rng, strength)
        crop = plain
        if figures and name not in GROWTH and rng.random() < BESIDE * strength:
            crop = beside(crop, figures[rng.integers(len(figures))], rng)
        if name not in ZOOMED and name not in HANDS:  # they are coarse enough
            if rng.random() < HIDDEN * strength:
                crop = behind(crop, backgrounds[rng.integers(len(backgrounds))], rng)
            if rng.random() < COARSE * strength:
                crop = coarse(crop, rng, COARSEST_PART if name in GROWTH else COARSEST)
        sample = (recoloured(crop, rng, strength), plain, *labels)
        return mirrored(*sample) if rng.random() < 0.5 else sample


def one_batch(
    material: Material, shares: dict[str, float], size: tuple[int, int], count: int, strength: float = 1.0
) -> Batch:
    """The first batch of Samples with seed 0."""
    samples = Samples(material, shares, 0)
    samples.want(size, count, strength)
    return next(iter(samples))
