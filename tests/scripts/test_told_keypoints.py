"""Keypoints that other networks tell: how their graphs are called, and how what they tell meets labels."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the [train] extra")


class Written:
    """A TensorFlow.js graph on its way to a file; the first half of its weights is kept as float16."""

    def __init__(self):
        self.nodes, self.weights = [{"name": "input", "op": "Placeholder"}], []

    def constant(self, name, values):
        self.nodes.append({"name": name, "op": "Const"})
        self.weights.append((name, np.asarray(values)))
        return name

    def node(self, name, operation, *inputs, **attributes):
        self.nodes.append({"name": name, "op": operation, "input": list(inputs), "attr": attributes})
        return name

    def convolution(self, name, pixels, filters, bias, stride=1, padding="SAME", ending=(), operation="_FusedConv2D"):
        inputs = [self.constant(f"{name}_filters", filters), self.constant(f"{name}_bias", bias)]
        text = {key: base64.b64encode(key.encode()).decode() for key in (padding, "BiasAdd", *ending)}
        attributes = {
            "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
            "padding": {"s": text[padding]},
            "fused_ops": {"list": {"s": [text["BiasAdd"], *(text[key] for key in ending)]}},
        }
        return self.node(name, operation, pixels, *inputs, **attributes)

    def save(self, path):
        entries, data = [], b""
        for number, (name, values) in enumerate(self.weights):
            kept = "int32" if values.dtype.kind == "i" else "float32"
            entry = {"name": name, "shape": list(values.shape), "dtype": kept}
            if kept == "float32" and number < len(self.weights) / 2:
                entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
                kept = "float16"
            data += values.astype(kept).tobytes()
            entries.append(entry)
        path.with_suffix(".bin").write_bytes(data)
        manifest = [{"paths": [path.with_suffix(".bin").name], "weights": entries}]
        path.write_text(json.dumps({"modelTopology": {"node": self.nodes}, "weightsManifest": manifest}))
        return path


def test_a_graph_is_called_as_tensorflow_would(tmp_path):
    from tfjs_graph import Graph

    graph = Written()
    graph.convolution("first", "input", np.ones((3, 3, 1, 1)), [0.5], stride=2)
    graph.convolution("low", "first", np.full((1, 1, 1, 2), [10.0, -1.0]), [0.0, 0.0], ending=["Relu6"])
    graph.node("padded", "Pad", "first", graph.constant("sides", np.array([[0, 0], [1, 0], [0, 1], [0, 1]])))
    graph.node("pooled", "MaxPool", "first", ksize={"list": {"i": ["1", "2", "2", "1"]}})
    graph.node("large", "ResizeBilinear", "pooled", graph.constant("size", np.array([2, 2])))
    graph.node("sum", "AddV2", "first", "large")
    filters = np.array([2.0, 3.0]).reshape(1, 1, 2, 1)
    graph.convolution("deep", "low", filters, [0.0, 1.0], operation="FusedDepthwiseConv2dNative")
    graph.node("flat", "Reshape", "low", graph.constant("shape", np.array([-1, 8])))
    called = Graph(graph.save(tmp_path / "graph.json"))
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4)
    first, low, padded, summed, deep, flat = (
        values.squeeze(0) for values in called(pixels, "first", ["first", "low", "padded", "sum", "deep", "flat"])
    )
    # An even side with a stride of 2: "same" adds a row and a column after the pixels, none before.
    assert first.tolist() == [[[45.5, 39.5], [66.5, 50.5]]]
    assert low[0].eq(6).all()
    assert low[1].eq(0).all()
    assert padded.shape == (2, 3, 3)
    assert padded[0].tolist() == [[0, 0, 0], [45.5, 39.5, 0], [66.5, 50.5, 0]]
    assert padded[1].eq(0).all()
    assert summed.tolist() == (first + 66.5).tolist()
    assert deep[0].eq(12).all()
    assert deep[1].eq(1).all()
    assert flat.tolist() == [6, 0] * 4  # channels innermost, as TensorFlow has them


def test_an_unknown_operation_is_named(tmp_path):
    from tfjs_graph import Graph

    graph = Written()
    graph.node("odd", "LRN", "input")
    with pytest.raises(ValueError, match=r"odd: LRN is no operation"):
        Graph(graph.save(tmp_path / "graph.json"))(torch.zeros(1, 1, 2, 2), "odd", ["odd"])


def test_movenet_takes_keypoints_near_where_the_middle_person_has_them(tmp_path):
    """Red says where people are, green where any keypoint is; each has its own expectation, two cells off."""
    from tell_keypoints import MoveNet

    graph = Written()
    scaled = graph.convolution("x/Conv1_relu/Relu6", "input", np.eye(3)[None, None], np.zeros(3))
    cells = graph.node("cells", "MaxPool", scaled, ksize={"list": {"i": ["1", "4", "4", "1"]}})
    red, green = np.zeros((1, 1, 3, 1)), np.zeros((1, 1, 3, 17))
    red[0, 0, 0], green[0, 0, 1] = 8, 8
    rows, columns = np.divmod(np.arange(17), 5)
    expected = np.stack([6 * rows - 8, 6 * columns - 12], 1)  # from the middle, in cells
    graph.convolution("x/center_0/conv/BiasAdd", cells, red, [0.0])
    graph.convolution(
        "x/kpt_regress_0/conv/BiasAdd", cells, np.zeros((1, 1, 3, 34)), (expected + np.array([2.0, -1.0])).ravel()
    )
    graph.convolution("x/kpt_heatmap_0/conv/BiasAdd", cells, green, np.zeros(17))
    graph.convolution("x/kpt_offset_0/conv/BiasAdd", cells, np.zeros((1, 1, 3, 34)), np.tile([0.25, 0.5], 17))
    graph.save(tmp_path / "movenet.json")
    crop = np.zeros((1, 256, 256, 3), np.uint8)
    crop[0, 128, 128, 0] = 255
    crop[0, 8, 8, 0] = 255  # somebody else
    for row, column in expected + 32:
        crop[0, 4 * row, 4 * column, 1] = 255
    (told,) = MoveNet(tmp_path / "movenet.json")(crop)
    np.testing.assert_allclose(told[:, 0], (expected[:, 1] + 32.5) * 4 - 0.5, atol=1e-3)
    np.testing.assert_allclose(told[:, 1], (expected[:, 0] + 32.25) * 4 - 0.5, atol=1e-3)
    np.testing.assert_allclose(told[:, 2], 1 / (1 + np.exp(-8)), atol=1e-3)


@given(angle=st.floats(-180, 180))
def test_crops_of_people_who_lean_show_them_upright(angle):
    from tell_keypoints import TILTED, upright

    from wholepose.geometry import crop_matrices, transform_points

    radians = np.radians(angle)
    up = np.array([np.sin(radians), -np.cos(radians)])
    labels = np.zeros((136, 3))
    labels[[5, 6], :2], labels[[11, 12], :2] = np.array([50, 50]) + 20 * up, np.array([50, 50]) - 20 * up
    labels[[5, 6, 11, 12], 2] = 2
    matrix = crop_matrices(np.array([[50.0, 50]]), np.array([[100.0, 100]]), (256, 256), upright(labels))[0]
    x, y = np.diff(transform_points(labels[[11, 5], :2], matrix), axis=0)[0]
    assert abs(np.degrees(np.arctan2(x, -y))) <= TILTED + 1e-3
    labels[5, 2] = 0
    assert upright(labels) == 0


def told_of(place, score=0.9, looks=2):
    told = np.zeros((looks, 136, 3))
    told[:, : len(place), :2], told[:, : len(place), 2] = place, score
    return told


BOX = np.array([0.0, 0, 100, 200])
PLACE = np.random.default_rng(0).uniform(20, 180, (26, 2))


@given(moved=st.floats(-15, 15), missing=st.sets(st.integers(0, 25), max_size=20))
def test_what_is_told_fills_gaps_and_refines_labels(moved, missing):
    from told_keypoints import combined

    labels, labelled = np.zeros((136, 2)), np.zeros(136, bool)
    labels[:26], labelled[:26] = PLACE + np.array([moved, 0]), True
    labelled[list(missing)], labels[list(missing)] = False, 0
    new, known = combined(labels, labelled, told_of(PLACE), BOX)
    assert known[:26].all()
    assert not known[26:].any()
    for number in range(26):
        expected = PLACE[number] + [0 if number in missing else moved / 4, 0]
        np.testing.assert_allclose(new[number], expected, atol=1e-6)


@pytest.mark.parametrize(
    "told",
    [
        told_of(PLACE + np.array([60, 0])),  # somebody else
        told_of(PLACE, score=0.2),  # nobody is sure
        np.stack([told_of(PLACE)[0], told_of(PLACE + np.array([0, 12]))[0]]),  # the looks differ
    ],
)
def test_what_is_doubtful_changes_nothing(told):
    from told_keypoints import combined

    labels, labelled = np.zeros((136, 2)), np.zeros(136, bool)
    labels[:17], labelled[:17] = PLACE[:17], True
    new, known = combined(labels, labelled, told, BOX)
    np.testing.assert_array_equal(new, labels)
    np.testing.assert_array_equal(known, labelled)


def test_faces_and_hands_are_told_where_that_is_surer():
    from told_keypoints import combined

    told = told_of(np.zeros((136, 2)), score=0.4)
    told[:, 100:, 2] = 0.6
    known = combined(np.zeros((136, 2)), np.zeros(136, bool), told, BOX)[1]
    assert np.flatnonzero(known).tolist() == [*range(26), *range(100, 136)]


def test_a_label_far_from_what_is_told_stays():
    from told_keypoints import combined

    labels, labelled = np.zeros((136, 2)), np.zeros(136, bool)
    labels[:17], labelled[:17] = PLACE[:17], True
    labels[9] += [50, 0]
    new, _ = combined(labels, labelled, told_of(PLACE), BOX)
    np.testing.assert_array_equal(new[9], labels[9])


def test_held_out_people_keep_their_labels_alone(tmp_path):
    """LSP's held-out people are measured against, so nothing told comes near them; others get it."""
    import cv2
    from pose_photos import read_photos

    from wholepose.evaluation.holdout import holdout_ids
    from wholepose.skeletons import HALPE136

    folder = tmp_path / "lsp"
    folder.mkdir()
    cv2.imwrite(str(folder / "photo.png"), np.zeros((200, 100, 3), np.uint8))
    ids = list(range(1000))
    keypoints = np.zeros((136, 3))
    keypoints[5:17] = np.column_stack([PLACE[5:17], np.full(12, 2)])
    document = {
        "categories": [{"keypoints": list(HALPE136.keypoint_names)}],
        "images": [{"id": number, "file_name": "photo.png"} for number in ids],
        "annotations": [
            {"id": number, "image_id": number, "keypoints": keypoints.ravel().tolist(), "bbox": [0, 0, 100, 200]}
            for number in ids
        ],
    }
    (folder / "train.json").write_text(json.dumps(document))
    kept, left = read_photos(folder, dict.fromkeys(ids, told_of(PLACE)))
    assert len(left) == len(holdout_ids(ids)) == 200
    assert all(person.labelled.sum() == 12 for person in left)
    assert all(person.labelled.sum() == 26 for person in kept)


def test_a_folder_without_anything_told_is_complained_of(tmp_path):
    from told_keypoints import read_told

    with pytest.raises(SystemExit, match=r"holds nothing told; scripts/tell_keypoints\.py writes it"):
        read_told(tmp_path / "missing")
    np.savez(tmp_path / "lsp.npz", ids=[7], keypoints=np.ones((1, 2, 136, 3)))
    told = read_told(tmp_path)
    assert told["lsp"][7].shape == (2, 136, 3)
