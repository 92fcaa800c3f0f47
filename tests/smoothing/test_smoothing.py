import numpy as np
import pytest

from wholepose.formats import PoseFrame
from wholepose.poses import Poses
from wholepose.skeletons import COCO17
from wholepose.smoothing import DelayedSmoother, OneEuroSmoother, smooth_sequence

FPS = 30.0


def person(keypoints, *, scores=0.9, track_id=0, covariances=None):
    keypoints = np.broadcast_to(np.asarray(keypoints, dtype=float), (1, 17, 2))
    return Poses(
        keypoints,
        np.broadcast_to(np.asarray(scores, dtype=float), (1, 17)),
        [[0, 0, 100, 100]],
        [0.9],
        COCO17,
        covariances=covariances,
        track_ids=[track_id],
    )


def frames_of(curve, **options):
    """A frame for each (17, 2) or (2,) of a curve."""
    return [PoseFrame(index, index / FPS, person(point, **options)) for index, point in enumerate(curve)]


def noisy(count, seed=0):
    random = np.random.default_rng(seed)
    return 50 + random.normal(size=(count, 17, 2))


class TestOneEuro:
    def test_jitter_at_rest_goes(self):
        smoother = OneEuroSmoother()
        curve = noisy(60)
        result = [smoother.update(person(point), index / FPS).keypoints[0] for index, point in enumerate(curve)]
        assert np.abs(np.diff(result[20:], axis=0)).mean() < 0.4 * np.abs(np.diff(curve[20:], axis=0)).mean()

    @pytest.mark.parametrize("rate", [30, 4, 1, 0.1])
    def test_slow_cameras_are_smoothed_too(self, rate):
        """Who is seen in every frame is never out of sight, however far apart frames are."""
        smoother = OneEuroSmoother(max_gap_s=0.2)
        curve = noisy(40)
        result = [smoother.update(person(point), index / rate).keypoints[0] for index, point in enumerate(curve)]
        assert (np.abs(result[1:] - curve[1:]).max(axis=(1, 2)) > 0).all()

    def test_somebody_who_was_away_starts_anew(self):
        smoother = OneEuroSmoother()
        curve = noisy(3)
        for index in range(2):
            smoother.update(person(curve[index]), index)
        smoother.update(person(curve[0], track_id=1), 2)
        np.testing.assert_allclose(smoother.update(person(curve[2]), 3).keypoints[0], curve[2], atol=1e-4)

    def test_does_not_look_ahead(self):
        curve = noisy(20)
        whole, part = OneEuroSmoother(), OneEuroSmoother()
        first = [whole.update(person(point), index / FPS).keypoints for index, point in enumerate(curve)]
        second = [part.update(person(point), index / FPS).keypoints for index, point in enumerate(curve[:10])]
        np.testing.assert_array_equal(first[:10], second)

    def test_a_fast_body_hardly_lags(self):
        smoother = OneEuroSmoother()
        for index in range(60):
            place = 6.0 * index  # 1.8 body sizes a second
            found = smoother.update(person([place, 50]), index / FPS).keypoints[0, :, 0]
        assert np.abs(found - place).max() < 2.5

    @pytest.mark.parametrize("doubt", ["score", "covariance"])
    def test_an_uncertain_keypoint_moves_less(self, doubt):
        scores, covariances = np.full(17, 0.9), np.tile(np.eye(2), (1, 17, 1, 1))
        if doubt == "score":
            scores[3] = 0.2
        else:
            covariances[0, 3] *= 20
        smoother = OneEuroSmoother()
        start, step = np.full((17, 2), 50.0), np.zeros((17, 2))
        step[[3, 4]] = 4.0
        smoother.update(person(start), 0.0)
        moved = smoother.update(person(start + step, scores=scores, covariances=covariances), 1 / FPS).keypoints[0]
        assert 0 < moved[3, 0] - 50 < 0.3 * (moved[4, 0] - 50)

    def test_uncertain_along_one_direction(self):
        covariances = np.tile(np.eye(2), (1, 17, 1, 1))
        covariances[0, 3] = [[25.0, 0], [0, 1]]
        smoother = OneEuroSmoother()
        start, step = np.full((17, 2), 50.0), np.zeros((17, 2))
        step[3] = 4.0
        smoother.update(person(start), 0.0)
        moved = smoother.update(person(start + step, covariances=covariances), 1 / FPS).keypoints[0, 3] - 50
        assert 0 < moved[0] < 0.3 * moved[1]

    def test_people_are_kept_apart_and_forgotten(self):
        smoother = OneEuroSmoother(max_gap_s=0.2)
        smoother.update(person([50, 50], track_id=1), 0.0)
        np.testing.assert_array_equal(smoother.update(person([90, 50], track_id=2), 0.1).keypoints[0, 0], [90, 50])
        np.testing.assert_array_equal(smoother.update(person([70, 50], track_id=1), 0.5).keypoints[0, 0], [70, 50])

    def test_a_missing_keypoint_stays_missing_and_starts_anew(self):
        smoother = OneEuroSmoother(max_gap_s=0.1)
        scores = np.full(17, 0.9)
        scores[5] = 0
        gone = np.full((17, 2), 50.0)
        gone[5] = 0
        smoother.update(person([50, 50]), 0.0)
        for index in range(1, 7):
            found = smoother.update(person(gone, scores=scores), index / FPS)
            np.testing.assert_array_equal(found.keypoints[0, 5], [0, 0])
        back = gone.copy()
        back[5] = 80
        np.testing.assert_array_equal(smoother.update(person(back), 7 / FPS).keypoints[0, 5], [80, 80])

    def test_nobody_and_bad_calls(self):
        smoother = OneEuroSmoother()
        assert len(smoother.update(Poses.empty(COCO17), 0.0)) == 0
        with pytest.raises(ValueError, match="does not come after"):
            smoother.update(Poses.empty(COCO17), 0.0)
        untracked = Poses(np.zeros((1, 17, 2)), np.ones((1, 17)), np.zeros((1, 4)), [1], COCO17)
        with pytest.raises(ValueError, match="track_ids"):
            smoother.update(untracked, 1.0)
        twice = Poses.concatenate([person([1, 1]), person([2, 2])])
        with pytest.raises(ValueError, match="comes twice"):
            smoother.update(twice, 2.0)
        with pytest.raises(ValueError, match="min_cutoff_hz"):
            OneEuroSmoother(min_cutoff_hz=0)


