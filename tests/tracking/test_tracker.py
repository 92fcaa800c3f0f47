import numpy as np
import pytest

from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE26, HALPE136
from wholepose.tracking import PoseTracker

SIZE = (480, 640)


def stick_people(places, skeleton=HALPE26, *, score=0.9, height=180.0):
    """People that look the same, at places (x, y of the middle)."""
    shape = np.random.default_rng(1).uniform(-0.5, 0.5, (skeleton.num_keypoints, 2)) * [0.4 * height, height]
    keypoints = np.array(places, dtype=float).reshape(-1, 1, 2) + shape
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    count = len(keypoints)
    return Poses(keypoints, np.full((count, skeleton.num_keypoints), score), boxes, np.full(count, 0.9), skeleton)


def ids(tracker, poses, frame, size=SIZE):
    return tracker.update(poses, frame_index=frame, image_size=size).track_ids.tolist()


class TestUpdate:
    def test_same_people_same_order_with_numbers(self):
        poses = stick_people([(100, 200), (400, 200)], HALPE136)
        tracked = PoseTracker().update(poses, frame_index=0, image_size=SIZE)
        assert tracked.track_ids.dtype == np.int64
        assert tracked.track_ids.tolist() == [0, 1]
        np.testing.assert_array_equal(tracked.keypoints, poses.keypoints)
        assert poses.track_ids is None

    def test_the_order_of_people_does_not_matter(self):
        tracker = PoseTracker()
        places = [(100 + 0, 200), (300, 220), (500, 210)]
        assert ids(tracker, stick_people(places), 0) == [0, 1, 2]
        assert ids(tracker, stick_people(places[::-1]), 1) == [2, 1, 0]

    def test_lives_through_a_gap_by_its_velocity(self):
        """Two people walk through each other; one is hidden for 12 frames while they do."""
        tracker = PoseTracker()
        for frame in range(60):
            left, right = (150 + 5 * frame, 240), (450 - 5 * frame, 240)
            hidden = 24 <= frame < 36
            found = ids(tracker, stick_people([left] if hidden else [left, right]), frame)
            assert found == ([0] if hidden else [0, 1]), frame

    def test_a_number_is_never_used_twice(self):
        tracker = PoseTracker(max_missing_frames=2)
        assert ids(tracker, stick_people([(100, 200)]), 0) == [0]
        assert ids(tracker, stick_people([]), 1) == []
        assert ids(tracker, stick_people([(100, 200)]), 50) == [1]

    @pytest.mark.parametrize(("seen", "away", "known"), [(3, 45, True), (3, 46, False), (2, 3, True), (2, 4, False)])
    def test_how_long_somebody_is_remembered(self, seen, away, known):
        tracker = PoseTracker()
        for frame in range(seen + away):
            ids(tracker, stick_people([(100, 200)] if frame < seen else []), frame)
        assert ids(tracker, stick_people([(100, 200)]), seen + away) == [0 if known else 1]

    def test_frames_may_be_left_out(self):
        tracker = PoseTracker()
        for frame in range(0, 60, 5):
            assert ids(tracker, stick_people([(100 + 6 * frame, 240), (520 - 6 * frame, 252)]), frame) == [0, 1]

    def test_keypoints_that_nobody_sees_leave_the_box_to_decide(self):
        tracker = PoseTracker()
        for frame in range(4):
            assert ids(tracker, stick_people([(100 + 3 * frame, 200)], score=0.1), frame) == [0]

    def test_nobody(self):
        """FAULT 14."""
        tracker = PoseTracker()
        tracked = tracker.update(Poses.empty(HALPE26), frame_index=0, image_size=SIZE)
        assert tracked.track_ids.shape == (0,)
        assert tracker.predicted_boxes().shape == (0, 4)

    def test_a_stream_that_changes_its_size(self):
        """FAULT 21: what is known of people is scaled along."""
        tracker = PoseTracker()
        for frame in range(6):
            assert ids(tracker, stick_people([(100 + 4 * frame, 200), (300, 200)]), frame) == [0, 1]
        half = stick_people([(62, 100), (150, 100)], height=90)
        assert ids(tracker, half, 6, (240, 320)) == [0, 1]

    def test_a_crowd_is_quick_enough(self):
        """FAULT 15: 300 people."""
        tracker = PoseTracker()
        places = [(30 * column, 60 * row) for row in range(15) for column in range(20)]
        for frame in range(2):
            assert ids(tracker, stick_people(places, COCO17, height=40), frame, (1080, 1920)) == list(range(300))

    def test_time_must_go_on(self):
        tracker = PoseTracker()
        ids(tracker, stick_people([(100, 200)]), 5)
        with pytest.raises(ValueError, match="frame 5 does not come after frame 5"):
            ids(tracker, stick_people([(100, 200)]), 5)

    def test_the_skeleton_stays(self):
        tracker = PoseTracker()
        ids(tracker, stick_people([(100, 200)]), 0)
        with pytest.raises(ValueError, match=r"halpe26.*coco17"):
            ids(tracker, stick_people([(100, 200)], COCO17), 1)

    @pytest.mark.parametrize(
        "options", [{"max_missing_frames": -1}, {"min_similarity": 0}, {"keypoint_threshold": 1.5}]
    )
    def test_options_out_of_range(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            PoseTracker(**options)


class TestPredictedBoxes:
    def test_move_with_the_person_and_hold_the_next_pose(self):
        tracker = PoseTracker()
        for frame in range(12):
            ids(tracker, stick_people([(100 + 8 * frame, 240)]), frame)
        box = tracker.predicted_boxes()
        assert box.shape == (1, 4)
        assert box.dtype == np.float32
        upcoming = stick_people([(100 + 8 * 12, 240)])
        assert (box[0, :2] < upcoming.boxes[0, :2]).all()
        assert (box[0, 2:] > upcoming.boxes[0, 2:]).all()
        middle = (box[0, :2] + box[0, 2:]) / 2
        np.testing.assert_allclose(middle, (upcoming.boxes[0, :2] + upcoming.boxes[0, 2:]) / 2, atol=2)

    def test_somebody_hidden_has_none(self):
        tracker = PoseTracker()
        ids(tracker, stick_people([(100, 240), (400, 240)]), 0)
        ids(tracker, stick_people([(102, 240)]), 1)
        assert len(tracker.predicted_boxes()) == 1

    def test_carried_boxes_do_not_grow(self):
        """Boxes fed back for many frames stay as large as the person."""
        tracker = PoseTracker()
        poses = stick_people([(100, 240)])
        for frame in range(40):
            place = stick_people([(100 + 5 * frame, 240)])
            carried = tracker.predicted_boxes() if frame else poses.boxes
            fed = Poses(place.keypoints, place.scores, carried, place.box_scores, HALPE26)
            assert ids(tracker, fed, frame) == [0]
        sides = tracker.predicted_boxes()[0, 2:] - tracker.predicted_boxes()[0, :2]
        np.testing.assert_allclose(sides, 1.2 * (poses.boxes[0, 2:] - poses.boxes[0, :2]), rtol=1e-3)


def test_fewer_switches_than_plain_overlap_where_people_cross(benchmark_tracking):
    """Simulated people who cross, with occlusion, misses, false alarms and limbs mixed up."""
    make = benchmark_tracking.observe
    scenes = [make(benchmark_tracking.crossing_walkers(seed, 4), 120, seed) for seed in range(4)]
    figures = {
        name: [benchmark_tracking.run(make_tracker, scenes, stride)[0] for stride in (1, 5)]
        for name, make_tracker in (("plain", benchmark_tracking.IouTracker), ("ours", benchmark_tracking.ours()))
    }
    mean = {
        name: {score: np.mean([each[score] for each in runs]) for score in ("switches", "idf1", "mota")}
        for name, runs in figures.items()
    }
    assert mean["ours"]["switches"] <= 0.5 * mean["plain"]["switches"]
    assert mean["ours"]["idf1"] >= mean["plain"]["idf1"] + 0.05
    assert mean["ours"]["mota"] >= mean["plain"]["mota"] + 0.02
