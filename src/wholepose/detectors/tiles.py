"""Looking at long pictures piece by piece, so that people in a panorama do not shrink to nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wholepose.detectors.base import Detections, non_maximum_suppression

LONGEST_ASPECT = 2.2
"""Longer side over shorter side from which on a picture is looked at in tiles."""

TILE_ASPECT = 1.5
MOST_TILES = 32

_NMS_IOU = 0.6
_COVERED = 0.85


def tiles_of(image_size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Cuts a long image into tiles that overlap by at least half.

    Args:
        image_size: (height, width) in pixels.

    Returns:
        x1, y1, x2, y2 of each tile: the whole image where that is not long, and never more than `MOST_TILES`.
    """
    height, width = image_size
    short, long = min(height, width), max(height, width)
    if long <= LONGEST_ASPECT * short:
        return [(0, 0, width, height)]
    length = max(TILE_ASPECT * short, 2 * long / (MOST_TILES + 1))
    count = math.ceil((long - length) / (length / 2) - 1e-9) + 1
    starts = np.linspace(0, long - length, count)
    # Of tiles that would start at the same pixel, in images a few pixels high, the longest is kept.
    spans = {math.floor(start): min(long, math.ceil(start + length)) for start in starts}
    if width >= height:
        return [(low, 0, high, height) for low, high in spans.items()]
    return [(0, low, width, high) for low, high in spans.items()]


def join_tiles(
    found: list[Detections], tiles: list[tuple[int, int, int, int]], image_size: tuple[int, int]
) -> Detections:
    """Joins what was found in the tiles of one image.

    A box that ends where its tile was cut shows a part of somebody whom the next tile shows whole, unless that somebody
    is longer than the overlap.

    Args:
        found: People of each tile, in its own pixels.
        tiles: The tiles, x1, y1, x2, y2.
        image_size: (height, width) of the image in pixels.

    Returns:
        The people of the image, in its pixels.
    """
    boxes, scores = [], []
    limit = np.array([image_size[1], image_size[0]])
    for people, tile in zip(found, tiles, strict=True):
        low, high = np.array(tile[:2]), np.array(tile[2:])
        size = high - low
        cut = (people.boxes[:, :2] < 0.02 * size) & (low > 0)
        cut |= (people.boxes[:, 2:] > 0.98 * size) & (high < limit)
        short = people.boxes[:, 2:] - people.boxes[:, :2] < 0.45 * size
        whole = ~(cut & short).any(axis=1)
        boxes.append(people.boxes[whole] + np.array([*low, *low], dtype=np.float32))
        scores.append(people.scores[whole])
    every, score = np.concatenate(boxes), np.concatenate(scores)
    kept = non_maximum_suppression(every, score, _NMS_IOU)
    kept = kept[~_repeated(every[kept])]
    return Detections(every[kept], score[kept])


def _repeated(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes lie almost wholly in a better one not much larger, as a half-seen person does; best boxes first."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    covered = np.clip(high - low, 0, None).prod(axis=2) / np.maximum(area, 1e-9)[:, None]
    in_better = np.tril(covered, -1) > _COVERED
    return np.asarray((in_better & (area[:, None] > 0.4 * area[None])).any(axis=1))
