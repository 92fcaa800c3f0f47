"""Poses of videos: the same as frame by frame, in bounded memory, with threads that always end (FAULTS 21, 22)."""

import gc
import resource
import subprocess
import sys
import threading
import time
import weakref
from fractions import Fraction

import numpy as np
import pytest

from wholepose.detectors import Detections
from wholepose.errors import ConfigError, VideoError
from wholepose.estimator import PoseEstimator
from wholepose.poses import Poses
from wholepose.runtimes.onnx import OnnxRuntime
from wholepose.skeletons import HALPE136
from wholepose.video_pipeline import MAX_FRAMES_IN_FLIGHT, VideoPoses, carried_boxes, most_workers
from wholepose.videos import open_video

FRAMES = 24


class BlobDetector:
    """Finds the blob, and counts how often it is asked."""

    name = "blob"

    def __init__(self, tiny_videos):
        self.place = tiny_videos.blob_place
        self.asked = 0

    def detect(self, images):
        self.asked += len(images)
        found = []
        for image in images:
            x, y = self.place(image)
            boxes = np.array([[x - 12, y - 14, x + 12, y + 14]], np.float32)
            found.append(Detections(boxes, np.array([0.9], np.float32)))
        return found


@pytest.fixture(scope="module")
def model(tiny_models, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return tiny_models.save_heatmap_model(path, card=tiny_models.card_of(skeleton="coco17"))


@pytest.fixture(scope="module")
def runtime(model):
    return OnnxRuntime(model, threads=1)


@pytest.fixture
def estimator(runtime, tiny_videos):
    return PoseEstimator(runtime, BlobDetector(tiny_videos))


@pytest.fixture(scope="module")
def clip(tiny_videos, tmp_path_factory):
    return tiny_videos.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.fixture(scope="module")
def long_clip(tiny_videos, tmp_path_factory):
    """More frames than are ever in flight."""
    return tiny_videos.write_video(tmp_path_factory.mktemp("long") / "long.mp4", 90)


@pytest.fixture(autouse=True)
def no_threads_are_left():
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while own_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert own_threads() == []


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wholepose-video-")]


def check_equal(poses, expected):
    np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(poses.boxes, expected.boxes, atol=1e-3)


def test_each_frame_has_its_own_poses(estimator, clip, tiny_videos):
    with estimator.predict_video(clip) as video:
        assert video.info.size == (48, 64)
        assert video.expected_frames == FRAMES
        results = list(video)
    assert [frame.index for frame, _ in results] == list(range(FRAMES))
    for frame, poses in results:
        np.testing.assert_allclose(poses.keypoints[0, 0], tiny_videos.blob_center(frame.index), atol=0.7)
        assert poses.track_ids.tolist() == [0]
    assert (video.lost_frames, video.skipped_frames) == (0, 0)
    assert estimator.detector.asked == -(-FRAMES // 5)


def test_detection_in_every_frame_is_predict(estimator, clip):
    for frame, poses in estimator.predict_video(clip, detect_every=1, track=False):
        check_equal(poses, estimator.predict(frame.image))
        assert poses.track_ids is None


@pytest.mark.parametrize("detect_every", [2, 3, 5, 13, 40])
def test_batches_across_frames_change_nothing(estimator, clip, detect_every):
    """The answer is that of going frame by frame, each box from the pose before."""
    expected = []
    for frame in open_video(clip):
        if len(expected) % detect_every == 0:
            expected.append(estimator.predict(frame.image))
        else:
            boxes, scores = carried_boxes(expected[-1], frame.image.shape[:2])
            expected.append(estimator.predict(frame.image, boxes, box_scores=scores))
    results = [poses for _, poses in estimator.predict_video(clip, detect_every=detect_every)]
    assert len(results) == FRAMES
    for poses, one in zip(results, expected, strict=True):
        check_equal(poses, one)


@pytest.mark.parametrize("detect_every", [1, 3, 5, 11, 12, 40])
def test_workers_change_nothing(estimator, model, long_clip, detect_every):
    """Chunks of frames are at work at the same time; the order and the answers are those of a single worker."""
    many = PoseEstimator(OnnxRuntime(model, threads=4), estimator.detector)
    expected = list(estimator.predict_video(long_clip, detect_every=detect_every))
    alive = []
    with many.predict_video(long_clip, detect_every=detect_every) as video:
        workers = most_workers(video.info, detect_every)
        for (frame, poses), (_, one) in zip(video, expected, strict=True):
            if frame.index == 0:
                assert len(own_threads()) == 2 + min(4, workers)
            check_equal(poses, one)
            assert poses.track_ids.tolist() == one.track_ids.tolist()
            alive.append(weakref.ref(frame))
            del frame
            assert sum(each() is not None for each in alive) <= MAX_FRAMES_IN_FLIGHT
    assert len(alive) == 90


def test_shares_of_the_cores(runtime, model, clip, tiny_videos):
    with open_video(clip) as reader:
        assert [most_workers(reader.info, every) for every in (1, 5, 11, 12, 1000)] == [22, 4, 2, 1, 1]
        with pytest.raises(ValueError, match="3 workers are not possible for this video; between 1 and 2 are"):
            VideoPoses(reader, list, PoseEstimator(runtime).predict_batch, detect_every=11, workers=3)
    detector = BlobDetector(tiny_videos)
    four = PoseEstimator(OnnxRuntime(model, threads=4), detector)
    for most, workers, threads in ((1, 1, 4), (2, 2, 2), (3, 3, 1), (22, 4, 1)):
        count, shared = four.shared(most)
        assert (count, shared.runtime.threads, shared.detector) == (workers, threads, detector)
        assert four.shared(most)[1].runtime is shared.runtime  # loaded once
    assert four.shared(1)[1].runtime is four.runtime


def test_ranges_and_readers(estimator, clip):
    frames = [frame.index for frame, _ in estimator.predict_video(clip, start=3, stop=20, stride=4)]
    assert frames == [3, 7, 11, 15, 19]
    assert [frame.index for frame, _ in estimator.predict_video(open_video(clip, stop=2))] == [0, 1]
    with open_video(clip) as reader, pytest.raises(ValueError, match="the reader chooses"):
        estimator.predict_video(reader, start=3)


def test_size_and_rotation_of_each_frame(estimator, tiny_videos, tmp_path):
    """FAULTS 21: people are looked for anew where the size changes; poses are in upright pixels."""
    path = tiny_videos.write_two_sizes(tmp_path / "two.h264", 7, 6, (64, 96))
    for frame, poses in estimator.predict_video(path):
        assert frame.image.shape[:2] == ((48, 64) if frame.index < 7 else (64, 96))
        expected = tiny_videos.blob_center(frame.index if frame.index < 7 else frame.index - 7)
        np.testing.assert_allclose(poses.keypoints[0, 0], expected, atol=0.7)
    assert estimator.detector.asked == 4  # frames 0, 5, 7 and 10
    path = tiny_videos.set_display_matrix(tiny_videos.write_video(tmp_path / "r.mp4", 3), (0, 1, -1, 0))
    for frame, poses in estimator.predict_video(path):
        assert frame.image.shape == (64, 48, 3)
        x, y = tiny_videos.blob_center(frame.index)
        np.testing.assert_allclose(poses.keypoints[0, 0], (47 - y, x), atol=0.7)


def test_damage(estimator, tiny_videos, tmp_path):
    """FAULTS 19."""
    path = tiny_videos.damage(tiny_videos.write_video(tmp_path / "d.mp4", FRAMES), [7, 8])
    video = estimator.predict_video(path)
    assert len(list(video)) + video.lost_frames == FRAMES
    assert video.lost_frames >= 2


def test_boxes_of_the_caller(runtime, clip):
    estimator = PoseEstimator(runtime)
    boxes = [[0, 0, 64, 48], [0, 0, 64, 48]]
    for _, poses in estimator.predict_video(clip, boxes=boxes, stop=3):
        np.testing.assert_allclose(poses.boxes, boxes)  # also those that look like repetitions
    assert [len(poses) for _, poses in estimator.predict_video(clip, boxes=[], stop=3)] == [0, 0, 0]


def test_wrong_arguments(runtime, estimator, clip, tmp_path):
    with pytest.raises(ConfigError, match="no person detector"):
        PoseEstimator(runtime).predict_video(clip)
    with pytest.raises(VideoError, match=r"nothing\.mp4"):
        estimator.predict_video(tmp_path / "nothing.mp4")
    for wrong in ({"detect_every": 0}, {"max_people": 0}, {"boxes": [[0, 0, 0, 0]]}, {"stride": 0}):
        with pytest.raises(ValueError):
            estimator.predict_video(clip, **wrong)


def test_the_smoother_comes_last(estimator, clip):
    class Shift:
        def update(self, poses, time_s):
            assert poses.track_ids is not None
            times.append(time_s)
            return poses[[]]

    times = []
    assert [len(poses) for _, poses in estimator.predict_video(clip, smoother=Shift(), stop=4)] == [0] * 4
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3], atol=1e-6)


