import copy
import json
import pickle

import numpy as np
import pytest

from wholepose.errors import ConfigError
from wholepose.skeletons import (
    COCO17,
    COCO_WHOLEBODY133,
    HALPE26,
    HALPE136,
    LSP14,
    MPII16,
    OPENPOSE_BODY25,
    OPENPOSE_FACE70,
    OPENPOSE_HAND21,
    SKELETONS,
    Edge,
    Skeleton,
    conversion,
    convert_keypoints,
    get_skeleton,
)

everyone = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)


def given(source, target, exact=False):
    """Names of target keypoints -> names of the source keypoints they come from."""
    table = conversion(source, target, exact=exact).table
    return {
        target.keypoint_names[row]: [source.keypoint_names[index] for index in sources]
        for row, sources in enumerate(table)
        if sources
    }


def missing(source, target, exact=False):
    return {name for name in target.keypoint_names if name not in given(source, target, exact)}


class TestSkeletons:
    def test_numbers_of_keypoints(self):
        assert {name: skeleton.num_keypoints for name, skeleton in SKELETONS.items()} == {
            "halpe136": 136,
            "halpe26": 26,
            "coco17": 17,
            "coco_wholebody133": 133,
            "mpii16": 16,
            "lsp14": 14,
            "openpose_body25": 25,
            "openpose_hand21": 21,
            "openpose_face70": 70,
        }

    def test_halpe_pairs_and_sigmas_are_those_of_the_reference(self, golden):
        reference = np.load(golden / "flip_test.npz", allow_pickle=False)
        np.testing.assert_array_equal(HALPE136.flip_pairs, reference["flip_pairs"])
        np.testing.assert_array_equal(HALPE136.sigmas, reference["sigmas"])

    def test_halpe_names_are_those_of_the_annotation_files(self, shared):
        category = json.loads((shared / "data" / "lsp" / "train.json").read_text())["categories"][0]
        assert list(HALPE136.keypoint_names) == category["keypoints"]
        drawn = {frozenset((edge.start, edge.end)) for edge in HALPE136.edges}
        hands = {frozenset((a - 1, b - 1)) for a, b in category["skeleton"] if min(a, b) > 94}
        assert len(hands) == 40
        assert hands <= drawn

    def test_halpe_parts(self):
        spans = {"body": (0, 19), "feet": (20, 25), "face": (26, 93), "left_hand": (94, 114), "right_hand": (115, 135)}
        assert dict(HALPE136.parts) == {name: tuple(range(a, b + 1)) for name, (a, b) in spans.items()}
        assert HALPE26.keypoint_names == HALPE136.keypoint_names[:26]

    def test_foot_orders(self):
        feet = [COCO_WHOLEBODY133.keypoint_names[index] for index in COCO_WHOLEBODY133.parts["feet"]]
        assert feet == [f"{side}_{toe}" for side in ("left", "right") for toe in ("big_toe", "small_toe", "heel")]
        feet = [HALPE136.keypoint_names[index] for index in HALPE136.parts["feet"]]
        assert feet == [f"{side}_{toe}" for toe in ("big_toe", "small_toe", "heel") for side in ("left", "right")]

    def test_coco_wholebody_has_its_own_sigmas(self):
        np.testing.assert_array_equal(COCO_WHOLEBODY133.sigmas[:17], COCO17.sigmas)
        np.testing.assert_array_equal(COCO_WHOLEBODY133.sigmas[17:23], [0.068, 0.066, 0.066, 0.092, 0.094, 0.094])
        np.testing.assert_array_equal(
            COCO_WHOLEBODY133.sigmas[[23, 39, 90, 91, 111]], [0.042, 0.045, 0.008, 0.029, 0.031]
        )
        np.testing.assert_array_equal(COCO_WHOLEBODY133.sigmas[91:112], COCO_WHOLEBODY133.sigmas[112:])

    def test_orders_of_the_small_ones(self):
        sides = {"r": "right_", "l": "left_"}
        legs = ["r ankle", "r knee", "r hip", "l hip", "l knee", "l ankle"]
        arms = ["r wrist", "r elbow", "r shoulder", "l shoulder", "l elbow", "l wrist"]
        legs, arms = ([sides[name[0]] + name[2:] for name in names] for names in (legs, arms))
        assert list(MPII16.keypoint_names) == [*legs, "pelvis", "thorax", "upper_neck", "head_top", *arms]
        assert list(LSP14.keypoint_names) == [*legs, *arms, "neck", "head_top"]

    def test_order_of_openpose(self):
        order = "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle"
        order += " REye LEye REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"

        def spelled(name):  # left_big_toe -> LBigToe
            side = {"left": "L", "right": "R"}.get(name.split("_")[0], "")
            return side + "".join(word.capitalize() for word in name.split("_")[bool(side) :])

        assert [spelled(name) for name in OPENPOSE_BODY25.keypoint_names] == order.split()

    @everyone
    def test_mirror_is_its_own_inverse_and_swaps_sides(self, skeleton):
        indices = skeleton.flip_indices
        np.testing.assert_array_equal(indices[indices], np.arange(skeleton.num_keypoints))
        if skeleton is not COCO_WHOLEBODY133:  # which measured each point of the face alone
            np.testing.assert_array_equal(skeleton.sigmas[indices], skeleton.sigmas)
        for index, name in enumerate(skeleton.keypoint_names):
            mirror = skeleton.keypoint_names[indices[index]]
            if not name.startswith("face-"):
                swapped = name.replace("left_", "*").replace("right_", "left_").replace("*", "right_")
                assert mirror == swapped

    def test_mirrored_face_is_symmetric(self):
        """The pairs of the 68 points keep every drawn line of the face."""
        face = HALPE136.part("face")
        lines = {frozenset((edge.start, edge.end)) for edge in face.edges}
        assert {frozenset(face.flip_indices[list(line)].tolist()) for line in lines} == lines

    @everyone
    def test_lines_reach_every_keypoint_and_mirror_into_lines(self, skeleton):
        lines = {frozenset((edge.start, edge.end)) for edge in skeleton.edges}
        assert {frozenset(skeleton.flip_indices[list(line)].tolist()) for line in lines} == lines
        reached = set().union(*lines)
        unreached = {skeleton.keypoint_names[index] for index in range(skeleton.num_keypoints) if index not in reached}
        assert unreached == ({"left_pupil", "right_pupil"} if skeleton is OPENPOSE_FACE70 else set())

    @everyone
    def test_colors_tell_the_sides_apart(self, skeleton):
        def color(name):
            return skeleton.keypoint_colors[skeleton.index(name)].astype(int)

        limbs = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "big_toe")
        for limb in limbs:
            if f"left_{limb}" in skeleton.keypoint_names:
                red, green, _ = color(f"left_{limb}")
                assert green > red
                red, green, _ = color(f"right_{limb}")
                assert red > green

    def test_fingers_have_a_color_each(self):
        assert len({edge.color for edge in HALPE136.part("left_hand").edges}) == 5

    def test_is_frozen(self):
        with pytest.raises(ValueError):
            HALPE136.sigmas[0] = 1
        with pytest.raises(ValueError):
            HALPE136.flip_indices[0] = 1
        with pytest.raises(TypeError):
            HALPE136.parts["body"] = ()
        with pytest.raises(AttributeError):
            HALPE136.name = "other"

    def test_part_counts_anew(self):
        hand = HALPE136.part("right_hand")
        assert hand.name == "halpe136.right_hand"
        assert hand.keypoint_names == HALPE136.keypoint_names[115:]
        assert len(hand.edges) == 20
        assert {index for edge in hand.edges for index in (edge.start, edge.end)} == set(range(21))
        assert hand.flip_pairs == ()
        assert HALPE136.part("feet").flip_pairs == ((0, 1), (2, 3), (4, 5))
        assert HALPE136.part("right_hand") is hand
        with pytest.raises(ValueError, match="left_hand"):
            HALPE136.part("tail")

    def test_index(self):
        assert HALPE136.index("left_heel") == 24
        with pytest.raises(ValueError, match="tail"):
            HALPE136.index("tail")

    @pytest.mark.parametrize("name", [*SKELETONS, "halpe136.left_hand", "openpose_body25.feet"])
    def test_found_by_name_and_the_same_after_pickling(self, name):
        skeleton = get_skeleton(name)
        assert skeleton.name == name
        assert pickle.loads(pickle.dumps(skeleton)) is skeleton
        assert copy.deepcopy(skeleton) is skeleton

    @pytest.mark.parametrize("name", ["halpe", "", "halpe136.tail", "halpe136.left_hand.thumb", "HALPE136"])
    def test_unknown_name_lists_the_known(self, name):
        with pytest.raises(ConfigError, match="halpe136, halpe26"):
            get_skeleton(name)

    def test_own_skeleton_survives_pickling(self):
        own = Skeleton("stick", ("top", "end"), {"body": (0, 1)}, (Edge(0, 1, (1, 2, 3)),), (), np.array([0.1, 0.2]))
        again = pickle.loads(pickle.dumps(own))
        assert again.keypoint_names == own.keypoint_names
        assert again.edges == own.edges
        np.testing.assert_array_equal(again.sigmas, own.sigmas)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"keypoint_names": ("a", "a")}, "one name"),
            ({"sigmas": np.array([1.0])}, "sigmas"),
            ({"sigmas": np.array([1.0, 0.0])}, "sigmas"),
            ({"parts": {"body": (0,)}}, "parts"),
            ({"parts": {"body": (0, 1), "head": (1,)}}, "parts"),
            ({"flip_pairs": ((0, 2),)}, "flip pair"),
            ({"flip_pairs": ((0, 1), (1, 0))}, "flip pair"),
            ({"edges": (Edge(0, 5, (0, 0, 0)),)}, "edge"),
        ],
    )
    def test_nonsense_is_refused(self, change, message):
        fields = {
            "name": "stick",
            "keypoint_names": ("a", "b"),
            "parts": {"body": (0, 1)},
            "edges": (),
            "flip_pairs": (),
            "sigmas": np.ones(2),
        }
        with pytest.raises(ValueError, match=message):
            Skeleton(**{**fields, **change})


