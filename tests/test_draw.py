import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.draw import draw_poses
from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE136, SKELETONS

GREY = 128


def blank(height=240, width=160):
    return np.full((height, width, 3), GREY, np.uint8)


def standing_person(scores=1.0, scale=1.0, shift=(0.0, 0.0), skeleton=HALPE136):
    """Somebody who faces the camera, drawn by hand in 160 x 240: their right is on the picture's left."""
    body = {
        "nose": (80, 30),
        "eye": (5, -5),
        "ear": (10, -3),
        "shoulder": (22, 30),
        "elbow": (32, 60),
        "wrist": (38, 90),
        "hip": (14, 90),
        "knee": (15, 140),
        "ankle": (16, 185),
    }
    names = skeleton.keypoint_names
    keypoints, found = np.zeros((1, len(names), 2)), np.zeros((1, len(names)))
    for index, name in enumerate(names):
        side, _, joint = name.partition("_")
        if name == "nose":
            keypoints[0, index] = body["nose"]
        elif side in ("left", "right") and joint in body:
            dx, dy = body[joint]
            keypoints[0, index] = 80 + (dx if side == "left" else -dx), 30 + dy
        else:
            continue
        found[0, index] = 1
    keypoints = keypoints * scale + shift
    box = [30 * scale + shift[0], 10 * scale + shift[1], 130 * scale + shift[0], 225 * scale + shift[1]]
    return Poses(keypoints, found * scores, np.array([box]), np.ones(1), skeleton)


def drawn(image):
    return (image != GREY).any(axis=2)


class TestPicture:
    def test_limbs_run_between_their_joints_in_the_colors_of_their_side(self):
        image = draw_poses(blank(), standing_person())
        left_thigh, right_thigh = image[145, 94].astype(int), image[145, 66].astype(int)
        assert left_thigh[1] > left_thigh[0] + 50  # green
        assert right_thigh[0] > right_thigh[1] + 50  # red
        middle = image[60, 80].astype(int)  # between the shoulders
        assert middle[2] > middle[1] + 50  # violet
        for point in ((105, 75), (55, 75), (80, 120), (96, 190)):
            assert drawn(image)[point[1] - 2 : point[1] + 3, point[0] - 4 : point[0] + 5].any()
        assert not drawn(image)[:, :35].any()
        assert not drawn(image)[222:].any()

    def test_input_is_not_changed_and_output_is_new(self):
        image = blank()
        image.setflags(write=False)
        result = draw_poses(image, standing_person())
        assert (image == GREY).all()
        assert result is not image
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        assert result.flags.writeable

    def test_strides_of_the_input_do_not_matter(self):
        plain = draw_poses(blank(), standing_person())
        for view in (blank()[::-1], np.asfortranarray(blank()), blank(480, 320)[::2, ::2]):
            np.testing.assert_array_equal(draw_poses(view, standing_person()), plain)

    def test_lines_are_smooth(self):
        """A slanting limb has pixels between its colour and the background."""
        poses = standing_person(skeleton=COCO17)
        shades = {tuple(pixel) for pixel in draw_poses(blank(), poses).reshape(-1, 3)}
        assert len(shades) > 50

    def test_threshold(self):
        poses = standing_person(scores=0.4)
        assert drawn(draw_poses(blank(), poses)).any()
        assert not drawn(draw_poses(blank(), poses, threshold=0.5)).any()
        only_limbs = draw_poses(blank(), poses, threshold=0.0)
        assert not drawn(only_limbs)[:8, :8].any()  # missing keypoints at (0, 0) are not drawn even at 0

    def test_limb_needs_both_ends(self):
        poses = standing_person(skeleton=COCO17)
        scores = poses.scores.copy()
        scores[0, COCO17.index("left_knee")] = 0
        image = draw_poses(blank(), Poses(poses.keypoints, scores, poses.boxes, poses.box_scores, COCO17))
        assert not drawn(image)[135:200, 88:104].any()
        assert drawn(image)[135:200, 56:72].any()

    def test_lines_grow_with_the_box(self):
        small, large = standing_person(), standing_person(scale=4)

        def width_of_thigh(image, scale):
            return int(drawn(image)[145 * scale, 84 * scale : 104 * scale].sum())

        thin, thick = (
            width_of_thigh(draw_poses(blank(), small), 1),
            width_of_thigh(draw_poses(blank(960, 640), large), 4),
        )
        assert 3 <= thin <= 9  # two of colour, the outline, and smooth edges
        assert 2 * thin <= thick <= 5 * thin

    def test_fingers_are_thinner_than_arms(self):
        keypoints, scores = np.zeros((1, 136, 2)), np.zeros((1, 136))
        for row, (start, end) in enumerate([(7, 9), (111, 112)]):  # a forearm, a part of the little finger
            keypoints[0, start], keypoints[0, end] = (20, 50 + 100 * row), (140, 50 + 100 * row)
            scores[0, [start, end]] = 1
        image = drawn(draw_poses(blank(), Poses(keypoints, scores, [[0, 0, 400, 600]], [1], HALPE136)))
        assert image[:100, 80].sum() > 2 * image[100:, 80].sum() > 0

    def test_first_person_lies_on_top(self):
        front, behind = standing_person(), standing_person(scale=1.5, shift=(-40, -40))
        both = draw_poses(blank(), Poses.concatenate([front, behind]))
        alone = draw_poses(blank(), front)
        np.testing.assert_array_equal(both[145, 94], alone[145, 94])

    def test_boxes_and_track_numbers(self):
        poses = standing_person()
        tracked = Poses(poses.keypoints, poses.scores, poses.boxes, poses.box_scores, HALPE136, track_ids=[3])
        plain, boxed, labelled = (
            draw_poses(blank(), poses),
            draw_poses(blank(), poses, show_boxes=True),
            draw_poses(blank(), tracked, show_boxes=True),
        )
        assert (boxed[100, 30] > 220).all()
        assert (plain[100, 30] == GREY).all()
        assert (labelled != boxed).any()

    def test_uncertainty_is_an_ellipse_of_two_sigmas(self):
        poses = standing_person(skeleton=COCO17)
        scores = np.zeros((1, 17))
        scores[0, COCO17.index("left_knee")] = 1
        covariances = np.tile(np.diag([36.0, 4.0]), (1, 17, 1, 1))
        uncertain = Poses(poses.keypoints, scores, poses.boxes, poses.box_scores, COCO17, covariances)
        rows, columns = np.nonzero(drawn(draw_poses(blank(), uncertain, show_uncertainty=True)))
        x, y = poses.keypoints[0, COCO17.index("left_knee")]
        assert abs(columns.max() - (x + 12)) <= 1
        assert abs(columns.min() - (x - 12)) <= 1
        assert abs(rows.max() - (y + 4)) <= 1
        plain = draw_poses(blank(), uncertain)
        np.testing.assert_array_equal(draw_poses(blank(), poses, show_uncertainty=True), draw_poses(blank(), poses))
        assert drawn(plain).sum() < len(rows)