def test_frames_in_flight_are_bounded(estimator, long_clip):
    """FAULTS 22: with a slow consumer, no more are decoded than there is room for."""
    taken = 0
    for _ in estimator.predict_video(long_clip, detect_every=1):
        taken += 1
        time.sleep(0.002)
        assert estimator.detector.asked - taken <= MAX_FRAMES_IN_FLIGHT <= 32
    assert taken == 90


def test_frames_are_forgotten(estimator, long_clip):
    """No stage holds on to a frame that the caller has dropped."""
    alive = []
    with estimator.predict_video(long_clip) as video:
        for frame, _ in video:
            alive.append(weakref.ref(frame))
            del frame
            assert sum(each() is not None for each in alive) <= MAX_FRAMES_IN_FLIGHT
        assert sum(each() is not None for each in alive) <= 1


@pytest.mark.parametrize("how", ["close", "forget", "with", "raise"])
def test_abandoned(estimator, long_clip, how):
    """Threads end, whatever way the caller leaves; the fixture checks it."""
    video = estimator.predict_video(long_clip)
    next(video)
    assert len(own_threads()) == 3
    if how == "close":
        video.close()
        video.close()
        assert list(video) == []
    elif how == "forget":
        del video
        gc.collect()
    elif how == "with":
        with video:
            next(video)
    else:

        def leave():
            for _ in video:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            leave()
        del video
    assert own_threads() == []


