"""PoseEstimator on models whose answers are known: places, order, batches, nobody, bad boxes."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.boxes import MAX_BOX_COORDINATE_PX, check_person_boxes, whole_image_box
from wholepose.detectors import Detections
from wholepose.errors import ConfigError, WeightsError
from wholepose.estimator import PoseEstimator
from wholepose.images import load_image, save_image
from wholepose.runtimes.onnx import OnnxRuntime


class BrightDetector:
    """Takes each separate bright row band of a picture for a person; enough to stand in for a network."""

    name = "bright"

    def __init__(self):
        self.seen = 0

    def detect(self, images):
        self.seen += len(images)
        return [self._one(image) for image in images]

    def _one(self, image):
        ys, xs = np.nonzero(image[..., 0] > 10)
        if not len(ys):
            return Detections.empty()
        return Detections(np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32), np.array([0.75]))


class CountingRuntime:
    """The real runtime, with the sizes of the batches it was asked for."""

    def __init__(self, runtime):
        self._runtime = runtime
        self.card, self.name = runtime.card, runtime.name
        self.batches = []

    def predict(self, crops, *, flip_test=False):
        self.batches.append(len(crops))
        return self._runtime.predict(crops, flip_test=flip_test)


@pytest.fixture(scope="module")
def centroid(tiny_models, tmp_path_factory):
    return OnnxRuntime(
        tiny_models.save_centroid_model(tmp_path_factory.mktemp("m") / "c.onnx"), device="cpu", threads=1
    )


@pytest.fixture(scope="module")
def raw(tiny_models, tmp_path_factory):
    return OnnxRuntime(tiny_models.save_heatmap_model(tmp_path_factory.mktemp("m") / "r.onnx"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def blob(tiny_models):
    return tiny_models.blob_image((240, 320), (130.4, 90.7), sigma_px=10)


BOX = [90.0, 40.0, 180.0, 160.0]


def test_keypoints_are_in_image_pixels(centroid, blob, tiny_models):
    """Whatever box it is seen through, the blob is where it is in the picture."""
    boxes = [BOX, [60, 20, 200, 150], [100.5, 50.25, 170, 140], [-40, -30, 300, 200], [0, 0, 320, 240]]
    poses = PoseEstimator(centroid).predict(blob, boxes)
    assert len(poses) == 5
    np.testing.assert_allclose(poses.keypoints[:, 0], np.tile([130.4, 90.7], (5, 1)), atol=0.1)
    np.testing.assert_allclose(poses.boxes, np.array(boxes, np.float32))
    np.testing.assert_array_equal(poses.box_scores, np.ones(5))
    # keypoint 4 lies one crop pixel to the right, and a crop pixel is side / crop side image pixels
    factor = 1.25 * max(90, 120 * 0.75) / 96
    np.testing.assert_allclose(poses.keypoints[0, 4, 0] - poses.keypoints[0, 0, 0], factor, atol=1e-3)
    np.testing.assert_allclose(poses.covariances[0, 9], tiny_models.COVARIANCE * factor**2, rtol=1e-4)


def test_heatmap_model_finds_the_blob(raw, blob):
    poses = PoseEstimator(raw).predict(blob, [BOX])
    np.testing.assert_allclose(poses.keypoints[0, :, 0], 130.4, atol=0.1)
    np.testing.assert_allclose(poses.keypoints[0, :, 1], 90.7, atol=0.1)


def test_scores_are_clipped_and_raw_ones_kept(centroid, blob):
    poses = PoseEstimator(centroid).predict(blob, [BOX])
    assert poses.scores.max() == 1
    assert poses.raw_scores.max() > 1
    np.testing.assert_array_equal(poses.scores, poses.raw_scores.clip(0, 1))


def test_flip_test_reaches_the_model(centroid, blob):
    estimator = PoseEstimator(centroid)
    plain, flipped = estimator.predict(blob, [BOX]), estimator.predict(blob, [BOX], flip_test=True)
    np.testing.assert_allclose(flipped.raw_scores - plain.raw_scores, 0.25, atol=1e-6)


def test_protocol_of_the_card(tiny_models, tmp_path, blob):
    """The mmpose0 protocol rounds the crop's points to float32; everything stays within a thousandth of a pixel."""
    runtime = OnnxRuntime(tiny_models.save_heatmap_model(tmp_path / "m.onnx", protocol="mmpose0"), device="cpu")
    poses = PoseEstimator(runtime).predict(blob, [BOX])
    np.testing.assert_allclose(poses.keypoints[0, 0], [130.4, 90.7], atol=0.1)
    assert poses.scores.max() <= 1


