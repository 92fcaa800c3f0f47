"""The training pipeline: where the crop is taken and what is done to its pixels.

The geometry goes in the protocol's order: shift of the centre, flip, half body, scale, rotation. It ends in one affine
map from the photo to the crop, so that a photo is warped once however much is asked for. What changes colours only
(colour, blur, JPEG, occlusion) is off unless asked for, and works on the finished crop.

Written here, not taken from a library, because none fits: Albumentations is no longer maintained and its successor is
under the AGPL, Kornia and torchvision need PyTorch, which this package does without.

Convention:
    A pixel's index is its coordinate, so a photo of width W mirrors x to W - 1 - x.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.geometry import BOX_PADDING, Protocol, crop_matrices, crop_regions, transform_points
from wholepose.skeletons import HALPE136, Skeleton

LABELLED_VISIBILITY = 0.35
"""A fractional visibility below this counts as not labelled in the default protocol."""

_HALF_BODY_PADDING = 1.5
_PART_MARGIN = 1.25
"""A part's box is the extent of its keypoints grown by this, as the boxes of face and hand sets are."""

_LOWER_WORDS = ("hip", "pelvis", "knee", "ankle", "toe", "heel")
_UPPER_BODY = "upper_body"


@dataclass(frozen=True)
class AugmentConfig:
    """How samples are varied; the defaults are the protocol's.

    Attributes:
        shift_probability: Of moving the crop's centre.
        shift: Largest move, as a share of the padded box's sides.
        flip_probability: Of mirroring.
        half_body_probability: Of looking at the upper or the lower body alone.
        half_body_keypoints: More keypoints than this must be labelled for it.
        scale: Spread of the crop's size: its factor is N(1, scale), kept within 1 +- scale.
        rotation_deg: Spread of the rotation: N(0, rotation_deg), kept within twice that.
        rotation_probability: Of rotating at all.
        part_zoom_probability: Of taking the crop about one part instead of the whole person.
        part_zoom_parts: Parts to choose from: names of Halpe's parts, or ``"upper_body"``.
        part_zoom_keypoints: A part needs this many labelled keypoints to be chosen.
        colour_probability: Of changing brightness, contrast, saturation, hue and the balance of the channels.
        colour: Strength of that, 0 to 1.
        blur_probability: Of a Gaussian blur.
        blur_px: Its largest standard deviation, in crop pixels for a crop 256 pixels high.
        jpeg_probability: Of compressing the crop once more.
        jpeg_quality: Lowest quality of that, 1 to 95.
        occlusion_probability: Of covering a part of the crop; the keypoints beneath stay labelled.
        occlusion: Largest side of a cover, as a share of the crop's.
    """

    shift_probability: float = 0.3
    shift: float = 0.16
    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_keypoints: int = 8
    scale: float = 0.5
    rotation_deg: float = 40.0
    rotation_probability: float = 0.6
    part_zoom_probability: float = 0.0
    part_zoom_parts: tuple[str, ...] = ("face", "left_hand", "right_hand", _UPPER_BODY)
    part_zoom_keypoints: int = 8
    colour_probability: float = 0.0
    colour: float = 0.3
    blur_probability: float = 0.0
    blur_px: float = 2.0
    jpeg_probability: float = 0.0
    jpeg_quality: int = 30
    occlusion_probability: float = 0.0
    occlusion: float = 0.4

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A probability is outside 0 to 1, an amount is negative or too large, or a part is unknown.
        """
        tops = {"scale": 0.9, "colour": 1.0, "occlusion": 1.0, "jpeg_quality": 95, "rotation_deg": 180.0}
        for field in fields(self):
            value = getattr(self, field.name)
            top = 1.0 if field.name.endswith("_probability") else tops.get(field.name, np.inf)
            if not isinstance(value, tuple) and not 0 <= value <= top:
                raise ValueError(f"{field.name} must be from 0 to {top:g}, not {value}")
        unknown = set(self.part_zoom_parts) - {*HALPE136.parts, _UPPER_BODY}
        if unknown:
            known = ", ".join((*HALPE136.parts, _UPPER_BODY))
            raise ValueError(f"part_zoom_parts has no {', '.join(sorted(unknown))}; there are {known}")
        if self.jpeg_quality < 1:
            raise ValueError(f"jpeg_quality must be from 1 to 95, not {self.jpeg_quality}")


NO_AUGMENTATION = AugmentConfig(
    shift_probability=0.0,
    flip_probability=0.0,
    half_body_probability=0.0,
    scale=0.0,
    rotation_probability=0.0,
)
"""The box as it is, as at prediction: for validation, and for parts of the pipeline on their own."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a crop was taken.

    Attributes:
        matrix: (2, 3) float64 map from photo pixels to crop pixels, the mirroring included.
        keypoints: (K, 2) float32 crop pixels, left and right already exchanged where mirrored.
        weights: (K,) float32, exchanged likewise; 0 is not labelled.
        flipped: Whether it is a mirror image.
    """

    matrix: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    weights: NDArray[np.float32]
    flipped: bool


def label_weights(visibility: NDArray[np.floating], protocol: Protocol = "default") -> NDArray[np.float32]:
    """Weights of keypoints in training, from their visibility.

    Args:
        visibility: (...), 0 to 2, fractions included.
        protocol: ``"mmpose0"`` takes the visibility, at most 1; the default takes 1 from 0.35 on, else 0.

    Returns:
        (...) float32.
    """
    weights = np.minimum(visibility, 1) if protocol == "mmpose0" else visibility >= LABELLED_VISIBILITY
    return np.asarray(weights, dtype=np.float32)


def place(
    box: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    visibility: NDArray[np.floating],
    *,
    photo_width: int,
    crop_size: tuple[int, int],
    skeleton: Skeleton,
    config: AugmentConfig,
    random: np.random.Generator,
    protocol: Protocol = "default",
) -> Placement:
    """Chooses where to take a crop, and follows the keypoints there.

    Args:
        box: (4,) xyxy photo pixels.
        keypoints: (K, 2) photo pixels.
        visibility: (K,).
        photo_width: In pixels.
        crop_size: (height, width) in pixels.
        skeleton: Of the K keypoints.
        config: How much to vary.
        random: Where chance comes from.
        protocol: ``"mmpose0"`` keeps the reference's quirks of half body and of fractional visibility.

    Returns:
        The placement.
    """
    aspect = crop_size[1] / crop_size[0]
    points = keypoints.astype(np.float64)
    weights = label_weights(visibility, protocol)
    zoomed = False
    if random.random() < config.part_zoom_probability:
        part_box = _part_box(points, weights, skeleton, config, random)
        zoomed = part_box is not None
        box = box if part_box is None else part_box
    centers, sizes = crop_regions(box[None], aspect, BOX_PADDING)
    center, size = centers[0], sizes[0]
    if random.random() < config.shift_probability:
        center = center + random.uniform(-1, 1, 2) * config.shift * size[::-1]
    flipped = bool(random.random() < config.flip_probability)
    if flipped:
        points = points[skeleton.flip_indices] * (-1, 1) + (photo_width - 1, 0)
        weights = weights[skeleton.flip_indices]
        center = center * (-1, 1) + (photo_width - 1, 0)
    # The reference adds up fractions here; in the default protocol weights are 0 or 1, and the sum is the number.
    if not zoomed and weights.sum() > config.half_body_keypoints and random.random() < config.half_body_probability:
        half = _half_body(points, weights, skeleton, aspect, random, protocol)
        center, size = half if half is not None else (center, size)
    size = size * np.clip(1 + config.scale * random.standard_normal(), 1 - config.scale, 1 + config.scale)
    limit = 2 * config.rotation_deg
    rotation = np.clip(config.rotation_deg * random.standard_normal(), -limit, limit)
    if random.random() >= config.rotation_probability:
        rotation = 0.0
    matrix = crop_matrices(center[None], size[None], crop_size, float(rotation), protocol=protocol)[0]
    placed = np.where(weights[:, None] > 0, transform_points(points, matrix), 0.0).astype(np.float32)
    if flipped:
        matrix = _mirrored(matrix, photo_width)
    return Placement(matrix, placed, weights, flipped)


def _mirrored(matrix: NDArray[np.float64], photo_width: int) -> NDArray[np.float64]:
    """The map that mirrors the photo first."""
    x, y, shift = matrix.T
    return np.stack([-x, y, shift + x * (photo_width - 1)], axis=1)


def _half_body(
    points: NDArray[np.float64],
    weights: NDArray[np.float32],
    skeleton: Skeleton,
    aspect: float,
    random: np.random.Generator,
    protocol: Protocol,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Centre (2,) and size (2,) of the upper or the lower body, None where neither has two keypoints."""
    is_upper = _upper_mask(skeleton, protocol)
    labelled = weights > 0
    upper, lower = labelled & is_upper, labelled & ~is_upper
    # The reference draws a normal number where it means a uniform one: P(upper) is 0.69.
    wants_upper = bool((random.standard_normal() if protocol == "mmpose0" else random.random()) < 0.5)
    chosen = lower if lower.sum() > 2 and not (wants_upper and upper.sum() > 2) else upper
    if chosen.sum() < 2:
        return None
    selected = points[chosen]
    extent = np.concatenate([selected.min(axis=0), selected.max(axis=0)])
    size = crop_regions(extent[None], aspect, _HALF_BODY_PADDING)[1][0]
    return (selected.mean(axis=0), size) if (size > 0).all() else None