class TestConversion:
    @everyone
    def test_to_itself_changes_nothing(self, skeleton):
        assert conversion(skeleton, skeleton, exact=True).table == tuple(
            (index,) for index in range(skeleton.num_keypoints)
        )

    @pytest.mark.parametrize("exact", [False, True])
    def test_wholebody_and_halpe_share_all_but_head_neck_and_hip(self, exact):
        there = conversion(HALPE136, COCO_WHOLEBODY133, exact=exact)
        back = conversion(COCO_WHOLEBODY133, HALPE136, exact=exact)
        assert there.present.all()
        for row, (source,) in enumerate(there.table):
            assert back.table[source] == (row,)
        assert missing(COCO_WHOLEBODY133, HALPE136, exact) == ({"head", "neck", "hip"} if exact else {"head"})

    def test_foot_keypoints_change_places(self):
        sources = [conversion(HALPE136, COCO_WHOLEBODY133).table[row][0] for row in range(17, 23)]
        assert sources == [20, 22, 24, 21, 23, 25]

    def test_bodies_of_lsp_and_mpii_as_labels(self):
        """Known answers: what a label of one is in Halpe, with nothing guessed."""
        lsp = given(LSP14, HALPE136, exact=True)
        assert len(lsp) == 14
        assert lsp["head"] == ["head_top"]
        assert lsp["neck"] == ["neck"]
        assert lsp["left_ankle"] == ["left_ankle"]
        mpii = given(MPII16, HALPE136, exact=True)
        assert len(mpii) == 15
        assert mpii["head"] == ["head_top"]
        assert mpii["neck"] == ["upper_neck"]
        assert mpii["hip"] == ["pelvis"]

    def test_openpose_neck_is_the_middle_of_the_shoulders_by_definition(self):
        for source in (HALPE136, COCO17, COCO_WHOLEBODY133):
            found = given(source, OPENPOSE_BODY25, exact=True)
            assert found["neck"] == ["left_shoulder", "right_shoulder"]
            assert found["mid_hip"] == ["left_hip", "right_hip"]
        assert missing(HALPE136, OPENPOSE_BODY25) == set()
        assert missing(COCO_WHOLEBODY133, OPENPOSE_BODY25) == set()

    def test_estimates_only_when_they_may_be(self):
        assert given(COCO17, HALPE136)["neck"] == ["left_shoulder", "right_shoulder"]
        assert given(COCO17, HALPE136)["hip"] == ["left_hip", "right_hip"]
        assert given(OPENPOSE_BODY25, HALPE136)["neck"] == ["neck"]  # there where one shoulder is out of sight
        assert given(OPENPOSE_BODY25, HALPE136)["hip"] == ["mid_hip"]
        assert given(HALPE136, MPII16)["thorax"] == ["left_shoulder", "right_shoulder"]
        assert missing(HALPE136, MPII16, exact=True) == {"thorax"}
        assert {"neck", "hip", "head"} <= missing(COCO17, HALPE136, exact=True)
        assert {"neck", "hip", "head"} <= missing(OPENPOSE_BODY25, HALPE136, exact=True)
        assert "head" in missing(COCO17, HALPE136)

    def test_face_and_hands_of_openpose(self):
        assert missing(HALPE136, OPENPOSE_FACE70) == {"left_pupil", "right_pupil"}
        for side in ("left_hand", "right_hand"):
            hand = HALPE136.part(side)
            assert conversion(hand, OPENPOSE_HAND21, exact=True).table == tuple((index,) for index in range(21))
            assert conversion(OPENPOSE_HAND21, hand, exact=True).table == tuple((index,) for index in range(21))

    def test_sides_are_never_confused(self):
        assert not conversion(HALPE136.part("left_hand"), HALPE136.part("right_hand")).present.any()
        assert not conversion(OPENPOSE_HAND21, HALPE136).present.any()
        assert not conversion(HALPE136, OPENPOSE_HAND21).present.any()
        part = conversion(HALPE136.part("left_hand"), HALPE136)
        assert np.flatnonzero(part.present).tolist() == list(HALPE136.parts["left_hand"])

    @pytest.mark.parametrize("exact", [False, True])
    def test_mirroring_and_converting_commute(self, exact):
        """FAULT 34 in spirit: for every pair of skeletons, mirror then convert = convert then mirror."""
        random = np.random.default_rng(0)
        for source in SKELETONS.values():
            for target in SKELETONS.values():
                keypoints = random.normal(size=(2, source.num_keypoints, 2))
                scores = random.random((2, source.num_keypoints))
                flipped = keypoints[:, source.flip_indices], scores[:, source.flip_indices]
                one = convert_keypoints(*flipped, source, target, exact=exact)
                other = convert_keypoints(keypoints, scores, source, target, exact=exact)
                np.testing.assert_allclose(one[0], other[0][:, target.flip_indices])
                np.testing.assert_array_equal(one[1], other[1][:, target.flip_indices])

    def test_numbers(self):
        keypoints = np.zeros((17, 2), np.float32)
        scores = np.full(17, 0.5, np.float32)
        keypoints[5:7] = [[10, 20], [30, 60]]
        scores[5:7] = [0.9, 0.4]
        converted, converted_scores = convert_keypoints(keypoints, scores, COCO17, OPENPOSE_BODY25)
        assert converted.dtype == converted_scores.dtype == np.float32
        np.testing.assert_array_equal(converted[1], [20, 40])
        assert converted_scores[1] == np.float32(0.4)
        np.testing.assert_array_equal(converted[19:], 0)
        np.testing.assert_array_equal(converted_scores[19:], 0)

    def test_mean_with_an_unknown_source_is_missing(self):
        keypoints, scores = np.full((17, 2), 8.0), np.ones(17)
        keypoints[5], scores[5] = 0, 0
        converted, converted_scores = convert_keypoints(keypoints, scores, COCO17, HALPE136)
        assert converted_scores[18] == 0
        np.testing.assert_array_equal(converted[18], 0)
        assert converted_scores[19] == 1

    def test_covariance_of_a_mean(self):
        covariances = np.tile(np.diag([4.0, 8.0]), (3, 17, 1, 1))
        converted = conversion(COCO17, OPENPOSE_BODY25).apply_to_covariances(covariances)
        np.testing.assert_array_equal(converted[:, 1], np.tile(np.diag([2.0, 4.0]), (3, 1, 1)))
        np.testing.assert_array_equal(converted[:, 0], covariances[:, 0])
        np.testing.assert_array_equal(converted[:, 24], 0)

    def test_any_leading_shape_and_nobody(self):
        keypoints, scores = convert_keypoints(np.zeros((2, 0, 136, 2)), np.zeros((2, 0, 136)), HALPE136, COCO17)
        assert keypoints.shape == (2, 0, 17, 2)
        assert scores.shape == (2, 0, 17)

    def test_wrong_shapes_are_refused(self):
        with pytest.raises(ValueError, match="coco17"):
            convert_keypoints(np.zeros((136, 2)), np.zeros(17), COCO17, HALPE136)
        with pytest.raises(ValueError, match="scores"):
            convert_keypoints(np.zeros((17, 2)), np.zeros(16), COCO17, HALPE136)
        with pytest.raises(ValueError, match="covariances"):
            conversion(COCO17, HALPE136).apply_to_covariances(np.zeros((16, 2, 2)))