@pytest.mark.parametrize(
    "boxes",
    [
        [BOX],
        (BOX,),
        np.array([BOX]),
        np.array([BOX], np.float16),
        np.array([BOX], np.int64),
        np.array([BOX], np.uint8),
        np.array([BOX, BOX], np.float32)[::-1][:1],
    ],
)
def test_boxes_of_any_kind(centroid, blob, boxes):
    poses = PoseEstimator(centroid).predict(blob, boxes)
    np.testing.assert_allclose(poses.keypoints[0, 0], [130.4, 90.7], atol=0.1)
    assert poses.boxes.dtype == np.float32


@pytest.mark.parametrize("boxes", [[], (), np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4), np.int32)])
def test_nobody(centroid, blob, boxes):
    """FAULTS 14: empty boxes are nobody, never the whole image, and the model is not called."""
    runtime = CountingRuntime(centroid)
    detector = BrightDetector()
    poses = PoseEstimator(runtime, detector).predict(blob, boxes)
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, 136, 2)
    assert poses.scores.shape == (0, 136)
    assert poses.boxes.shape == (0, 4)
    assert poses.box_scores.shape == (0,)
    assert poses.covariances.shape == (0, 136, 2, 2)
    assert poses.raw_scores.shape == (0, 136)
    assert runtime.batches == []
    assert detector.seen == 0


def test_nobody_in_a_black_picture(centroid):
    """FAULTS 14: a detector that finds nobody."""
    runtime = CountingRuntime(centroid)
    poses = PoseEstimator(runtime, BrightDetector()).predict(np.zeros((50, 60, 3), np.uint8))
    assert poses.keypoints.shape == (0, 136, 2)
    assert runtime.batches == []
    assert PoseEstimator(runtime).predict_batch([]) == []


def test_detector_finds_the_people(centroid, blob):
    poses = PoseEstimator(centroid, BrightDetector()).predict(blob)
    np.testing.assert_allclose(poses.keypoints[0, 0], [130.4, 90.7], atol=0.1)
    np.testing.assert_allclose(poses.box_scores, [0.75])


def test_no_detector(centroid, blob):
    with pytest.raises(ConfigError, match="whole_image_box"):
        PoseEstimator(centroid).predict(blob)


def test_whole_image_box(centroid, blob):
    np.testing.assert_array_equal(whole_image_box(blob), [[0, 0, 320, 240]])
    poses = PoseEstimator(centroid).predict(blob, whole_image_box(blob))
    np.testing.assert_allclose(poses.keypoints[0, 0], [130.4, 90.7], atol=0.1)


def test_batch_of_images_keeps_order(centroid, tiny_models):
    """People of several pictures share batches, pictures are of any size, some have nobody."""
    places = [(40, 50), (90.5, 60.25), (150, 33), (61, 130)]
    images = [tiny_models.blob_image((160 + 10 * index, 200), place, 8) for index, place in enumerate(places)]
    boxes = [[[x - 35, y - 40, x + 30, y + 38]] * people for (x, y), people in zip(places, [2, 0, 3, 1], strict=True)]
    scores = [np.linspace(1, 0.5, len(each)) for each in boxes]
    runtime = CountingRuntime(centroid)
    results = PoseEstimator(runtime, batch_size=4).predict_batch(images, boxes, scores)
    assert runtime.batches == [4, 2]
    assert [len(poses) for poses in results] == [2, 0, 3, 1]
    for poses, place, image_scores in zip(results, places, scores, strict=True):
        np.testing.assert_allclose(poses.keypoints[:, 0], np.tile(place, (len(poses), 1)), atol=0.15)
        np.testing.assert_allclose(poses.box_scores, image_scores)


