"""Small ONNX models of the layout that `wholepose export` writes, whose answers can be worked out by hand."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard

OFFSET_PX = 0.25
"""Keypoint k of a centroid model lies this many crop pixels times k % 8 to the right of the centroid."""
COVARIANCE = np.array([[4.0, 1.0], [1.0, 9.0]], np.float32)
PEAK = 1.2
"""Score of a centroid model for a crop that is white somewhere: above 1, as raw heatmap peaks may be."""


def card_of(**changes) -> ModelCard:
    fields = {"name": "centroid", "arch": "centroid", "skeleton": "halpe136", "input_size": (128, 96)}
    return ModelCard(**(fields | changes))


def save(
    path: Path, card: ModelCard | None, nodes, inputs, outputs, constants, *, metadata=None, flip_test=None
) -> Path:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    if flip_test is not None:
        initializers.append(numpy_helper.from_array(np.array(flip_test), "flip_test"))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    words = dict(card.to_metadata() if card is not None else {}) | (metadata or {})
    helper.set_model_props(model, words)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def save_centroid_model(
    path: Path, *, card: ModelCard | None = None, flip_test: bool | None = False, **changes
) -> Path:
    """Writes a model that answers with the centre of mass of the crop's brightness.

    The score is PEAK times the brightest value, plus 0.25 with the flip test; the covariance is COVARIANCE.
    """
    card = card or card_of(**changes)
    height, width = card.input_size
    count = get_skeleton(card.skeleton).num_keypoints
    offsets = np.zeros((1, count, 2), np.float32)
    offsets[0, :, 0] = OFFSET_PX * (np.arange(count) % 8)
    constants = {
        "pixels": np.array([1, 2]),
        "columns": np.arange(width, dtype=np.float32).reshape(1, 1, width),
        "rows": np.arange(height, dtype=np.float32).reshape(1, height, 1),
        "tiny": np.float32(1e-6),
        "white": np.float32(255),
        "offsets": offsets,
        "peaks": np.full((1, count), PEAK, np.float32),
        "spread": np.broadcast_to(COVARIANCE, (1, count, 2, 2)).copy(),
        "point_shape": np.array([-1, 1, 2]),
        "one": np.array([-1, 1, 1, 1]),
        "bonus": np.float32(0.25),
        "axis1": np.array([1]),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["crops"], ["floats"], to=TensorProto.FLOAT),
        node("ReduceMean", ["floats"], ["grey"], axes=[3], keepdims=0),
        node("ReduceSum", ["grey", "pixels"], ["bare_mass"], keepdims=0),
        node("Add", ["bare_mass", "tiny"], ["mass"]),
        node("Mul", ["grey", "columns"], ["by_column"]),
        node("Mul", ["grey", "rows"], ["by_row"]),
        node("ReduceSum", ["by_column", "pixels"], ["sum_x"], keepdims=0),
        node("ReduceSum", ["by_row", "pixels"], ["sum_y"], keepdims=0),
        node("Div", ["sum_x", "mass"], ["x"]),
        node("Div", ["sum_y", "mass"], ["y"]),
        node("Unsqueeze", ["x", "axis1"], ["x1"]),
        node("Unsqueeze", ["y", "axis1"], ["y1"]),
        node("Concat", ["x1", "y1"], ["xy"], axis=1),
        node("Reshape", ["xy", "point_shape"], ["point"]),
        node("Add", ["point", "offsets"], ["keypoints"]),
        node("ReduceMax", ["grey"], ["brightest"], axes=[1, 2], keepdims=0),
        node("Div", ["brightest", "white"], ["peak"]),
        node("Unsqueeze", ["peak", "axis1"], ["peak1"]),
        node("Mul", ["peak1", "peaks"], ["plain_scores" if flip_test is not None else "scores"]),
        node("Reshape", ["peak1", "one"], ["peak4"]),
        node("Sub", ["peak4", "peak4"], ["zero4"]),
        node("Add", ["zero4", "spread"], ["covariances"]),
    ]
    inputs = [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["batch", height, width, 3])]
    if flip_test is not None:
        inputs.append(helper.make_tensor_value_info("flip_test", TensorProto.BOOL, []))
        nodes.append(node("Cast", ["flip_test"], ["flipped"], to=TensorProto.FLOAT))
        nodes.append(node("Mul", ["flipped", "bonus"], ["extra"]))
        nodes.append(node("Add", ["plain_scores", "extra"], ["scores"]))
    outputs = [
        helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["batch", count, 2]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", count]),
        helper.make_tensor_value_info("covariances", TensorProto.FLOAT, ["batch", count, 2, 2]),
    ]
    return save(path, card, nodes, inputs, outputs, constants, metadata={"outputs": "keypoints"}, flip_test=flip_test)


def save_heatmap_model(path: Path, *, card: ModelCard | None = None, scale: float = 1 / 255, **changes) -> Path:
    """Writes a ``--raw`` model: every heatmap is the red channel of every fourth pixel, times a scale."""
    card = card or card_of(**changes)
    height, width = card.input_size
    count = get_skeleton(card.skeleton).num_keypoints
    constants = {
        "starts": np.array([0, 0, 0]),
        "ends": np.array([height, width, 1]),
        "axes": np.array([1, 2, 3]),
        "steps": np.array([4, 4, 1]),
        "scale": np.full((1, count, 1, 1), scale, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["floats", "starts", "ends", "axes", "steps"], ["red"]),
        helper.make_node("Transpose", ["red"], ["map"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["map", "scale"], ["heatmaps"]),
    ]
    inputs = [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["batch", height, width, 3])]
    outputs = [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", count, height // 4, width // 4])]
    return save(path, card, nodes, inputs, outputs, constants, metadata={"outputs": "heatmaps"})


def blob_image(size: tuple[int, int], center: tuple[float, float], sigma_px: float = 6.0) -> np.ndarray:
    """A black (H, W, 3) picture with a white Gaussian blob at (x, y)."""
    y, x = np.mgrid[: size[0], : size[1]]
    blob = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma_px**2))
    return np.repeat((255 * blob).round().astype(np.uint8)[..., None], 3, axis=2)
