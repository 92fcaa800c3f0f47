"""Writing an ONNX graph node by node.

The graphs are written by hand rather than traced: an HRNet has five kinds of layers, the result does not depend on the
version of a tracer, and a W48 takes seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Old enough for every ONNX Runtime since 1.12 and its relatives."""

IR_VERSION = 8


_SMALL = 1000


class GraphBuilder:
    """Collects nodes and constants; a tensor in the graph is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes] | None, str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: int, shape: Sequence[int | str], default: NDArray[Any] | None = None) -> str:
        """Declares an input of the graph; one with a default may be left out by the caller."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        if default is not None:
            self._initializers.append(numpy_helper.from_array(default, name))
        return name

    def float32(self, value: ArrayLike) -> str:
        """Adds a float32 constant of the value's shape."""
        return self._constant(np.array(value, np.float32))

    def float64(self, value: ArrayLike) -> str:
        """Adds a float64 constant of the value's shape."""
        return self._constant(np.array(value, np.float64))

    def int64(self, value: ArrayLike) -> str:
        """Adds an int64 constant of the value's shape."""
        return self._constant(np.array(value, np.int64))

    def _constant(self, array: NDArray[Any]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= _SMALL else None
        if key in self._constants:  # equal ones are written once, weights excepted
            return self._constants[key]
        name = f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(array, name))
        if key is not None:
            self._constants[key] = name
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node with one output.

        Args:
            operator: Of the standard ONNX set, such as ``"Conv"``.
            inputs: Names of tensors; an empty name leaves an optional input out.
            name: Of the output; one is made up when empty.
            attributes: Of the node.

        Returns:
            The name of the output.
        """
        output = name or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=f"/{output}", **attributes))
        return output

    def build(self, outputs: Mapping[str, Sequence[int | str]], metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Puts the model together.

        Args:
            outputs: Shapes of the float32 outputs by name.
            metadata: Written into the file's ``metadata_props``.

        Returns:
            A checked model.
        """
        graph = helper.make_graph(
            self._nodes,
            "wholepose",
            self._inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="wholepose")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model