def test_boxes_for_some_and_a_detector_for_the_rest(centroid, blob):
    detector = BrightDetector()
    results = PoseEstimator(centroid, detector).predict_batch([blob, blob, blob], [[BOX, BOX], None, []])
    assert [len(poses) for poses in results] == [2, 1, 0]
    assert detector.seen == 1


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([BOX, [1, 2, np.nan, 4]], "box 1 is not finite"),
        ([BOX, [1, 2, np.inf, 4]], "box 1 is not finite"),
        ([BOX, BOX, [50, 10, 20, 40]], "box 2 is reversed"),
        ([[10, 10, 10, 40]], "box 0 is reversed or has no area"),
        ([[10, 10, 30, 10]], "box 0 is reversed or has no area"),
        ([BOX, [-1e9, -1e9, 1e9, 1e9]], "box 1 reaches beyond 1000000 pixels"),
        ([[999999.0, 0, 999999.01, 5]], "box 0 is reversed or has no area"),
        ([1, 2, 3, 4], r"shape \(N, 4\)"),
        ([[1, 2, 3]], r"shape \(N, 4\)"),
    ],
)
def test_bad_boxes(centroid, blob, boxes, message):
    """FAULTS 13: the row is named, and the next call is right."""
    estimator = PoseEstimator(centroid)
    with pytest.raises(ValueError, match=message):
        estimator.predict(blob, boxes)
    with pytest.raises(ValueError, match=f"image 1: .*{message}"):
        estimator.predict_batch([blob, blob], [[BOX], boxes])
    assert len(estimator.predict(blob, [BOX])) == 1


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(
    corner=st.tuples(*[st.floats(-MAX_BOX_COORDINATE_PX, MAX_BOX_COORDINATE_PX, width=32)] * 2),
    sides=st.tuples(*[st.floats(1e-40, 2e6)] * 2),
)
def test_any_box_has_an_outcome(raw, blob, corner, sides):
    """FAULTS 13: outside, tiny, enormous: finite poses or a ValueError, and no warnings."""
    x, y = corner
    try:
        poses = PoseEstimator(raw).predict(blob, [[x, y, x + sides[0], y + sides[1]]])
    except ValueError as error:
        assert "box 0" in str(error)  # noqa: PT017
        return
    assert np.isfinite(poses.keypoints).all()
    assert np.isfinite(poses.covariances).all()
    assert ((poses.scores >= 0) & (poses.scores <= 1)).all()


def test_box_outside_the_image(raw, blob):
    """FAULTS 13: allowed; what lies outside is black, and the scores say that nothing was seen."""
    poses = PoseEstimator(raw).predict(blob, [[500, 500, 600, 700], [-900, -900, -800, -700], BOX])
    assert poses.scores[:2].max() == 0
    assert poses.scores[2].min() > 0.9


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1, 2], "shape"), (0.5, "shape"), ([np.nan], "finite"), ([[1.0]], "shape")],
)
def test_bad_box_scores(centroid, blob, scores, message):
    with pytest.raises(ValueError, match=f"box_scores must .*{message}"):
        PoseEstimator(centroid).predict(blob, [BOX], box_scores=scores)


def test_wrong_number_of_entries(centroid, blob):
    estimator = PoseEstimator(centroid, BrightDetector())
    with pytest.raises(ValueError, match="boxes must have one entry for each of the 2 images, not 1"):
        estimator.predict_batch([blob, blob], [[BOX]])
    with pytest.raises(ValueError, match="image 0 has box_scores but no boxes"):
        estimator.predict_batch([blob], None, [[0.5]])
    with pytest.raises(ValueError, match="batch_size"):
        PoseEstimator(centroid, batch_size=0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((3, 10, 10), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.full((10, 10, 3), np.nan),
        np.zeros((0, 10, 3), np.uint8),
        [[[0, 0, 0]]],
    ],
)
def test_bad_images(centroid, blob, image):
    """FAULTS 10: ValueError, with the image named where there are several."""
    estimator = PoseEstimator(centroid)
    with pytest.raises(ValueError, match="an image must be"):
        estimator.predict(image, [[0, 0, 5, 5]])
    with pytest.raises(ValueError, match="image 1: an image must be"):
        estimator.predict_batch([blob, image], [[BOX], [[0, 0, 5, 5]]])


def test_odd_arrays_are_read_as_they_look(centroid, blob):
    """FAULTS 10: read-only, reversed and strided views give what a plain copy gives, and stay unchanged."""
    estimator = PoseEstimator(centroid)
    expected = estimator.predict(blob, [BOX]).keypoints
    read_only = blob.copy()
    read_only.flags.writeable = False
    reversed_view = blob[::-1, ::-1].copy()[::-1, ::-1]
    inside = np.zeros((480, 640, 3), np.uint8)
    inside[::2, ::2] = blob
    fortran = np.asfortranarray(blob)
    for image in (read_only, reversed_view, inside[::2, ::2], fortran):
        before = image.copy()
        np.testing.assert_array_equal(estimator.predict(image, [BOX]).keypoints, expected)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("tall", [False, True])
def test_panorama_of_40000_pixels(raw, tiny_models, tmp_path, tall):
    """FAULTS 6: a person at the far end of a panorama file has the keypoints of the piece alone, within 0.05 px."""
    piece = tiny_models.blob_image((240, 240), (118.3, 131.6), 11)
    start = 39_700
    panorama = np.zeros((240, 40_000, 3), np.uint8)
    panorama[:, start : start + 240] = piece if not tall else piece.swapaxes(0, 1)
    box, shift = np.array([[70.0, 60, 170, 200]]), np.array([start, 0])
    if tall:
        panorama, shift = panorama.swapaxes(0, 1), shift[::-1]
    save_image(tmp_path / "panorama.png", panorama)
    image = load_image(tmp_path / "panorama.png")
    estimator = PoseEstimator(raw)
    alone = estimator.predict(piece, box)
    inside = estimator.predict(image, box + np.tile(shift, 2))
    np.testing.assert_allclose(inside.keypoints - shift, alone.keypoints, atol=0.05)
    np.testing.assert_allclose(inside.scores, alone.scores, atol=1e-2)
    whole = estimator.predict(image, whole_image_box(image))
    assert np.isfinite(whole.keypoints).all()