class TestSmoothSequence:
    def test_is_savitzky_golay_where_all_is_even(self):
        """The known weights (-3, 12, 17, 12, -3) / 35 of five points and a parabola."""
        curve = noisy(15)
        result = smooth_sequence(frames_of(curve), window_s=4 / FPS)
        weights = np.array([-3, 12, 17, 12, -3]) / 35
        expected = np.einsum("w,wkc->kc", weights, curve[5:10])
        np.testing.assert_allclose(result[7].poses.keypoints[0], expected, atol=1e-4)

    def test_a_parabola_passes_unchanged_with_uneven_times_and_doubt(self):
        random = np.random.default_rng(3)
        times = np.cumsum(random.uniform(0.02, 0.06, 40))
        curve = np.stack([3 + 40 * times - 90 * times**2, 50 * times], axis=1)
        frames = [
            PoseFrame(index, float(time), person(point, scores=random.uniform(0.35, 1, 17)))
            for index, (time, point) in enumerate(zip(times, curve, strict=True))
        ]
        result = smooth_sequence(frames)
        found = np.stack([frame.poses.keypoints[0, 0] for frame in result])
        np.testing.assert_allclose(found, curve, atol=2e-3)

    @pytest.mark.parametrize("doubt", ["score", "covariance"])
    def test_an_uncertain_outlier_counts_less(self, doubt):
        curve = np.full((21, 17, 2), 50.0)
        curve[10, 3] += 10
        plain = smooth_sequence(frames_of(curve))[10].poses.keypoints[0, 3, 0] - 50
        frames = frames_of(curve)
        scores, covariances = np.full(17, 0.9), np.tile(np.eye(2), (1, 17, 1, 1))
        if doubt == "score":
            scores[3] = 0.32
        else:
            covariances[0, 3] *= 15
        frames[10] = PoseFrame(10, 10 / FPS, person(curve[10], scores=scores, covariances=covariances))
        assert 0 <= smooth_sequence(frames)[10].poses.keypoints[0, 3, 0] - 50 < 0.5 * plain

    def test_short_gaps_are_filled_and_marked(self):
        curve = np.arange(30, dtype=float)[:, None, None] * [[2.0, 1.0]] + np.zeros((30, 17, 2))
        frames = frames_of(curve)
        scores = np.full(17, 0.9)
        scores[6] = 0.1
        for index in (10, 11):  # one keypoint
            jumped = curve[index].copy()
            jumped[6] = 0
            frames[index] = PoseFrame(index, index / FPS, person(jumped, scores=scores))
        for index in (20, 21, 22):  # the whole person
            frames[index] = PoseFrame(index, index / FPS, Poses.empty(COCO17))
        result = smooth_sequence(frames)
        found = np.stack([frame.poses.keypoints[0] for frame in result])
        np.testing.assert_allclose(found, curve, atol=1e-3)
        assert result[10].filled.sum() == 1
        assert result[10].filled[0, 6]
        assert result[10].poses.scores[0, 6] == pytest.approx(0.9)
        assert result[21].filled.all()
        assert result[21].poses.track_ids.tolist() == [0]
        np.testing.assert_allclose(result[21].poses.boxes, [[0, 0, 100, 100]], atol=1e-3)
        assert all(result[index].filled is None for index in (0, 9, 12, 19, 23))

    def test_long_gaps_stay(self):
        frames = frames_of(np.full((40, 17, 2), 50.0))
        for index in range(10, 25):
            frames[index] = PoseFrame(index, index / FPS, Poses.empty(COCO17))
        result = smooth_sequence(frames, max_gap_s=0.3)
        assert [len(frame.poses) for frame in result] == [len(frame.poses) for frame in frames]
        assert len(smooth_sequence(frames, max_gap_s=0.6)[12].poses) == 1
        assert len(smooth_sequence(frames, max_gap_s=0)[12].poses) == 0

    def test_two_people_in_changing_order(self):
        frames = []
        for index in range(20):
            pair = [person([index, 10], track_id=4), person([100, index], track_id=9)]
            frames.append(PoseFrame(index, None, Poses.concatenate(pair[:: (-1) ** index])))
        for index, frame in enumerate(smooth_sequence(frames)):
            row = frame.poses.track_ids.tolist().index(4)
            np.testing.assert_allclose(frame.poses.keypoints[row, 0], [index, 10], atol=1e-3)

    def test_one_frame_and_none(self):
        assert smooth_sequence([]) == []
        (frame,) = smooth_sequence(frames_of(noisy(1)))
        np.testing.assert_allclose(frame.poses.keypoints[0], noisy(1)[0], atol=1e-4)

    @pytest.mark.parametrize("options", [{"window_s": 0}, {"degree": 9}, {"threshold": 2}, {"frame_rate": 0}])
    def test_options_out_of_range(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            smooth_sequence(frames_of(noisy(3)), **options)


def test_noise_and_jitter_shrink_on_a_walk(benchmark_smoothing):
    """Error and acceleration error, and that scores and covariances help."""
    walks = [benchmark_smoothing.walk(120, seed) for seed in range(2)]
    figures = {
        method: np.mean(
            [
                benchmark_smoothing.errors(truth, benchmark_smoothing.smoothed(frames, method), height)
                for truth, frames, height in walks
            ],
            axis=0,
        )
        for method in benchmark_smoothing.METHODS
    }
    raw_error, raw_acceleration = figures["none"]
    assert figures["One-Euro"][0] < 0.8 * raw_error
    assert figures["One-Euro"][1] < 0.5 * raw_acceleration
    assert figures["Savitzky-Golay"][0] < 0.6 * raw_error
    assert figures["Savitzky-Golay"][1] < 0.25 * raw_acceleration
    for method in ("One-Euro", "Savitzky-Golay"):
        assert (figures[method] < figures[f"{method}, plain"]).all()


class TestDelayed:
    """The answers of ``smooth_sequence``, given while frames come."""

    @staticmethod
    def walk(count, rate, seed=0):
        """Two people with doubtful and missing keypoints, who are out of sight now and then."""
        random = np.random.default_rng(seed)
        frames = []
        for index in range(count):
            people = [
                person(
                    50 + 20 * np.sin(index / 9 + track_id) + random.normal(size=(17, 2)),
                    scores=random.choice([0.05, 0.4, 0.9], 17, p=[0.1, 0.1, 0.8]),
                    track_id=track_id,
                    covariances=np.eye(2) * random.uniform(0.5, 9, (1, 17, 1, 1)),
                )
                for track_id in (4, 7)
                if random.random() > 0.1
            ]
            poses = Poses.concatenate(people) if people else person([0, 0], covariances=np.zeros((1, 17, 2, 2)))[[]]
            frames.append(PoseFrame(index, index / rate + 0.2 / rate * random.random(), poses))
        return frames

    @pytest.mark.parametrize(
        ("rate", "options"), [(30, {}), (90, {}), (8, {"window_s": 0.8}), (30, {"max_gap_s": 0, "degree": 1})]
    )
    def test_equals_the_whole(self, rate, options):
        frames = self.walk(200, rate)
        smoother, given, most = DelayedSmoother(**options), [], 0
        for number, frame in enumerate(frames, start=1):
            given += smoother.push(frame)
            most = max(most, number - len(given))
        assert most <= 0.4 * rate + 40  # what is waited for, and those that are smoothed together
        given += smoother.finish()
        expected = smooth_sequence(frames, **options)
        assert [frame.frame_index for frame in given] == list(range(200))
        for one, other in zip(given, expected, strict=True):
            assert one.poses.track_ids.tolist() == other.poses.track_ids.tolist()
            np.testing.assert_allclose(one.poses.keypoints, other.poses.keypoints, atol=1e-4)
            np.testing.assert_allclose(one.poses.scores, other.poses.scores, atol=1e-6)
            assert (one.filled is None) == (other.filled is None)
            if one.filled is not None:
                np.testing.assert_array_equal(one.filled, other.filled)
        if options.get("max_gap_s") != 0:
            assert any(frame.filled is not None for frame in given)

    def test_few_frames(self):
        assert DelayedSmoother().finish() == []
        frames = self.walk(3, 30)
        smoother = DelayedSmoother()
        assert [smoother.push(frame) for frame in frames] == [[], [], []]
        assert [frame.frame_index for frame in smoother.finish()] == [0, 1, 2]
        with pytest.raises(ValueError, match="window_s and frame_rate must be positive"):
            DelayedSmoother(window_s=0)
