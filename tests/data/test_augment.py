"""Where crops are taken, how labels follow, and what is done to pixels."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.data import NO_AUGMENTATION, AugmentConfig
from wholepose.data.augment import change_pixels, label_weights, place
from wholepose.geometry import crop_image, crop_matrices, crop_regions, invert_affine, transform_points
from wholepose.skeletons import COCO17, HALPE136

CROP = (384, 288)
BOX = np.array([200.0, 80.0, 400.0, 400.0])
ALL = np.full(136, 2.0)
FACE, HANDS = list(HALPE136.parts["face"]), [*HALPE136.parts["left_hand"], *HALPE136.parts["right_hand"]]
LOWER_BODY = [11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 24, 25]
UPPER_BODY = sorted(set(range(20)) - set(LOWER_BODY))


def points(seed=0, count=136):
    return np.random.default_rng(seed).uniform([210, 90], [390, 390], (count, 2))


def placed(config, seed, keypoints=None, visibility=ALL, *, box=BOX, protocol="default", skeleton=HALPE136):
    return place(
        box,
        points() if keypoints is None else keypoints,
        visibility,
        photo_width=640,
        crop_size=CROP,
        skeleton=skeleton,
        config=config,
        random=np.random.default_rng(seed),
        protocol=protocol,
    )


def only(**changes):
    return replace(NO_AUGMENTATION, **changes)


def region(matrix):
    """Centre and size (height, width) in the photo, and the rotation in degrees, that a map stands for."""
    inverse = invert_affine(matrix)
    center = transform_points(np.array([[CROP[1] / 2, CROP[0] / 2]]), inverse)[0]
    factor = math.sqrt(abs(np.linalg.det(inverse[:, :2])))
    return center, np.array(CROP) * factor, math.degrees(math.atan2(inverse[1, 0], inverse[0, 0]))


def test_without_augmentation_the_crop_is_the_one_of_prediction():
    found = placed(NO_AUGMENTATION, 0)
    centers, sizes = crop_regions(BOX[None], CROP[1] / CROP[0])
    expected = crop_matrices(centers, sizes, CROP)[0]
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)
    np.testing.assert_allclose(found.keypoints, transform_points(points(), expected), atol=1e-4)
    assert (found.weights == 1).all()
    assert not found.flipped


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), protocol=st.sampled_from(["default", "mmpose0"]))
def test_labels_follow_the_map_and_back(seed, protocol):
    """Fault 34: affine and inverse; left and right change places in a mirror image."""
    found = placed(AugmentConfig(part_zoom_probability=0.3), seed, protocol=protocol)
    back = transform_points(found.keypoints, invert_affine(found.matrix))
    if found.flipped:
        back = back[HALPE136.flip_indices]
        assert np.linalg.det(found.matrix[:, :2]) < 0
    np.testing.assert_allclose(back, points(), atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_flip_twice_is_the_identity(seed):
    """Fault 34: flipping the labels of a mirrored photo gives the crop of the photo itself."""
    mirrored = (points() * (-1, 1) + (639, 0))[HALPE136.flip_indices]
    box = np.array([639 - BOX[2], BOX[1], 639 - BOX[0], BOX[3]])
    visibility = np.random.default_rng(seed).uniform(0, 2, 136)
    still = placed(NO_AUGMENTATION, seed, visibility=visibility)
    twice = placed(only(flip_probability=1.0), seed, mirrored, visibility[HALPE136.flip_indices], box=box)
    np.testing.assert_allclose(twice.keypoints, still.keypoints, atol=1e-3)
    np.testing.assert_array_equal(twice.weights, still.weights)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), keypoint=st.integers(0, 135), protocol=st.sampled_from(["default", "mmpose0"]))
def test_a_label_moves_with_its_pixel(seed, keypoint, protocol):
    """Fault 34: a dot drawn at a keypoint is found in the crop where the label says, within a pixel."""
    spot = points(seed % 1000)[keypoint]
    x, y = np.meshgrid(np.arange(640), np.arange(480))
    blob = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 3.0**2))
    photo = np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2)
    keypoints, visibility = np.zeros((136, 2)), np.zeros(136)
    keypoints[keypoint], visibility[keypoint] = spot, 2
    found = placed(AugmentConfig(), seed, keypoints, visibility, protocol=protocol)
    labelled = np.flatnonzero(found.weights)
    assert labelled.tolist() == [HALPE136.flip_indices[keypoint] if found.flipped else keypoint]
    where = found.keypoints[labelled[0]]
    margin = 3 * 3.0 * np.abs(np.linalg.det(found.matrix[:, :2])) ** 0.5 + 2
    if not (margin < where[0] < CROP[1] - margin and margin < where[1] < CROP[0] - margin):
        return  # the dot is cut off by the border
    crop = crop_image(photo, found.matrix, CROP)[..., 0].astype(np.float64)
    rows, columns = np.nonzero(crop)
    weight = crop[rows, columns]
    center = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    assert np.hypot(*(center - where)) < 0.5


def test_statistics_of_shift_scale_and_rotation():
    config = AugmentConfig(flip_probability=0, half_body_probability=0)
    found = [region(placed(config, seed).matrix) for seed in range(2000)]
    centers, sizes = crop_regions(BOX[None], CROP[1] / CROP[0])
    shifts = np.array([center for center, _, _ in found]) - centers[0]
    moved = np.abs(shifts).max(axis=1) > 1e-6
    assert abs(moved.mean() - 0.3) < 0.04
    limits = 0.16 * sizes[0, ::-1]  # (width, height)
    assert (np.abs(shifts) <= limits + 1e-6).all()
    assert (np.abs(shifts).max(axis=0) > 0.9 * limits).all()
    factors = np.array([size[0] for _, size, _ in found]) / sizes[0, 0]
    assert factors.min() == pytest.approx(0.5)
    assert factors.max() == pytest.approx(1.5)
    assert abs((np.isclose(factors, 0.5) | np.isclose(factors, 1.5)).mean() - 0.317) < 0.04
    angles = np.array([angle for _, _, angle in found])
    turned = np.abs(angles) > 1e-6
    assert abs(turned.mean() - 0.6) < 0.04
    assert np.abs(angles).max() == pytest.approx(80)
    assert abs(np.isclose(np.abs(angles[turned]), 80).mean() - 0.0455) < 0.025


def half_body_share(protocol, visibility=ALL, keypoints=None):
    """How often the crop is centred on each of some groups of keypoints, in 800 trials of half body alone."""
    config = only(half_body_probability=1.0)
    keypoints = points(3) if keypoints is None else keypoints
    upper = UPPER_BODY if protocol == "mmpose0" else [*UPPER_BODY, *FACE, *HANDS]
    groups = {"upper": upper, "lower": sorted(set(range(136)) - set(upper))}
    means = {name: keypoints[group].mean(axis=0) for name, group in groups.items()}
    counts = dict.fromkeys([*groups, "whole"], 0)
    for seed in range(800):
        center = region(placed(config, seed, keypoints, visibility, protocol=protocol).matrix)[0]
        nearest = [name for name, mean in means.items() if np.allclose(center, mean, atol=0.05)]
        counts[nearest[0] if nearest else "whole"] += 1
    return {name: count / 800 for name, count in counts.items()}


def test_half_body_of_the_reference_and_of_the_default():
    """The reference picks the upper body with P = 0.69, and counts faces and hands as lower body."""
    reference, default = half_body_share("mmpose0"), half_body_share("default")
    assert abs(reference["upper"] - 0.69) < 0.05
    assert abs(default["upper"] - 0.5) < 0.05
    assert reference["whole"] == default["whole"] == 0


def test_half_body_needs_more_than_eight_labelled_keypoints():
    few = np.zeros(136)
    few[:8] = 2
    enough = np.zeros(136)
    enough[:9] = 2
    config = only(half_body_probability=1.0)
    whole = region(placed(NO_AUGMENTATION, 0).matrix)[0]
    assert np.allclose(region(placed(config, 0, visibility=few).matrix)[0], whole)
    assert not np.allclose(region(placed(config, 0, visibility=enough).matrix)[0], whole)
    # The reference adds fractions up: nine keypoints of visibility 0.5 are 4.5.
    fractions = np.where(enough > 0, 0.5, 0)
    assert np.allclose(region(placed(config, 0, visibility=fractions, protocol="mmpose0").matrix)[0], whole)
    assert not np.allclose(region(placed(config, 0, visibility=fractions).matrix)[0], whole)


def test_half_body_crop_holds_its_keypoints_with_half_as_much_again():
    keypoints = points(5, 17)
    found = placed(only(half_body_probability=1.0), 1, keypoints, np.full(17, 2.0), skeleton=COCO17)
    center, size, _ = region(found.matrix)
    group = next(
        keypoints[members]
        for members in (list(range(11)), list(range(11, 17)))
        if np.allclose(keypoints[members].mean(axis=0), center, atol=0.01)
    )
    width, height = np.ptp(group, axis=0)
    assert size[0] == pytest.approx(1.5 * max(height, width / 0.75), rel=1e-6)


def test_weights_by_protocol():
    visibility = np.array([0, 0.2, 0.35, 0.5, 0.8, 1, 1.5, 2], dtype=np.float32)
    assert label_weights(visibility).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    expected = np.array([0, 0.2, 0.35, 0.5, 0.8, 1, 1, 1], dtype=np.float32)
    np.testing.assert_array_equal(label_weights(visibility, "mmpose0"), expected)


def test_part_zoom_takes_the_part_with_a_margin():
    keypoints = points(7)
    keypoints[FACE] = np.random.default_rng(0).uniform([300, 100], [330, 140], (68, 2))
    config = only(part_zoom_probability=1.0, part_zoom_parts=("face",))
    center, size, _ = region(placed(config, 0, keypoints).matrix)
    low, high = keypoints[FACE].min(axis=0), keypoints[FACE].max(axis=0)
    np.testing.assert_allclose(center, (low + high) / 2, atol=1e-6)
    assert size[0] == pytest.approx(1.25 * 1.25 * max(high[1] - low[1], (high[0] - low[0]) / 0.75))
    unlabelled = ALL.copy()
    unlabelled[FACE[5:]] = 0
    whole = region(placed(NO_AUGMENTATION, 0, keypoints).matrix)[0]
    assert np.allclose(region(placed(config, 0, keypoints, unlabelled).matrix)[0], whole)
    assert np.allclose(region(placed(config, 0, keypoints[:17], ALL[:17], skeleton=COCO17).matrix)[0], whole)


def test_part_zoom_chooses_every_part():
    config = only(part_zoom_probability=1.0, part_zoom_keypoints=7)
    keypoints = points(7)
    groups = [UPPER_BODY, FACE, list(HALPE136.parts["left_hand"]), list(HALPE136.parts["right_hand"])]
    middles = [(keypoints[group].min(axis=0) + keypoints[group].max(axis=0)) / 2 for group in groups]
    centers = [region(placed(config, seed, keypoints).matrix)[0] for seed in range(60)]
    assert all(any(np.allclose(center, middle, atol=1e-6) for center in centers) for middle in middles)
    assert all(any(np.allclose(center, middle, atol=1e-6) for middle in middles) for center in centers)


@pytest.mark.parametrize(
    "change",
    [
        {"flip_probability": 1.2},
        {"scale": -0.1},
        {"jpeg_quality": 0},
        {"rotation_deg": math.nan},
        {"part_zoom_parts": ("lefthand",)},
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AugmentConfig(**change)


CROPS = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
SMOOTH = cv2.GaussianBlur(CROPS[0], (0, 0), 6)


def changed(crop, seed=0, **changes):
    return change_pixels(crop, only(**changes), np.random.default_rng(seed))


def test_pixels_stay_unless_asked():
    assert changed(SMOOTH) is SMOOTH


@pytest.mark.parametrize("name", ["colour", "blur", "jpeg", "occlusion"])
def test_pixel_changes_keep_the_input_and_depend_on_chance_alone(name):
    config = {f"{name}_probability": 1.0}
    before = SMOOTH.copy()
    first, second = changed(SMOOTH, 3, **config), changed(SMOOTH, 3, **config)
    np.testing.assert_array_equal(SMOOTH, before)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.uint8
    assert first.shape == SMOOTH.shape
    assert any((changed(SMOOTH, seed, **config) != SMOOTH).any() for seed in range(5))


def test_colour_changes_leave_black_to_white_in_order():
    grey = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    for seed in range(20):
        out = changed(grey, seed, colour_probability=1.0).astype(np.int64)
        assert (np.diff(out, axis=1) >= 0).all()


def test_blur_and_jpeg_stay_near():
    for seed in range(10):
        assert np.abs(changed(SMOOTH, seed, blur_probability=1.0).astype(int) - SMOOTH).mean() < 4
        assert np.abs(changed(SMOOTH, seed, jpeg_probability=1.0).astype(int) - SMOOTH).mean() < 8


def test_occlusion_covers_one_rectangle_of_bounded_size():
    black = np.zeros((100, 80, 3), dtype=np.uint8)
    sizes = []
    for seed in range(100):
        covered = changed(black, seed, occlusion_probability=1.0, occlusion=0.4).any(axis=2)
        if covered.any():
            rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
            sizes.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    assert len(sizes) > 40
    assert np.max(sizes, axis=0).tolist() <= [40, 32]
    assert np.max(sizes) > 30