def _crowd(people):
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 150, (people, 2))
    sides = rng.uniform(60, 150, (people, 2))
    return np.concatenate([corners, corners + sides], axis=1)


def test_five_hundred_people_are_as_one_by_one(raw, blob):
    """FAULTS 15, 16: 500 people at once, or one by one, or in any batch size: the same within 1e-3 px."""
    crowd = _crowd(500)
    together = PoseEstimator(raw, batch_size=64).predict(blob, crowd)
    for batch_size in (1, 7):
        other = PoseEstimator(raw, batch_size=batch_size).predict(blob, crowd)
        np.testing.assert_allclose(other.keypoints, together.keypoints, atol=1e-3)
        np.testing.assert_allclose(other.scores, together.scores, atol=1e-6)
    for person in range(0, 500, 50):
        alone = PoseEstimator(raw).predict(blob, crowd[person : person + 1])
        np.testing.assert_allclose(alone.keypoints[0], together.keypoints[person], atol=1e-3)
        np.testing.assert_allclose(alone.covariances[0], together.covariances[person], rtol=1e-3)


PEAK_MEMORY = """
import resource, sys
import numpy as np
from wholepose.estimator import PoseEstimator
from wholepose.images import load_image, save_image
from wholepose.runtimes.onnx import OnnxRuntime

people = int(sys.argv[2])
image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
boxes = np.tile([100.0, 50, 300, 400], (people, 1))
PoseEstimator(OnnxRuntime(sys.argv[1], device="cpu", threads=1), batch_size=48).predict(image, boxes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no getrusage")
def test_five_hundred_people_need_no_more_memory(tiny_models, tmp_path):
    """FAULTS 15: memory at most 1.2 times that of one full batch."""
    path = tiny_models.save_centroid_model(tmp_path / "m.onnx", input_size=(256, 192))

    def peak(people):
        command = [sys.executable, "-c", PEAK_MEMORY, str(path), str(people)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert peak(500) <= 1.2 * peak(48)


def test_reported_box_gives_the_same_again(raw, blob):
    boxes = _crowd(5)
    estimator = PoseEstimator(raw)
    first = estimator.predict(blob, boxes)
    np.testing.assert_array_equal(estimator.predict(blob, first.boxes).keypoints, first.keypoints)
    np.testing.assert_array_equal(check_person_boxes(boxes), first.boxes)


@pytest.mark.slow
def test_sixteen_threads_share_an_estimator(raw, tiny_models):
    """FAULTS 18: 16 threads get what a serial caller gets."""
    estimator = PoseEstimator(raw, BrightDetector(), batch_size=3)
    images = [tiny_models.blob_image((200, 200), (60 + 5 * index, 90 + 2 * index), 9) for index in range(16)]
    boxes = [_crowd(1 + index % 5) for index in range(16)]
    expected = [estimator.predict(image, each) for image, each in zip(images, boxes, strict=True)]
    wrong = []

    def work(index):
        for turn in range(100):
            which = (index + turn) % 16
            poses = estimator.predict(images[which], boxes[which])
            if not np.array_equal(poses.keypoints, expected[which].keypoints):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_from_pretrained_takes_a_path(tiny_models, tmp_path, blob):
    path = tiny_models.save_centroid_model(tmp_path / "m.onnx")
    detector = BrightDetector()
    estimator = PoseEstimator.from_pretrained(path, detector=detector, device="cpu", threads=1, batch_size=3)
    assert estimator.batch_size == 3
    assert estimator.detector is detector
    assert estimator.skeleton.name == "halpe136"
    assert len(estimator.predict(blob)) == 1
    assert PoseEstimator.from_pretrained(str(path), detector=None).detector is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hrnet_w32_256x192.mmpose_coco17", "wholepose convert hrnet_w32_256x192.mmpose_coco17"),
        ("detector", "'default'"),
    ],
)
def test_from_pretrained_downloads_nothing_that_it_cannot_run(name, message):
    with pytest.raises(ConfigError, match=message):
        PoseEstimator.from_pretrained(name, offline=True)


def test_from_pretrained_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(WeightsError, match="no_such_model"):
        PoseEstimator.from_pretrained("no_such_model", offline=True)
    with pytest.raises(WeightsError, match=r"absent\.onnx"):
        PoseEstimator.from_pretrained(tmp_path / "absent.onnx")
