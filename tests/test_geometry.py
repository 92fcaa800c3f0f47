"""Properties of boxes, crops and affine maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.geometry import (
    box_iou,
    check_boxes,
    clip_boxes,
    crop_image,
    crop_matrices,
    crop_regions,
    invert_affine,
    oks,
    transform_points,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

coordinate = st.floats(-500, 1500)
side = st.floats(1, 2000)


@given(coordinate, coordinate, side, side, st.floats(-180, 180))
@settings(max_examples=50, deadline=None)
def test_affine_and_inverse(x, y, width, height, rotation):
    """FAULTS 34: there and back again, and the box lies inside its crop."""
    boxes = np.array([[x, y, x + width, y + height]])
    centers, sizes = crop_regions(boxes, 0.75)
    matrices = crop_matrices(centers, sizes, (384, 288), rotation)
    corners = boxes.reshape(1, 2, 2)
    there = transform_points(corners, matrices)
    np.testing.assert_allclose(transform_points(there, invert_affine(matrices)), corners, atol=1e-6)
    upright = transform_points(corners, crop_matrices(centers, sizes, (384, 288)))
    assert (upright >= 0).all()
    assert (upright <= [288, 384]).all()


def test_rotation_turns_the_region_clockwise():
    matrix = crop_matrices(np.array([[50.0, 50.0]]), np.array([[100.0, 100.0]]), (100, 100), 90.0)
    # the region's top is now the picture's right side
    np.testing.assert_allclose(transform_points(np.array([[[100.0, 50.0]]]), matrix)[0, 0], [50, 0], atol=1e-9)


def test_layouts_round_trip():
    boxes = np.array([[1.0, 2.0, 11.0, 22.0]])
    np.testing.assert_array_equal(xyxy_to_xywh(boxes), [[1, 2, 10, 20]])
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    np.testing.assert_array_equal(clip_boxes(np.array([[-5.0, -5.0, 50.0, 50.0]]), (30, 40)), [[0, 0, 40, 30]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, np.nan, 1]], "finite"),
        ([[0, 0, np.inf, 1]], "finite"),
        ([[0, 0, 1, 1], [5, 5, 2, 9]], "box 1 is reversed"),
        ([[3, 3, 3, 9]], "no area"),
        ([0, 0, 1, 1], r"\(N, 4\)"),
        ([[0, 0, 1]], r"\(N, 4\)"),
    ],
)
def test_bad_boxes_are_named(boxes, message):
    """FAULTS 13."""
    with pytest.raises(ValueError, match=message):
        check_boxes(boxes)


@pytest.mark.parametrize("nobody", [[], np.zeros((0, 4)), np.zeros(0), ()])
def test_nobody(nobody):
    """FAULTS 14."""
    assert check_boxes(nobody).shape == (0, 4)


def test_crop_of_a_part_equals_crop_of_the_whole():
    """FAULTS 6: a 40,000 px wide panorama gives the same crop as the piece alone."""
    rng = np.random.default_rng(1)
    piece = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    wide = np.zeros((300, 40_000, 3), dtype=np.uint8)
    wide[:, 35_000:35_400] = piece
    centers, sizes = crop_regions(np.array([[100.0, 40.0, 250.0, 260.0]]), 0.75)
    alone = crop_image(piece, crop_matrices(centers, sizes, (256, 192))[0], (256, 192))
    within = crop_image(wide, crop_matrices(centers + np.array([35_000, 0]), sizes, (256, 192))[0], (256, 192))
    assert np.abs(alone.astype(int) - within).max() <= 1
    everything = crop_matrices(np.array([[20_000.0, 150.0]]), np.array([[60_000.0, 45_000.0]]), (256, 192))
    assert crop_image(wide, everything[0], (256, 192)).shape == (256, 192, 3)


@pytest.mark.parametrize("box", [[-900, -900, -800, -700], [1e9, 1e9, 1e9 + 50, 1e9 + 90], [-1e9, -1e9, 1e9, 1e9]])
def test_boxes_far_outside_give_black_or_tiny_pictures(box):
    """FAULTS 13."""
    image = np.full((40, 30, 3), 200, dtype=np.uint8)
    centers, sizes = crop_regions(check_boxes([box]), 0.75)
    crop = crop_image(image, crop_matrices(centers, sizes, (64, 48))[0], (64, 48))
    assert (crop > 0).mean() < 0.01


@pytest.mark.parametrize("rotation", [0.0, 45.0, 171.0])
def test_boxes_narrower_than_a_float32_step_have_crops(rotation):
    """The reference's rounding would put the three points of a map in one place."""
    centers, sizes = crop_regions(check_boxes([[1000, 7, 1000 + 1e-9, 7 + 1e-9]]), 0.75)
    matrices = crop_matrices(centers, sizes, (64, 48), rotation, protocol="mmpose0")
    np.testing.assert_allclose(transform_points(centers[:, None], matrices)[0, 0], [24, 32], atol=12)


def test_iou():
    a = np.array([[0.0, 0.0, 10.0, 10.0]])
    b = np.array([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    np.testing.assert_allclose(box_iou(a, b), [[1, 1 / 3, 0]])


def test_oks_of_equal_people_is_one_and_falls_with_distance():
    rng = np.random.default_rng(0)
    people = rng.uniform(0, 100, (3, 5, 2))
    areas, sigmas = np.full(3, 900.0), np.full(5, 0.05)
    np.testing.assert_allclose(np.diag(oks(people, people, areas, areas, sigmas)), 1)
    moved = people + np.array([3.0, 0.0])
    expected = np.exp(-9 / (2 * 900 * 0.1**2))
    np.testing.assert_allclose(np.diag(oks(people, moved, areas, areas, sigmas)), expected)
