"""Weights stored in half or a quarter of their size, for a smaller file; the arithmetic stays in float32.

Engines bring the weights back to float32 once, while they load the file, so that a run takes as long as before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

StoredWeights = Literal["full", "half", "byte"]
"""How weights lie in a file: float32, float16, or int8 with a scale for each output channel."""

SMALLEST_STORED = 1000
"""Smaller tensors, such as biases and what the decoder needs, are kept: they weigh nothing in the file."""

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LARGEST_BYTE = 127


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores the float32 weights of convolutions and matrix products as float16 and widens them in the graph.

    Each weight is off by at most 1 / 2048 of itself. Weights that float16 cannot hold (above 65504) stay float32.

    Args:
        model: Stays as it is; any ONNX model of opset 6 or later.

    Returns:
        A model with the same inputs, outputs and metadata.
    """
    return _stored(model, frozenset())


def byte_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores the float32 weights of convolutions as int8, a scale for each output channel, others as float16.

    Each weight is off by at most 1 / 254 of the largest of its output channel. The first convolution, which sees the
    picture, and the last one, which gives the heatmaps, keep float16. Unlike ``quantize_onnx`` this leaves activations
    and arithmetic alone.

    Args:
        model: Stays as it is; any ONNX model of opset 7 or later.

    Returns:
        A model with the same inputs, outputs and metadata.
    """
    convolutions = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return _stored(model, frozenset(convolutions[1:-1]))


def widen_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undoes ``halve_weights`` and ``byte_weights``: weights are float32 again, though of the rounded values.

    Args:
        model: Stays as it is.
    """
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    graph = widened.graph
    small = (TensorProto.FLOAT16, TensorProto.INT8)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    whole: dict[str, onnx.TensorProto] = {}
    for node in nodes:
        source = tensors.get(node.input[0]) if node.input else None
        if node.op_type == "Cast" and source is not None and source.data_type in small:
            array = numpy_helper.to_array(source).astype(np.float32)
            source.CopyFrom(numpy_helper.from_array(array, node.output[0]))
            whole[node.output[0]] = source
        elif node.op_type == "Mul" and node.input[0] in whole and node.input[1] in tensors:
            bytes_, scales = (numpy_helper.to_array(t) for t in (whole[node.input[0]], tensors[node.input[1]]))
            whole[node.input[0]].CopyFrom(numpy_helper.from_array(bytes_ * scales, node.output[0]))
            graph.initializer.remove(tensors[node.input[1]])
        else:
            graph.node.append(node)
    return widened


def _stored(model: onnx.ModelProto, as_bytes: Collection[str]) -> onnx.ModelProto:
    """The model with its weights as float16, those of these names as int8."""
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    graph = smaller.graph
    inputs = {value.name for value in graph.input}  # what a caller may replace must keep its type
    weights = {node.input[1] for node in graph.node if node.op_type in _WEIGHTED} - inputs
    nodes, scales = [], []
    for tensor in graph.initializer:
        if tensor.name not in weights or tensor.data_type != TensorProto.FLOAT:
            continue
        array, name = numpy_helper.to_array(tensor), tensor.name
        if array.size < SMALLEST_STORED or not np.abs(array).max() <= np.finfo(np.float16).max:
            continue
        if name in as_bytes:
            rounded, scale = _rounded(array)
            tensor.CopyFrom(numpy_helper.from_array(rounded, f"{name}_byte"))
            scales.append(numpy_helper.from_array(scale, f"{name}_scale"))
            names = [f"{name}_byte"], [f"{name}_whole"]
            nodes.append(helper.make_node("Cast", *names, name=f"/{name}_whole", to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name], name=f"/{name}"))
        else:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"/{name}", to=TensorProto.FLOAT))
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(scales)
    onnx.checker.check_model(smaller)
    return smaller


def _rounded(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 weights, and the scale of each first index, (O, 1, ...), that they are to be multiplied with."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scale = np.where(largest > 0, largest / _LARGEST_BYTE, 1).astype(np.float32)
    return np.round(weights / scale).astype(np.int8), scale