def test_leaving_waits_for_no_whole_chunk(runtime, long_clip):
    """What is left of a chunk of frames is not worked on when nobody wants it any more."""
    asked = []

    class OnePerson:
        def detect(self, images):
            return [Detections(np.array([[0, 0, 64, 48]], np.float32), np.ones(1, np.float32)) for _ in images]

    estimator = PoseEstimator(runtime, OnePerson())
    predict = estimator.predict_batch

    def slowly(*args, **how):
        asked.append(1)
        time.sleep(0.2)
        return predict(*args, **how)

    estimator.predict_batch = slowly
    video = estimator.predict_video(long_clip, detect_every=10)
    next(video)
    before = len(asked)
    video.close()
    assert len(asked) <= before + 1


def test_never_started(estimator, clip):
    video = estimator.predict_video(clip)
    video.close()
    assert list(video) == []


def test_errors_come_out_where_they_happen(estimator, clip, runtime):
    """What was done before comes first, then the error; another try is right."""
    find = estimator.detector.detect

    def fail_at_the_third(images):
        if estimator.detector.asked >= 2:
            raise RuntimeError("detector broke")
        return [each for image in images for each in find([image])]

    estimator.detector.detect = fail_at_the_third
    done = []

    def use_up():
        for frame, _ in estimator.predict_video(clip):
            done.append(frame.index)

    with pytest.raises(RuntimeError, match="detector broke"):
        use_up()
    assert done == list(range(len(done)))
    estimator.detector.detect = find
    assert len(list(estimator.predict_video(clip))) == FRAMES


def test_an_error_of_one_worker(estimator, model, long_clip, tiny_videos):
    """What comes before it in the video is given first, and the other workers end."""
    many = PoseEstimator(OnnxRuntime(model, threads=4), estimator.detector)
    find = estimator.detector.detect
    broken = [frame.image for frame in open_video(long_clip, start=50, stop=51)]

    def fail_at_50(images):
        if any(np.array_equal(image, broken[0]) for image in images):
            raise RuntimeError("detector broke")
        return find(images)

    estimator.detector.detect = fail_at_50
    done = []

    def use_up():
        for frame, _ in many.predict_video(long_clip):
            done.append(frame.index)

    with pytest.raises(RuntimeError, match="detector broke"):
        use_up()
    assert done == list(range(50))


