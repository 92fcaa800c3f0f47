"""Samples: the same whatever makes them, mixed by weight, from photos that are what the annotations say."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wholepose.data import (
    NO_AUGMENTATION,
    AugmentConfig,
    BatchSampler,
    PhotoStore,
    PoseDataset,
    Source,
    collate,
    read_annotations,
)
from wholepose.errors import AnnotationError, ImageError
from wholepose.images import load_image, read_header, turn_back
from wholepose.skeletons import COCO17, HALPE136

EVERYTHING = AugmentConfig(
    part_zoom_probability=0.3,
    colour_probability=0.5,
    blur_probability=0.5,
    jpeg_probability=0.5,
    occlusion_probability=0.5,
)


def make_set(folder, people=6, *, start=0, size=(120, 160), photos=None):
    """A set of one person a photo; the photos are noise of their own."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(start)
    images, annotations = [], []
    for index in range(start, start + people):
        name = f"{index}.jpg"
        if photos is None or index in photos:
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name, quality=92)
        images.append({"id": index, "file_name": name, "height": size[0], "width": size[1]})
        keypoints = np.column_stack([rng.uniform([40, 20], [120, 100], (17, 2)), np.full(17, 2)]).ravel().tolist()
        row = {"id": 100 + index, "image_id": index, "category_id": 1, "keypoints": keypoints, "bbox": [35, 15, 90, 90]}
        annotations.append({**row, "area": 4000, "num_keypoints": 17})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    path = folder / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return read_annotations(path, skeleton=HALPE136)


def samples_equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_sample(tmp_path):
    dataset = PoseDataset([make_set(tmp_path)], (64, 48), augment=NO_AUGMENTATION)
    assert len(dataset) == 6
    assert dataset.skeleton is HALPE136
    sample = dataset[0, 2]
    assert sample.crop.shape == (64, 48, 3)
    assert sample.crop.dtype == np.uint8
    assert sample.keypoints.shape == (136, 2)
    assert sample.keypoints.dtype == sample.weights.dtype == np.float32
    assert sample.weights.tolist() == [1] * 17 + [0] * 119
    assert not sample.keypoints[17:].any()
    assert (sample.source, sample.person) == (0, 2)
    # box 35..125 x 15..105 -> 120 high x 90 wide, times 1.25: 150 photo px are 64 crop px
    expected = (dataset.sources[0].annotations.keypoints[2, :17] - [80, 60]) * 64 / 150 + [24, 32]
    np.testing.assert_allclose(sample.keypoints[:17], expected, atol=1e-3)


def test_samples_depend_on_seed_epoch_and_index_alone(tmp_path):
    people = make_set(tmp_path)
    dataset = PoseDataset([people], (64, 48), augment=EVERYTHING, seed=5)
    first = {(epoch, index): dataset[epoch, index] for epoch in range(3) for index in range(6)}
    for keep in ("nothing", "files", "pixels"):
        again = PoseDataset([people], (64, 48), augment=EVERYTHING, seed=5, photos=PhotoStore(keep))
        again.preload()
        for key in sorted(first, reverse=True):
            assert samples_equal(first[key], again[key])
    assert not samples_equal(first[0, 0], first[1, 0])
    other = PoseDataset([people], (64, 48), augment=EVERYTHING, seed=6)
    assert not samples_equal(first[0, 0], other[0, 0])


def test_worker_processes_change_nothing(tmp_path):
    data = pytest.importorskip("torch.utils.data")
    dataset = PoseDataset([make_set(tmp_path, 8)], (64, 48), augment=EVERYTHING, photos=PhotoStore("pixels"))

    def batches(workers, start):
        sampler = BatchSampler(len(dataset), 2, seed=1)
        sampler.set_position(1, start)
        return list(data.DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers))

    alone = batches(0, 0)
    assert len(alone) == 4
    for workers, start in ((2, 0), (2, 1)):
        for first, second in zip(alone[start:], batches(workers, start), strict=True):
            assert samples_equal(first, second)


def test_collate_stacks(tmp_path):
    dataset = PoseDataset([make_set(tmp_path)], (64, 48))
    batch = collate([dataset[0, index] for index in range(3)])
    assert batch.crops.shape == (3, 64, 48, 3)
    assert batch.keypoints.shape == (3, 136, 2)
    assert batch.weights.shape == (3, 136)
    assert batch.matrices.shape == (3, 2, 3)
    assert batch.people.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(batch.crops[1], dataset[0, 1].crop)


def test_sets_are_mixed_by_weight(tmp_path):
    sources = [
        Source(make_set(tmp_path / "a", 6), weight=2.0),
        Source(make_set(tmp_path / "b", 8), weight=0.25),
        make_set(tmp_path / "c", 3),
    ]
    dataset = PoseDataset(sources, (64, 48))
    assert len(dataset) == 12 + 2 + 3
    seen = {0: [], 1: [], 2: []}
    for epoch in range(4):
        for index in range(len(dataset)):
            source, person = dataset.person(epoch, index)
            seen[source].append(person)
    assert sorted(seen[0]) == sorted(list(range(6)) * 8)  # twice an epoch
    assert sorted(seen[1]) == list(range(8))  # once in four epochs
    assert sorted(seen[2]) == sorted([0, 1, 2] * 4)
    with pytest.raises(IndexError):
        dataset.person(0, 17)


