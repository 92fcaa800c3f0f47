"""Crops and non-maximum suppression against the reference's answers."""

import cv2
import numpy as np
import pytest

from wholepose.geometry import crop_image, crop_matrices, crop_regions, invert_affine, oks_nms, xywh_to_xyxy
from wholepose.images import load_image


@pytest.fixture
def crops(golden, shared):
    """The golden crops hold a photo, so they stay beside the checkout unless a folder is named."""
    own = golden / "crops.npz"
    return np.load(own if own.exists() else shared / "golden" / "crops.npz")


def test_matrices_and_crops_of_a_photo(crops, shared):
    image = load_image(shared / "data" / "halpe_fixture" / str(crops["image_name"]))
    height, width = crops["crops"].shape[1:3]
    centers, sizes = crop_regions(xywh_to_xyxy(crops["boxes_xywh"]), width / height)
    np.testing.assert_allclose(centers, crops["centers"], atol=1e-3)
    np.testing.assert_allclose(sizes[:, ::-1], crops["scales_200px"] * 200, rtol=1e-5)
    matrices = crop_matrices(centers, sizes, (height, width), crops["rotations_deg"], protocol="mmpose0")
    np.testing.assert_allclose(matrices, crops["matrices"], atol=1e-4)
    exact = crop_matrices(centers, sizes, (height, width), crops["rotations_deg"])
    np.testing.assert_allclose(exact, crops["matrices"], atol=2e-3)
    for matrix, expected in zip(matrices, crops["crops"], strict=True):
        crop = crop_image(image, matrix, (height, width))
        assert np.abs(crop.astype(int) - expected).mean() <= 1


def test_crops_of_a_drawn_picture():
    """The same mathematics without a photo: every crop pixel is the picture at the place the matrix says."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:240, 0:320]
    image = np.stack([128 + 100 * np.sin(x / 17 + y / 29), x * 0.7, y], axis=-1).clip(0, 255).astype(np.uint8)
    boxes = rng.uniform(0, 150, (5, 2))
    boxes = np.concatenate([boxes, boxes + rng.uniform(40, 160, (5, 2))], axis=1)
    centers, sizes = crop_regions(boxes, 0.75)
    for matrix in crop_matrices(centers, sizes, (96, 72), rng.uniform(-80, 80, 5)):
        crop = crop_image(image, matrix, (96, 72)).astype(np.float64)
        back = invert_affine(matrix)
        v, u = np.mgrid[0:96, 0:72]
        source = np.stack([u, v, np.ones_like(u)], axis=-1) @ back.T
        expected = cv2.remap(image, source.astype(np.float32), None, cv2.INTER_LINEAR, borderValue=(0, 0, 0))
        assert np.abs(crop - expected).mean() <= 1


@pytest.mark.parametrize(
    ("key", "threshold", "soft"), [("hard_09", 0.9, False), ("hard_05", 0.5, False), ("soft_09", 0.9, True)]
)
def test_oks_nms(golden, key, threshold, soft):
    data = np.load(golden / "oks_nms.npz")
    sigmas = np.load(golden / "flip_test.npz")["sigmas"]
    kept = oks_nms(data["keypoints"][..., :2], data["scores"], data["areas"], sigmas, threshold, soft=soft)
    np.testing.assert_array_equal(kept, data[f"keep_{key}"])