class TestBadDays:
    @pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
    def test_nobody_and_people_without_keypoints(self, skeleton):
        """FAULT 14."""
        count = skeleton.num_keypoints
        unseen = Poses(np.zeros((2, count, 2)), np.zeros((2, count)), np.zeros((2, 4)), np.zeros(2), skeleton)
        for poses in (Poses.empty(skeleton), unseen):
            assert not drawn(draw_poses(blank(), poses)).any()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (0, 5), (5, 0)])
    def test_tiny_pictures(self, shape):
        """FAULT 5: pictures of a pixel, a line, or nothing."""
        image = np.full((*shape, 3), GREY, np.uint8)
        assert draw_poses(image, standing_person(), show_boxes=True).shape == image.shape

    @settings(deadline=None, max_examples=150)
    @given(data=st.data())
    def test_places_however_far_do_no_harm(self, data):
        """FAULT 13: keypoints, boxes and covariances of any finite size; quickly, and with nothing outside touched."""
        number = st.one_of(st.floats(-300, 300, width=32), st.floats(-3e38, 3e38))
        keypoints = np.array(data.draw(st.lists(number, min_size=34, max_size=34))).reshape(1, 17, 2)
        box = np.array(data.draw(st.lists(number, min_size=4, max_size=4))).reshape(1, 4)
        spread = np.array(data.draw(st.lists(number, min_size=3, max_size=3)))
        covariances = np.tile(spread[[0, 1, 1, 2]].reshape(2, 2), (1, 17, 1, 1))
        poses = Poses(keypoints, np.ones((1, 17)), box, [0.5], COCO17, covariances)
        start = time.perf_counter()
        result = draw_poses(blank(), poses, show_boxes=True, show_uncertainty=True)
        assert result.shape == (240, 160, 3)
        assert time.perf_counter() - start < 2

    @settings(deadline=None, max_examples=100)
    @given(angle=st.floats(0, 6.3), distance=st.floats(60, 1e7), offset=st.floats(10, 50))
    def test_a_limb_that_leaves_the_picture_keeps_its_direction(self, angle, distance, offset):
        """The visible part of a line to a place far away is where the line is."""
        start = np.array([80.0, 120.0])
        reach = distance * np.array([np.cos(angle), np.sin(angle)])
        keypoints, scores = np.zeros((1, 17, 2)), np.zeros((1, 17))
        keypoints[0, 7], keypoints[0, 9] = start, start + reach
        scores[0, [7, 9]] = 1
        poses = Poses(keypoints, scores, [[0, 0, 100, 200]], [1], COCO17)
        image = drawn(draw_poses(blank(), poses))
        point = np.rint(start + offset * reach / distance).astype(int)
        assert image[point[1] - 1 : point[1] + 2, point[0] - 1 : point[0] + 2].all()

    def test_wide_panorama(self):
        """FAULT 6: beyond the 16-bit coordinates of some of OpenCV."""
        image = np.full((60, 40_000, 3), GREY, np.uint8)
        near, far = standing_person(scale=0.2), standing_person(scale=0.2, shift=(39_900.0, 0.0))
        here, there = draw_poses(image, near)[:, :60], draw_poses(image, far)[:, 39_900:39_960]
        assert drawn(here).any()
        np.testing.assert_array_equal(here, there)

    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((5, 5), np.uint8),
            np.zeros((5, 5, 4), np.uint8),
            np.zeros((3, 5, 5), np.uint8),
            np.zeros((5, 5, 3), np.float32),
            [[[0, 0, 0]]],
            None,
        ],
    )
    def test_other_arrays_are_refused(self, image):
        with pytest.raises(ValueError, match="uint8 RGB"):
            draw_poses(image, standing_person())

    def test_a_crowd_is_quick(self):
        crowd = Poses.concatenate([standing_person(shift=(shift, 0)) for shift in range(50)])
        cv2.setNumThreads(1)
        start = time.perf_counter()
        draw_poses(blank(480, 640), crowd)
        assert time.perf_counter() - start < 1
