"""Pictures of people: repeatable, annotated exactly, usable in worker processes; bad arguments refused."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest

from wholepose.errors import ConfigError
from wholepose.skeletons import HALPE136
from wholepose.synth import SynthPeople

COUNT = 6


@pytest.fixture(scope="module")
def people(body) -> SynthPeople:
    return SynthPeople(3, (192, 256), people=(1, 3))


@pytest.fixture(scope="module")
def samples(people) -> list:
    return [people.sample(index) for index in range(COUNT)]


def test_shapes_and_dtypes(samples):
    for sample in samples:
        count = len(sample)
        assert sample.image.shape == (192, 256, 3)
        assert sample.image.dtype == np.uint8
        assert sample.keypoints.shape == (count, 136, 2)
        assert sample.keypoints.dtype == np.float32
        assert sample.visibility.shape == (count, 136)
        assert set(np.unique(sample.visibility)) <= {0, 1, 2}
        assert sample.boxes.shape == (count, 4)
        assert sample.masks.shape == (count, 192, 256)
        np.testing.assert_array_equal(sample.areas, sample.masks.sum(axis=(1, 2)))
        assert np.isfinite(sample.keypoints).all()
    assert sum(len(sample) for sample in samples) >= COUNT


def test_boxes_are_the_masks(samples):
    for sample in samples:
        for mask, box in zip(sample.masks, sample.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            expected = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
            np.testing.assert_allclose(box, expected)


def test_seen_points_lie_on_their_person(samples):
    """Every seen point is inside its person's mask, grown by 3 % of the box."""
    for sample in samples:
        for mask, box, points, seen in zip(
            sample.masks, sample.boxes, sample.keypoints, sample.visibility == 2, strict=True
        ):
            reach = 0.03 * max(box[2] - box[0], box[3] - box[1]) + 1
            distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
            x, y = np.clip(np.round(points[seen]).astype(int), 0, [255, 191]).T
            far = distance[y, x]
            assert (far <= reach).all(), [HALPE136.keypoint_names[k] for k in np.flatnonzero(seen)[far > reach]]


def test_points_outside_the_picture_say_so(samples):
    for sample in samples:
        outside = (
            (sample.keypoints < -0.5).any(-1) | (sample.keypoints[..., 0] > 255.5) | (sample.keypoints[..., 1] > 191.5)
        )
        np.testing.assert_array_equal(outside, sample.visibility == 0)


def test_same_index_same_picture_in_any_order_and_process(people, samples):
    """Worker processes draw what this process drew (pickled without what is loaded)."""
    assert pickle.loads(pickle.dumps(people))._loaded is None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(people.sample, 2).result(timeout=300)
    for one in (people.sample(2), elsewhere):
        np.testing.assert_array_equal(one.image, samples[2].image)
        np.testing.assert_array_equal(one.keypoints, samples[2].keypoints)
        np.testing.assert_array_equal(one.visibility, samples[2].visibility)
    assert not np.array_equal(samples[0].image, samples[1].image)


def test_another_seed_other_people(people, samples):
    other = SynthPeople(4, (192, 256), people=(1, 3)).sample(0)
    assert not np.array_equal(other.image, samples[0].image)


def test_crops_hold_one_person_as_a_padded_box(body):
    people = SynthPeople(0, (128, 96))
    for index in range(5):
        crop = people.sample_crop(index)
        assert crop.image.shape == (128, 96, 3)
        assert len(crop) == 1
        inside = crop.visibility[0] > 0
        assert inside.sum() >= 8
        points = crop.keypoints[0][inside]
        # The box fills 1 / 1.25 of the crop on one side at least, about its middle.
        extent = np.ptp(points, axis=0)
        assert max(extent[0] / 96, extent[1] / 128) < 0.86
        assert (np.abs(points.mean(axis=0) - [48, 64]) < [36, 48]).all()
        np.testing.assert_array_equal(people.sample_crop(index).image, crop.image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (8, 640)}, "size must be"),
        ({"size": (480, 99_999)}, "size must be"),
        ({"people": (0, 2)}, "people must be"),
        ({"people": (3, 2)}, "people must be"),
        ({"seed": -1}, "seed must not"),
        ({"samples": 3}, "square number"),
        ({"effects": 1.5}, "effects must be"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SynthPeople(**options)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"index\.json is missing"):
        SynthPeople(assets=tmp_path)
    (tmp_path / "index.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="not an index of assets"):
        SynthPeople(assets=tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        SynthPeople(backgrounds=tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no picture"):
        SynthPeople(backgrounds=tmp_path)
    with pytest.raises(ConfigError, match="research licence"):
        SynthPeople(hand_poses=tmp_path / "poses.npz", clean=True)


def test_hand_pose_files_are_checked(body, tmp_path):
    path = tmp_path / "poses.npz"
    np.savez(path, poses=np.zeros((2, 20, 3)))
    with pytest.raises(ConfigError, match="shape"):
        SynthPeople(hand_poses=path).load()
    path.write_bytes(b"no")
    with pytest.raises(ConfigError, match="not a file of hand poses"):
        SynthPeople(hand_poses=path).load()


def test_assets_dress_people(body, shared):
    folder = shared / "data" / "makehuman"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/makehuman")
    bare = SynthPeople(1, (128, 96), clean=True)
    dressed = SynthPeople(1, (128, 96), assets=folder, backgrounds=shared / "data" / "negatives", clean=True)
    pictures = [dressed.sample_crop(index).image for index in range(2)]
    assert not np.array_equal(pictures[0], bare.sample_crop(0).image)
    casting, _ = dressed.load()
    kinds = {asset.kind for seed in range(8) for asset, _ in casting.identity(np.random.default_rng(seed)).assets}
    assert {"hair", "eyebrows"} <= kinds


@pytest.mark.slow
def test_many_pictures_keep_their_promises(body):
    """1,000 pictures: no seen point far from its person, every part seen often enough to learn it."""
    people = SynthPeople(11, (192, 256), people=(1, 4))
    seen, inside = np.zeros(136), np.zeros(136)
    for index in range(1000):
        sample = people.sample(index)
        assert np.isfinite(sample.keypoints).all()
        seen += (sample.visibility == 2).sum(axis=0)
        inside += (sample.visibility > 0).sum(axis=0)
        test_seen_points_lie_on_their_person([sample])
    share = seen / inside
    for name, part in HALPE136.parts.items():
        assert share[list(part)].mean() > 0.35, name
