"""Weights stored in half precision, for a file of half the size; the arithmetic stays in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST_HALVED = 1000
"""Smaller tensors, such as biases and what the decoder needs, are kept: they weigh nothing in the file."""

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores the float32 weights of convolutions and matrix products as float16 and widens them in the graph.

    Engines widen them once, while they load the file, so that a run takes as long as before; each weight is off by at
    most 1 / 2048 of itself. Weights that float16 cannot hold (above 65504) stay float32.

    Args:
        model: Stays as it is; any ONNX model of opset 6 or later.

    Returns:
        A model with the same inputs, outputs and metadata.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    inputs = {value.name for value in graph.input}  # what a caller may replace must keep its type
    weights = {node.input[1] for node in graph.node if node.op_type in _WEIGHTED} - inputs
    casts = []
    for tensor in graph.initializer:
        if tensor.name not in weights or tensor.data_type != TensorProto.FLOAT:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < SMALLEST_HALVED or not np.abs(array).max() <= np.finfo(np.float16).max:
            continue
        name, stored = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"/{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(halved)
    return halved
