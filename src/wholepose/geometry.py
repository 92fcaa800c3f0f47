"""Boxes, crops, affine maps and object keypoint similarity.

Convention:
    A pixel's index is its coordinate: the centre of the top-left pixel is (0, 0), x runs right, y runs down. There is
    no half-pixel shift anywhere. Boxes are ``(x1, y1, x2, y2)`` in pixels; any other layout is named, as in
    ``boxes_xywh``. Sizes are ``(height, width)``. An affine matrix is ``(2, 3)`` and maps column vectors (x, y, 1).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Protocol = Literal["default", "mmpose0"]
"""``"mmpose0"`` reproduces MMPose 0.29, quirks included; ``"default"`` mends what is plainly wrong in it."""

BOX_PADDING = 1.25
"""How much larger than its box a person's crop is, on a side (Halpe and COCO top-down convention)."""

_WARP_SIDE_LIMIT = 32_000
"""OpenCV's warps address source pixels with 16-bit integers."""


def check_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """Validates person boxes.

    Args:
        boxes: (N, 4) xyxy pixels, any real dtype; an empty list or array is nobody. Boxes may reach beyond the image.

    Returns:
        (N, 4) float64 copy.

    Raises:
        ValueError: The shape is wrong, a coordinate is not finite, or a box is reversed or without area.
    """
    array = np.array(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4) in x1, y1, x2, y2 order, not {array.shape}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(f"box {int(np.flatnonzero(bad)[0])} is not finite: {array[bad][0].tolist()}")
    bad = (array[:, 2:] <= array[:, :2]).any(axis=1)
    if bad.any():
        raise ValueError(
            f"box {int(np.flatnonzero(bad)[0])} is reversed or has no area: {array[bad][0].tolist()}; "
            "boxes are x1, y1, x2, y2 with x2 > x1 and y2 > y1"
        )
    return array