def test_a_program_that_forgets_it_ends(tiny_models, long_clip, tmp_path):
    """Neither a hang nor a crash when Python exits with the threads at work."""
    tiny_models.save_heatmap_model(tmp_path / "tiny.onnx")
    program = (
        "from wholepose.estimator import PoseEstimator\n"
        "from wholepose.runtimes.onnx import OnnxRuntime\n"
        "estimator = PoseEstimator(OnnxRuntime('tiny.onnx', threads=1))\n"
        f"video = estimator.predict_video({str(long_clip)!r}, boxes=[[0, 0, 64, 48]])\n"
        "print(next(video)[0].index)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0", "")


def some_poses(places, boxes, scores=None):
    keypoints = np.zeros((len(places), 136, 2), np.float32)
    for person, place in enumerate(places):
        keypoints[person] = np.linspace(place[:2], place[2:], 136)
    return Poses(
        keypoints=keypoints,
        scores=np.ones((len(places), 136), np.float32) if scores is None else scores,
        boxes=np.array(boxes, np.float32),
        box_scores=np.linspace(0.9, 0.5, len(places)).astype(np.float32),
        skeleton=HALPE136,
    )


def test_carried_boxes():
    """The extent of the keypoints with a margin, of nearly the same size, inside the image."""
    poses = some_poses([[110, 100, 190, 300]], [[95, 80, 191, 320]])
    boxes, scores = carried_boxes(poses, (480, 640))
    np.testing.assert_allclose(boxes, [[102, 80, 198, 320]], atol=1e-3)
    np.testing.assert_allclose(scores, [0.9])
    boxes, _ = carried_boxes(some_poses([[0, 0, 600, 400]], [[100, 100, 200, 300]]), (480, 640))
    np.testing.assert_allclose(boxes, [[300 - 62.5, 200 - 125, 300 + 62.5, 200 + 125]], atol=1e-3)
    boxes, _ = carried_boxes(some_poses([[-10, 100, 30, 200]], [[0, 90, 40, 210]]), (150, 640))
    np.testing.assert_allclose(boxes[0, [0, 3]], [0, 150])


def test_carried_boxes_of_those_not_seen_and_gone():
    scores = np.full((3, 136), 0.1, np.float32)
    scores[0, :3] = 0.9
    scores[2] = 0.9
    places = [[0, 0, 9, 9], [0, 0, 9, 9], [700, 100, 720, 150]]
    old = [[50, 60, 90, 160], [200, 60, 240, 160], [690, 100, 730, 150]]
    boxes, kept = carried_boxes(some_poses(places, old, scores), (480, 640))
    np.testing.assert_allclose(boxes, old[:2])
    np.testing.assert_allclose(kept, [0.9, 0.7], atol=1e-6)
    boxes, kept = carried_boxes(Poses.empty(HALPE136), (480, 640))
    assert (boxes.shape, kept.shape) == ((0, 4), (0,))


def write_long(path, frames, size):
    """A video of moving noise at a small bit rate."""
    import av

    rng = np.random.default_rng(0)
    base = np.repeat(np.repeat(rng.integers(0, 255, (size[0] // 8, size[1] // 8), dtype=np.uint8), 8, 0), 8, 1)
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=30)
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "35"}
        for index in range(frames):
            image = np.full((size[0] * 3 // 2, size[1]), 128, np.uint8)
            image[: size[0]] = np.roll(base, index % size[1], axis=1)
            frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("frames", "size"), [(20_000, (360, 640)), (100_000, (48, 64))])
def test_memory_over_hours(model, tmp_path, frames, size):
    """FAULTS 22: 20,000 frames of 640x360, and 100,000 small ones, two workers, a consumer that lags behind."""
    estimator = PoseEstimator(OnnxRuntime(model, threads=2))
    path = tmp_path / "long.mp4"
    write_long(path, frames, size)

    def resident_mb():
        pages = int(open("/proc/self/statm").read().split()[1])  # noqa: PTH123, SIM115
        return pages * resource.getpagesize() / 1e6

    warm = most = 0.0
    for frame, _ in estimator.predict_video(path, boxes=[[0, 0, size[1], size[0]]]):
        if frame.index % 100 == 0:
            time.sleep(0.005)
            if frame.index == 1000:
                gc.collect()
                warm = resident_mb()
            most = max(most, resident_mb()) if frame.index >= 1000 else 0.0
    print(f"{frames} frames: {warm:.1f} MB after 1000, {most:.1f} MB at most")
    assert frame.index == frames - 1
    assert most - warm < 20
