"""The detector inside the package."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from wholepose.detectors import PersonDetector, load_detector
from wholepose.detectors.embedded import EMBEDDED_DETECTOR, METADATA_KEY, DetectorCard, EmbeddedDetector
from wholepose.errors import ConfigError, WeightsError
from wholepose.geometry import box_iou


@pytest.fixture(scope="module")
def detector() -> PersonDetector:
    return load_detector("default")


def drawn_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Grass, sky and a few shapes."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows % 256, (rows + columns) % 256, columns % 200], axis=-1).astype(np.uint8)
    image[height // 3 : height // 2, width // 4 : width // 3] = (220, 170, 140)
    image[height // 2 :, width // 4 : width // 3] = (30, 40, 120)
    return image


def photo(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("size", [(480, 640), (1, 1), (1, 10_000), (7, 3), (640, 360), (3000, 40)])
@pytest.mark.parametrize("value", [0, 255, None])
def test_pictures_without_people(detector: PersonDetector, size: tuple[int, int], value: int | None) -> None:
    """FAULTS 5 and 14: nobody in black or white, whatever the size, and no crash elsewhere."""
    image = drawn_picture(*size) if value is None else np.full((*size, 3), value, dtype=np.uint8)
    (found,) = detector.detect([image])
    assert found.boxes.shape == (len(found), 4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    if value is not None:
        assert len(found) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_boxes_lie_inside_the_image_best_first(height: int, width: int, seed: int) -> None:
    low = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(low).resize((width, height)))
    (found,) = load_detector(threshold=0.01, input_size=160).detect([image])
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [width, height]).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= 0.01).all()
    assert (found.scores <= 1).all()


def test_a_panorama_needs_little_memory(detector: PersonDetector) -> None:
    image = np.zeros((3000, 10_000, 3), dtype=np.uint8)
    tracemalloc.start()
    (found,) = detector.detect([image])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 0
    assert peak < 20e6


def test_results_do_not_depend_on_neighbours_or_earlier_calls() -> None:
    """FAULTS 16."""
    detector = load_detector(threshold=0.02)
    images = [drawn_picture(300, 400), drawn_picture(500, 200), drawn_picture(64, 64)]
    alone = [detector.detect([image])[0] for image in images]
    together = detector.detect(images[::-1])[::-1]
    again = load_detector(threshold=0.02).detect(images)
    for first, second, third in zip(alone, together, again, strict=True):
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.scores, third.scores)


def test_the_threshold_only_cuts_the_tail() -> None:
    image = drawn_picture(300, 400)
    (many,) = load_detector(threshold=0.1).detect([image])
    (few,) = load_detector(threshold=0.2).detect([image])
    assert len(many) > len(few)
    np.testing.assert_array_equal(many.boxes[: len(few)], few.boxes)
    assert load_detector().detect([]) == []


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert EMBEDDED_DETECTOR.stat().st_size < 8e6
    detector = EmbeddedDetector()
    assert detector.name == detector.card.name == "wholepose_detector_v2"
    assert detector.threshold == detector.card.threshold
    assert "coco_dev/AP50" in detector.card.metrics
    assert detector.card.training_data
    model = onnx.load(EMBEDDED_DETECTOR)
    assert [entry.name for entry in model.graph.output] == ["boxes", "scores"]
    assert b"/work/" not in EMBEDDED_DETECTOR.read_bytes()
    assert DetectorCard.from_metadata(detector.card.to_metadata(), "here") == detector.card


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "no 'wholepose_detector' card"),
        ({METADATA_KEY: "{"}, "card is damaged"),
        ({METADATA_KEY: "[]"}, "card is damaged"),
        ({METADATA_KEY: json.dumps({"name": "x", "training_data": []})}, "card is damaged.*input_size"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    model = onnx.load(EMBEDDED_DETECTOR)
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=rf"other\.onnx: .*{message}"):
        EmbeddedDetector(path=path)


@pytest.mark.parametrize("size", [0, 31, 5000])
def test_input_sizes_out_of_range(size: int) -> None:
    with pytest.raises(ConfigError, match=f"between 32 and 4096 pixels, not {size}"):
        load_detector(input_size=size)


def test_people_in_photos_are_found(detector: PersonDetector, shared: Path) -> None:
    """The large people of the Halpe fixture, which training never saw."""
    folder = shared / "data" / "halpe_fixture"
    document = json.loads((folder / "test_halpe.json").read_text())
    large = hit = 0
    for entry in document["images"]:
        (found,) = detector.detect([photo(folder / entry["file_name"])])
        for row in document["annotations"]:
            x, y, width, height = row["bbox"]
            if row["image_id"] == entry["id"] and width * height > 96**2:
                large += 1
                box = np.array([[x, y, x + width, y + height]])
                hit += len(found) > 0 and box_iou(box, found.boxes).max() > 0.5
    assert large >= 8
    assert hit >= 0.7 * large


def test_somebody_near_whom_the_first_look_doubts_is_found(shared: Path) -> None:
    """A man who fills the height of the picture: sure of him is the second look, at two thirds of the size."""
    image = photo(shared / "data" / "coco" / "images" / "val2017" / "000000009483.jpg")
    (found,) = load_detector().detect([image])
    (mirrored,) = load_detector().detect([np.ascontiguousarray(image[:, ::-1])])
    man = np.array([[37, 60, 178, 480]])
    assert box_iou(man, found.boxes[:1])[0, 0] > 0.9
    assert found.scores[0] > 0.7
    man[:, [0, 2]] = image.shape[1] - man[:, [2, 0]]
    assert box_iou(man, mirrored.boxes).max() > 0.9


def test_a_photo_in_a_panorama_keeps_its_people(detector: PersonDetector, shared: Path) -> None:
    image = photo(shared / "data" / "halpe_fixture" / "000000000785.jpg")
    (alone,) = detector.detect([image])
    panorama = np.zeros((image.shape[0], 3000, 3), dtype=np.uint8)
    panorama[:, 1000 : 1000 + image.shape[1]] = image
    (found,) = detector.detect([panorama])
    assert len(alone) >= 1
    assert box_iou(alone.boxes[:1] + np.array([1000, 0, 1000, 0]), found.boxes).max() > 0.6


def test_another_file_of_its_kind(tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(EMBEDDED_DETECTOR.read_bytes())
    detector = load_detector(path, threshold=0.4, threads=2)
    assert isinstance(detector, EmbeddedDetector)
    assert detector.threshold == 0.4
    path.unlink()
    assert detector.with_threads(1).threads == 2  # what is loaded stays; there is nothing to load again


def test_with_threads():
    """The same boxes, on another number of threads."""
    detector = EmbeddedDetector(threads=2, threshold=0.05, input_size=320)
    other = detector.with_threads(1)
    assert (detector.threads, other.threads, other.threshold, other.input_size) == (2, 1, 0.05, 320)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    found, again = detector.detect([image])[0], other.detect([image])[0]
    np.testing.assert_allclose(found.boxes, again.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, again.scores, atol=1e-4)