def xywh_to_xyxy(boxes_xywh: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turns (..., 4) boxes of corner and (width, height) into corner and opposite corner."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turns (..., 4) boxes of two corners into corner and (width, height)."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def clip_boxes(boxes: NDArray[np.floating], image_size: tuple[int, int]) -> NDArray[np.floating]:
    """Clips (..., 4) xyxy boxes to the pixels of an image of (height, width)."""
    height, width = image_size
    return np.asarray(np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype)))


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box of (N, 4) with every box of (M, 4), both xyxy: (N, M) float64."""
    a64, b64 = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(a64[..., 2:], b64[..., 2:]) - np.maximum(a64[..., :2], b64[..., :2])
    overlap = np.clip(sides, 0, None).prod(-1)
    union = (a64[..., 2:] - a64[..., :2]).prod(-1) + (b64[..., 2:] - b64[..., :2]).prod(-1) - overlap
    return np.asarray(overlap / np.maximum(union, 1e-12))


def crop_regions(
    boxes: NDArray[np.floating], aspect: float, padding: float = BOX_PADDING
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grows boxes to the shape of the model's input.

    Each box is widened or heightened about its middle to the aspect ratio, then its sides are multiplied by the
    padding. Nothing is clipped to the image.

    Args:
        boxes: (N, 4) xyxy pixels.
        aspect: Width over height of the model's input.
        padding: Factor on both sides.

    Returns:
        Centres (N, 2) as (x, y) and sizes (N, 2) as (height, width), float64 pixels.
    """
    boxes = boxes.astype(np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    sizes = np.stack([np.maximum(height, width / aspect), np.maximum(width, height * aspect)], axis=1)
    return centers, sizes * padding


def crop_matrices(
    centers: NDArray[np.floating],
    sizes: NDArray[np.floating],
    crop_size: tuple[int, int],
    rotations_deg: NDArray[np.floating] | float = 0.0,
    *,
    protocol: Protocol = "default",
) -> NDArray[np.float64]:
    """Affine maps from image pixels to crop pixels.

    The middle of the region lands on (width / 2, height / 2) of the crop, and the width of the region fills the width
    of the crop; the height follows by the same factor.

    Args:
        centers: (N, 2) middles of the regions, (x, y) pixels.
        sizes: (N, 2) sides of the regions, (height, width) pixels.
        crop_size: (height, width) of the crop in pixels.
        rotations_deg: (N,) or one number; the region is turned by this before cropping, positive clockwise on the
            screen.
        protocol: ``"mmpose0"`` rounds the three points that define a map to float32, as the reference does, which
            moves a turned crop by up to a thousandth of a pixel.

    Returns:
        (N, 2, 3) float64 matrices.
    """
    height, width = crop_size
    origin = centers.astype(np.float64)
    half = sizes[:, 1].astype(np.float64) / 2
    if protocol == "mmpose0":
        # Nearer to each other, the three points would be rounded to one.
        half = np.maximum(half, 4 * np.spacing(np.abs(origin).max(axis=1).astype(np.float32)))
    angle = np.deg2rad(np.broadcast_to(np.asarray(rotations_deg, dtype=np.float64), half.shape))
    up = np.stack([np.sin(angle) * half, -np.cos(angle) * half], axis=1)
    if protocol == "mmpose0":
        origin = _round32(origin)
        tip = _round32(origin + up)
        back = origin - tip
        corner = _round32(tip + np.stack([-back[:, 1], back[:, 0]], axis=1))
        up, left = tip - origin, corner - tip
    else:
        left = np.stack([up[:, 1], -up[:, 0]], axis=1)
    # The crop's own half width, up and to the left, is what the two vectors become.
    target = np.array([[0.0, -width / 2], [-width / 2, 0.0]]).T
    linear = target @ np.linalg.inv(np.stack([up, left], axis=2))
    shift = np.array([width / 2, height / 2]) - (linear @ origin[:, :, None])[:, :, 0]
    return np.asarray(np.concatenate([linear, shift[:, :, None]], axis=2))


def _round32(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points.astype(np.float32).astype(np.float64)


def invert_affine(matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inverts (..., 2, 3) affine maps."""
    linear = np.linalg.inv(matrices[..., :2].astype(np.float64))
    return np.concatenate([linear, -linear @ matrices[..., 2:]], axis=-1)


def transform_points(points: NDArray[np.floating], matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sends points through affine maps.

    Args:
        points: (..., K, 2) as (x, y).
        matrices: (..., 2, 3), one map for each group of K points.

    Returns:
        (..., K, 2) float64.
    """
    linear = np.swapaxes(matrices[..., :2], -1, -2)
    return np.asarray(points.astype(np.float64) @ linear + matrices[..., None, :, 2])


def crop_image(image: NDArray[np.uint8], matrix: NDArray[np.floating], crop_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cuts a crop out of an image: bilinear, black outside the image.

    Only the part of the image under the crop is touched, so a panorama costs no more than a photo.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3) map from image pixels to crop pixels.
        crop_size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = crop_size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    region = transform_points(corners, invert_affine(matrix))
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(region.min(axis=0)) - 2, 0, limit).astype(np.int64)
    high = np.clip(np.ceil(region.max(axis=0)) + 3, 0, limit).astype(np.int64)
    if (high <= low).any():
        return np.zeros((height, width, 3), dtype=np.uint8)
    step = int(-(-int((high - low).max()) // _WARP_SIDE_LIMIT))  # above 1 only where the crop shrinks a lot anyway
    part = image[low[1] : high[1] : step, low[0] : high[0] : step]
    local = np.array(matrix, dtype=np.float64)
    local[:, 2] += local[:, :2] @ low
    local[:, :2] *= step
    warped = cv2.warpAffine(
        part, local, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
    )
    return np.asarray(warped, dtype=np.uint8)


def oks(
    keypoints_a: NDArray[np.floating],
    keypoints_b: NDArray[np.floating],
    areas_a: NDArray[np.floating],
    areas_b: NDArray[np.floating],
    sigmas: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Object keypoint similarity of every person of one group with every person of another, over all keypoints.

    The COCO definition, mean of exp(-d^2 / (2 area (2 sigma)^2)), with the mean of the two areas.

    Args:
        keypoints_a: (N, K, 2) pixels.
        keypoints_b: (M, K, 2) pixels.
        areas_a: (N,) px^2.
        areas_b: (M,) px^2.
        sigmas: (K,) per-keypoint constants.

    Returns:
        (N, M) float64 in [0, 1].
    """
    distances = np.square(keypoints_a[:, None].astype(np.float64) - keypoints_b[None]).sum(-1)
    areas = (areas_a[:, None] + areas_b[None]) / 2 + np.spacing(1)
    return np.asarray(np.exp(-distances / (2 * np.square(2 * sigmas)) / areas[..., None]).mean(-1))


def oks_nms(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    areas: NDArray[np.floating],
    sigmas: NDArray[np.floating],
    threshold: float = 0.9,
    *,
    soft: bool = False,
    max_people: int = 20,
) -> NDArray[np.int64]:
    """Removes people that repeat a better scored one.

    Args:
        keypoints: (N, K, 2) pixels.
        scores: (N,) instance scores.
        areas: (N,) px^2.
        sigmas: (K,) per-keypoint constants.
        threshold: Hard: the similarity above which the lower scored person goes. Soft: the width of the decay.
        soft: Lower the scores of similar people by exp(-oks^2 / threshold) instead of removing them, and keep the best.
        max_people: How many the soft variant keeps.

    Returns:
        (M,) int64 indices of those kept, best first.
    """
    order = np.argsort(scores)[::-1]
    remaining = scores[order].astype(np.float64)
    kept: list[int] = []
    while len(order) and (not soft or len(kept) < max_people):
        best, order, remaining = order[0], order[1:], remaining[1:]
        kept.append(int(best))
        similarity = oks(keypoints[best : best + 1], keypoints[order], areas[best : best + 1], areas[order], sigmas)[0]
        if soft:
            remaining = remaining * np.exp(-np.square(similarity) / threshold)
            again = np.argsort(remaining)[::-1]
        else:
            again = np.flatnonzero(similarity <= threshold)
        order, remaining = order[again], remaining[again]
    return np.array(kept, dtype=np.int64)