def _part_box(
    points: NDArray[np.float64],
    weights: NDArray[np.float32],
    skeleton: Skeleton,
    config: AugmentConfig,
    random: np.random.Generator,
) -> NDArray[np.float64] | None:
    """(4,) box of one part with enough labelled keypoints, None where there is none."""
    boxes = []
    for part in config.part_zoom_parts:
        members = _part_mask(skeleton, part) & (weights > 0)
        if members.sum() < max(config.part_zoom_keypoints, 2):
            continue
        selected = points[members]
        low, high = selected.min(axis=0), selected.max(axis=0)
        if (high > low).all():
            middle, half = (low + high) / 2, (high - low) / 2 * _PART_MARGIN
            boxes.append(np.concatenate([middle - half, middle + half]))
    return boxes[random.integers(len(boxes))] if boxes else None


@lru_cache(maxsize=64)
def _upper_mask(skeleton: Skeleton, protocol: Protocol) -> NDArray[np.bool_]:
    """(K,) keypoints of the upper body; the reference takes faces and hands for the lower one."""
    is_lower = np.array([any(word in name for word in _LOWER_WORDS) for name in skeleton.keypoint_names])
    if protocol == "default":
        return ~is_lower
    return np.asarray(_part_mask(skeleton, "body") & ~is_lower, dtype=np.bool_)