def test_a_source_has_its_own_augmentation(tmp_path):
    people = make_set(tmp_path)
    dataset = PoseDataset([Source(people, augment=NO_AUGMENTATION), people], (64, 48))
    still = PoseDataset([people], (64, 48), augment=NO_AUGMENTATION)
    assert all(np.array_equal(dataset[epoch, 1].crop, still[0, 1].crop) for epoch in range(3))
    assert not all(np.array_equal(dataset[epoch, 7].crop, still[0, 1].crop) for epoch in range(3))


def test_impossible_mixtures_are_refused(tmp_path):
    people = make_set(tmp_path)
    coco = read_annotations(people.path)
    with pytest.raises(ValueError, match="different skeletons: coco17, halpe136"):
        PoseDataset([people, coco], (64, 48))
    with pytest.raises(ValueError, match="at least one source"):
        PoseDataset([], (64, 48))
    with pytest.raises(ValueError, match="weights must be positive"):
        PoseDataset([Source(people, weight=0)], (64, 48))
    with pytest.raises(AnnotationError, match="none of its 0 people can be trained on"):
        PoseDataset([people.select(np.zeros(6, dtype=bool))], (64, 48))


def test_people_known_by_doubtful_keypoints_alone_are_left_out(tmp_path):
    """A fraction below 0.35 weighs nothing, except in the reference."""
    people = make_set(tmp_path)
    doubtful = np.where(np.arange(6)[:, None] == 2, people.visibility * np.float32(0.1), people.visibility)
    people = replace(people, visibility=doubtful)
    assert len(PoseDataset([people], (64, 48))) == 5
    assert len(PoseDataset([people], (64, 48), protocol="mmpose0")) == 6


def test_missing_photos_stop_or_are_left_out(tmp_path):
    """Fault 32."""
    with pytest.raises(AnnotationError, match="1 of 6 images are missing"):
        PoseDataset([make_set(tmp_path / "few", photos=range(5))], (64, 48))
    people = make_set(tmp_path / "many", 100, photos=range(99))
    dataset = PoseDataset([people], (64, 48))
    assert len(dataset) == 99
    assert repr(people) == "<AnnotationSet set.json: 100 people on 100 images, halpe136>"
    assert 199 not in dataset.sources[0].annotations.person_ids


def test_damaged_and_exchanged_photos_are_named(tmp_path):
    dataset = PoseDataset([make_set(tmp_path)], (64, 48))
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"1\.jpg"):
        dataset[0, 1]
    Image.new("RGB", (161, 120)).save(tmp_path / "2.jpg")
    with pytest.raises(AnnotationError, match=r"2\.jpg: is 120 pixels high and 161 wide, annotated as 120 and 160"):
        dataset[0, 2]
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(ImageError, match=r"3\.jpg"):
        dataset[0, 3]
    assert dataset[0, 0].crop.any()


@pytest.mark.parametrize("upright", [True, False])
def test_photos_turn_the_way_they_were_annotated(tmp_path, upright):
    """A camera's orientation mark counts, unless the set was annotated on the stored pixels."""
    stored = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    path = tmp_path / "turned.png"
    Image.fromarray(stored).save(path, exif=exif)
    size = (60, 40) if upright else (40, 60)
    expected = np.rot90(stored, -1) if upright else stored
    for keep in ("nothing", "files", "pixels"):
        store = PhotoStore(keep)
        for _ in range(2):
            np.testing.assert_array_equal(store.read(path, size), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey16.png", "grey16.tif", "rgba.png", "rgb.tif", "rgb.webp"])
def test_stored_pixels_are_decoded_like_upright_ones(tmp_path, kind, orientation):
    """However they were turned: 16 bits are scaled, transparent places are white, TIFF turns itself."""
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    rgb = np.stack([grey, 255 - grey, grey // 2], axis=-1)
    picture = {"grey16": grey.astype(np.uint16) * 257, "rgba": np.dstack([rgb, grey]), "rgb": rgb}[kind.split(".")[0]]
    plain, turned = tmp_path / f"plain_{kind}", tmp_path / kind
    options = {"lossless": True} if kind.endswith("webp") else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(plain, **options)
    Image.fromarray(picture).save(turned, exif=exif, **options)
    header = read_header(turned)
    assert header.stored_size == (40, 60)
    assert header.size == load_image(turned).shape[:2]
    np.testing.assert_array_equal(turn_back(load_image(turned), header.orientation), load_image(plain))
    if orientation > 4:
        np.testing.assert_array_equal(PhotoStore().read(turned, (40, 60)), load_image(plain))


def test_the_store_keeps_what_fits_and_travels_empty(tmp_path):
    for index in range(4):
        Image.new("RGB", (100, 100), (index, 0, 0)).save(tmp_path / f"{index}.png")
    store = PhotoStore("pixels", limit_bytes=65_000)
    for index in range(4):
        store.read(tmp_path / f"{index}.png", (100, 100))
    assert store.kept_bytes == 60_000
    for index in range(4):
        (tmp_path / f"{index}.png").unlink()
    assert store.read(tmp_path / "1.png", (100, 100))[0, 0].tolist() == [1, 0, 0]
    with pytest.raises(ImageError):
        store.read(tmp_path / "3.png", (100, 100))
    with pytest.raises(ValueError, match="read-only"):
        store.read(tmp_path / "0.png", (100, 100))[0] = 0
    copy = pickle.loads(pickle.dumps(store))
    assert copy.kept_bytes == 0
    with pytest.raises(ImageError):
        copy.read(tmp_path / "1.png", (100, 100))
