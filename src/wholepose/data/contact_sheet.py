"""Contact sheets: annotated people side by side with their keypoints drawn, to look at a set before training on it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet
from wholepose.data.photos import PhotoStore
from wholepose.draw import draw_poses
from wholepose.errors import AnnotationError, ImageError
from wholepose.geometry import crop_image, crop_matrices, crop_regions, transform_points
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton

_CAPTION_PX = 16
_GAP_PX = 4


def contact_sheet(
    annotations: AnnotationSet,
    *,
    people: int = 24,
    columns: int = 6,
    tile_size: tuple[int, int] = (256, 192),
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draws randomly chosen people, each cut out by the box as for training, under the number of the annotation.

    Args:
        annotations: The set; only people to train on are chosen, and only from photos that can be read.
        people: How many to show at most.
        columns: Tiles a row.
        tile_size: (height, width) of a person in pixels.
        seed: Another seed, other people.

    Returns:
        (H, W, 3) uint8 RGB; one black tile where there is nobody.
    """
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(annotations.trainable()))
    photos = PhotoStore()
    tiles: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    for row in rows:
        if len(tiles) == people:
            break
        image_row = annotations.image_rows[row]
        height, width = annotations.image_sizes[image_row].tolist()
        try:
            photo = photos.read(annotations.image_files[image_row], (height, width))
        except (ImageError, AnnotationError):
            continue  # the check lists it, unless only decoding shows the damage
        centers, sizes = crop_regions(annotations.boxes[row : row + 1], tile_size[1] / tile_size[0])
        matrix = crop_matrices(centers, sizes, tile_size)[0]
        tile = crop_image(photo, matrix, tile_size)
        keypoints = transform_points(annotations.keypoints[row], matrix)
        tiles.append(draw_labels(tile, keypoints, annotations.visibility[row], annotations.skeleton))
        captions.append(f"id {annotations.person_ids[row]}")
    if not tiles:
        return np.zeros((*tile_size, 3), dtype=np.uint8)
    return tile_pictures(tiles, captions, columns)


def draw_labels(
    crop: NDArray[np.uint8],
    keypoints: NDArray[np.floating],
    visibility: NDArray[np.floating],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    """Draws one person's labelled keypoints onto a crop.

    Args:
        crop: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) crop pixels.
        visibility: (K,), 0 is not drawn.
        skeleton: Of the keypoints.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    height, width = crop.shape[:2]
    poses = Poses(
        keypoints=keypoints[None].astype(np.float32),
        scores=(visibility[None] > 0).astype(np.float32),
        boxes=np.array([[0, 0, width, height]], dtype=np.float32),
        box_scores=np.ones(1, dtype=np.float32),
        skeleton=skeleton,
    )
    return draw_poses(crop, poses)


def tile_pictures(tiles: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int) -> NDArray[np.uint8]:
    """Lays pictures of one size out in rows, a caption above each.

    Args:
        tiles: At least one (h, w, 3) uint8 RGB.
        captions: One each; letters outside ASCII are not drawn.
        columns: Tiles a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    step = (height + _CAPTION_PX + _GAP_PX, width + _GAP_PX)
    sheet = np.full((-(-len(tiles) // columns) * step[0], columns * step[1], 3), 32, dtype=np.uint8)
    for position, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        top, left = position // columns * step[0], position % columns * step[1]
        sheet[top + _CAPTION_PX : top + _CAPTION_PX + height, left : left + width] = tile
        cv2.putText(
            sheet, caption, (left + 2, top + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA
        )
    return sheet