@lru_cache(maxsize=64)
def _part_mask(skeleton: Skeleton, part: str) -> NDArray[np.bool_]:
    """(K,) keypoints of a part of the skeleton, or of the body above the hips."""
    if part == _UPPER_BODY:
        return _upper_mask(skeleton, "mmpose0")
    members = np.array(skeleton.parts.get(part, ()), dtype=np.int64)
    return np.asarray(np.isin(np.arange(skeleton.num_keypoints), members), dtype=np.bool_)


def change_pixels(crop: NDArray[np.uint8], config: AugmentConfig, random: np.random.Generator) -> NDArray[np.uint8]:
    """Varies colours, sharpness, compression and what is hidden, as far as the config asks for it.

    Args:
        crop: (H, W, 3) uint8 RGB.
        config: How much.
        random: Where chance comes from.

    Returns:
        (H, W, 3) uint8 RGB, the same array where nothing changes.
    """
    if random.random() < config.occlusion_probability:
        crop = _occlude(crop, config.occlusion, random)
    if random.random() < config.colour_probability:
        crop = _recolour(crop, config.colour, random)
    if random.random() < config.blur_probability:
        sigma = random.uniform(0, config.blur_px) * crop.shape[0] / 256
        if sigma > 0.1:  # a narrower kernel rounds to nothing
            crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), dtype=np.uint8)
    if random.random() < config.jpeg_probability:
        quality = int(random.integers(config.jpeg_quality, 96))
        bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
        crop = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    return crop


def _recolour(crop: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast, saturation, hue and channel balance, as one linear map of RGB."""
    contrast, saturation, *gains = np.exp(random.uniform(-strength, strength, 5) * (1, 1.5, 0.3, 0.3, 0.3))
    hue = random.uniform(-strength, strength) * 0.6
    shift = random.uniform(-strength, strength) * 96
    # The axis of grey is kept; what is across it (colour) is scaled and turned.
    axis = np.full(3, 1 / np.sqrt(3))
    grey = np.outer(axis, axis)
    across = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    colour = saturation * (np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * across)
    matrix = contrast * np.diag(gains) @ (grey + colour)
    offset = 127.5 * (1 - contrast) + shift
    return np.asarray(cv2.transform(crop, np.column_stack([matrix, np.full(3, offset)])), dtype=np.uint8)


def _occlude(crop: NDArray[np.uint8], largest: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Covers a rectangle with a flat colour, with noise, or with another piece of the crop."""
    height, width = crop.shape[:2]
    sides = np.maximum(random.uniform(0.1 * largest, largest, 2) * (height, width), 1).astype(np.int64)
    top, left = random.integers(0, np.array([height, width]) - sides + 1)
    from_top, from_left = random.integers(0, np.array([height, width]) - sides + 1)
    kind = random.integers(3)
    cover: NDArray[np.uint8]
    if kind == 0:
        cover = np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (*sides, 3))
    elif kind == 1:
        cover = random.integers(0, 256, (*sides, 3), dtype=np.uint8)
    else:
        cover = crop[from_top : from_top + sides[0], from_left : from_left + sides[1]]
    covered = np.array(crop)
    covered[top : top + sides[0], left : left + sides[1]] = cover
    return covered
