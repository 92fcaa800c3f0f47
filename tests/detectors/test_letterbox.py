"""Fitting images into inputs, and tiles."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wholepose.detectors.base import Detections, make_detections, non_maximum_suppression
from wholepose.detectors.letterbox import GRAY, letterbox
from wholepose.detectors.tiles import LONGEST_ASPECT, MOST_TILES, join_tiles, tiles_of
from wholepose.geometry import box_iou


def test_letterbox_keeps_the_shape_and_pads_with_gray() -> None:
    image = np.full((480, 640, 3), 200, dtype=np.uint8)
    fitted, scale = letterbox(image, 416)
    assert fitted.shape == (320, 416, 3)
    assert (fitted[:312] == 200).all()
    assert (fitted[312:] == GRAY).all()
    np.testing.assert_allclose(scale, [0.65] * 4)
    fixed, scale = letterbox(image, (100, 400))
    assert fixed.shape == (100, 400, 3)
    assert (fixed[:, :133] == 200).all()
    assert (fixed[:, 133:] == GRAY).all()
    np.testing.assert_allclose(scale, [133 / 640, 100 / 480] * 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 200))
def test_the_image_fills_one_side(height: int, width: int, side: int) -> None:
    fitted, scale = letterbox(np.zeros((height, width, 3), dtype=np.uint8), side)
    assert fitted.shape[0] % 32 == fitted.shape[1] % 32 == 0
    assert max(height * scale[1], width * scale[0]) == pytest.approx(side)
    assert fitted.shape[0] - 32 < max(1, height * scale[1]) <= fitted.shape[0] + 1e-3


def test_suppression_keeps_the_best_of_each_group() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [2, 0, 12, 10]], dtype=np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.6], dtype=np.float32)
    assert non_maximum_suppression(boxes, scores, 0.6).tolist() == [1, 2]
    assert non_maximum_suppression(boxes, scores, 0.85).tolist() == [1, 3, 0, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.5).tolist() == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_suppression_agrees_with_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (40, 2))], axis=1)
    scores = rng.random(40)
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(box_iou(boxes[index : index + 1], boxes[k : k + 1])[0, 0] <= 0.5 for k in kept):
            kept.append(int(index))
    assert non_maximum_suppression(boxes, scores, 0.5).tolist() == kept


def test_detections_are_sorted_clipped_finite_and_read_only() -> None:
    boxes = [[-5, -5, 5, 5], [0, 0, 4, 4], [20, 20, 30, 30], [np.nan, 0, 1, 1], [1, 1, 3, 3], [3, 3, 2, 2]]
    found = make_detections(boxes, [0.5, 1.5, 1, 1, 0.1, 1], (10, 10), 0.2)
    np.testing.assert_allclose(found.boxes, [[0, 0, 4, 4], [0, 0, 5, 5]])
    np.testing.assert_allclose(found.scores, [1, 0.5])
    assert not found.boxes.flags.writeable
    with pytest.raises(ValueError, match=r"boxes \(N, 4\)"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="finite"):
        Detections(np.full((1, 4), np.nan, np.float32), np.zeros(1, np.float32))
    assert len(Detections.empty()) == 0


@settings(max_examples=100, deadline=None)
@example(1, 3)
@given(st.integers(1, 50_000), st.integers(1, 50_000))
def test_tiles_cover_the_image_and_overlap(height: int, width: int) -> None:
    tiles = tiles_of((height, width))
    assert 1 <= len(tiles) <= MOST_TILES
    if max(height, width) <= LONGEST_ASPECT * min(height, width):
        assert tiles == [(0, 0, width, height)]
        return
    axis = 0 if width >= height else 1
    assert tiles[0][axis] == 0
    assert tiles[-1][axis + 2] == max(width, height)
    assert all(tile[1 - axis] == 0 and tile[3 - axis] == min(width, height) for tile in tiles)
    for left, right in pairwise(tiles):
        assert left[axis] < right[axis] <= left[axis] + (left[axis + 2] - left[axis]) / 2 + 1


def test_people_in_overlaps_are_joined() -> None:
    size = (100, 1000)
    tiles = tiles_of(size)
    people = np.array([[10, 10, 40, 90], [130, 5, 170, 95], [300, 20, 330, 90], [960, 30, 1000, 99]], dtype=np.float32)
    found = []
    for number, (x1, _, x2, _) in enumerate(tiles):
        seen = people[(people[:, 2] > x1 + 5) & (people[:, 0] < x2 - 5)]
        local = seen.copy()
        local[:, [0, 2]] = np.clip(local[:, [0, 2]], x1, x2) - x1
        found.append(Detections(local, np.full(len(local), 0.9 - 0.01 * number, np.float32)))
    joined = join_tiles(found, tiles, size)
    np.testing.assert_allclose(joined.boxes[np.argsort(joined.boxes[:, 0])], people)
    nobody = join_tiles([Detections.empty()] * len(tiles), tiles, size)
    assert len(nobody) == 0
