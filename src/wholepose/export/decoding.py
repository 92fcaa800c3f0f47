"""DARK decoding in an ONNX graph.

The rules are those of :mod:`wholepose.heatmaps`, whose comments give the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from wholepose.export.graph import GraphBuilder
from wholepose.geometry import Protocol
from wholepose.heatmaps import MAX_STEP_CELLS
from wholepose.models.decode import FLAT_DETERMINANT, LOG_FLOOR, REACH, blur_matrix


@dataclass(frozen=True)
class HeatmapShape:
    """Static side of a (batch, K, h, w) tensor."""

    keypoints: int
    height: int
    width: int


def add_decode(
    graph: GraphBuilder, heatmaps: str, doubt: str, shape: HeatmapShape, *, kernel: int, stride: int, protocol: Protocol
) -> None:
    """Adds the DARK decoder with the graph's outputs ``keypoints``, ``scores`` and ``covariances``.

    Args:
        graph: Takes the nodes.
        heatmaps: Name of the (batch, K, h, w) float32 heatmaps.
        doubt: Name of a (batch, 1, 1) float32 tensor that is added to the scores: 0, or NaN to say that they are void.
        shape: Its static side.
        kernel: Size of the blur.
        stride: Crop pixels a cell.
        protocol: See ``wholepose.heatmaps.decode``.
    """
    add, f64, i64 = graph.add, graph.float64, graph.int64
    last_x, last_y = shape.width - 1, shape.height - 1

    # The highest cell: first its row, then its column, since ArgMax over a whole map is slow.
    row_peaks = add("ReduceMax", heatmaps, axes=[3], keepdims=0)
    y = add("ArgMax", row_peaks, axis=2, keepdims=1)
    score = add("GatherElements", row_peaks, y, axis=2)
    add("Squeeze", add("Add", score, doubt), i64([2]), name="scores")
    flat = add("Reshape", heatmaps, i64([0, shape.keypoints, shape.height * shape.width]))
    row = add("Add", add("Mul", y, i64(shape.width)), i64(np.arange(shape.width)))
    x = add("ArgMax", add("GatherElements", flat, row, axis=2), axis=2, keepdims=1)

    reach = kernel // 2 + REACH
    side = 2 * reach + 1
    offsets = i64(np.arange(-reach, reach + 1))
    columns, rows = add("Add", x, offsets), add("Add", y, offsets)
    inner_columns = add("Min", add("Max", columns, i64(0)), i64(last_x))
    inner_rows = add("Min", add("Max", rows, i64(0)), i64(last_y))
    cells = add(
        "Add",
        add("Unsqueeze", add("Mul", inner_rows, i64(shape.width)), i64([3])),
        add("Unsqueeze", inner_columns, i64([2])),
    )
    cells = add("Reshape", cells, i64([0, shape.keypoints, side * side]))
    windows = add("GatherElements", flat, cells, axis=2)

    interior = add(
        "And",
        *(
            add("And", add("Greater", value, i64(1)), add("Less", value, i64(last - 1)))
            for value, last in ((x, last_x), (y, last_y))
        ),
    )
    # Windows of peaks far from the border are zero beyond it; the others keep its edge values.
    in_map = add(
        "And",
        add("Unsqueeze", add("Equal", inner_rows, rows), i64([3])),
        add("Unsqueeze", add("Equal", inner_columns, columns), i64([2])),
    )
    kept = add("Or", in_map, add("Unsqueeze", add("Not", interior), i64([3])))
    padded = add("Reshape", add("Cast", windows, to=TensorProto.DOUBLE), i64([0, shape.keypoints, side, side]))
    padded = add("Where", kept, padded, f64(0.0))
    blur = blur_matrix(kernel)
    blurred = add("MatMul", f64(blur), add("MatMul", padded, f64(blur.T)))
    logs = add("Log", add("Max", blurred, f64(LOG_FLOOR)))
    logs = add("Reshape", logs, i64([0, shape.keypoints, (2 * REACH + 1) ** 2]))

    derivatives = add("MatMul", logs, f64(_derivative_matrix()))
    dx, dy, dxx, dyy, dxy = (add("Gather", derivatives, i64([index]), axis=2) for index in range(5))
    determinant = add("Sub", add("Mul", dxx, dyy), add("Mul", dxy, dxy))
    safe = add("Where", add("Equal", determinant, f64(0.0)), f64(np.inf), determinant)
    spread_xx = add("Neg", add("Div", dyy, safe))
    spread_xy = add("Div", dxy, safe)
    spread_yy = add("Neg", add("Div", dxx, safe))
    steps = add(
        "Concat",
        add("Add", add("Mul", spread_xx, dx), add("Mul", spread_xy, dy)),
        add("Add", add("Mul", spread_xy, dx), add("Mul", spread_yy, dy)),
        axis=2,
    )
    definite = add("And", add("Less", dxx, f64(0.0)), add("Greater", determinant, f64(FLAT_DETERMINANT)))
    if protocol == "mmpose0":
        moves = add("Where", interior, steps, f64(0.0))
    else:
        quarter = _add_quarter_offsets(graph, windows, side)
        length = add("ReduceSum", add("Mul", steps, steps), i64([2]), keepdims=1)
        believed = add("And", definite, add("LessOrEqual", length, f64(MAX_STEP_CELLS**2)))
        moves = add("Where", believed, steps, quarter)
    cell = add("Cast", add("Concat", x, y, axis=2), to=TensorProto.DOUBLE)
    found = add("Greater", score, graph.float32(0.0))
    coordinates = add("Where", found, add("Add", cell, moves), f64(-1.0))
    add("Cast", add("Mul", coordinates, f64(float(stride))), to=TensorProto.FLOAT, name="keypoints")

    guess = f64(np.array([shape.width**2 / 12, 0, 0, shape.height**2 / 12]))
    spread = add("Concat", spread_xx, spread_xy, spread_xy, spread_yy, axis=2)
    covariances = add("Mul", add("Where", definite, spread, guess), f64(float(stride**2)))
    covariances = add("Reshape", covariances, i64([0, shape.keypoints, 2, 2]))
    add("Cast", covariances, to=TensorProto.FLOAT, name="covariances")


def _add_quarter_offsets(graph: GraphBuilder, windows: str, side: int) -> str:
    """Names quarters of a cell towards the higher neighbour, (batch, K, 2) float64, from (batch, K, side^2) windows."""
    middle = side * side // 2

    def towards(step: int) -> str:
        ahead, behind = (
            graph.add("Gather", windows, graph.int64([index]), axis=2) for index in (middle + step, middle - step)
        )
        return graph.add("Sign", graph.add("Sub", ahead, behind))

    signs = graph.add("Cast", graph.add("Concat", towards(1), towards(side), axis=2), to=TensorProto.DOUBLE)
    return graph.add("Mul", signs, graph.float64(0.25))


def _derivative_matrix() -> NDArray[np.float64]:
    """(25, 5): central differences dx, dy (step 1), dxx, dyy (step 2) and dxy (step 1) of a 5 x 5 window."""
    matrix = np.zeros((5, 5, 5))
    matrix[2, 3, 0], matrix[2, 1, 0] = 0.5, -0.5
    matrix[3, 2, 1], matrix[1, 2, 1] = 0.5, -0.5
    matrix[2, 4, 2], matrix[2, 2, 2], matrix[2, 0, 2] = 0.25, -0.5, 0.25
    matrix[4, 2, 3], matrix[2, 2, 3], matrix[0, 2, 3] = 0.25, -0.5, 0.25
    matrix[3, 3, 4], matrix[1, 1, 4], matrix[1, 3, 4], matrix[3, 1, 4] = 0.25, 0.25, -0.25, -0.25
    return matrix.reshape(25, 5)
