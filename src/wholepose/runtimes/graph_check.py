"""Whether a graph in a model file is what its model card says, whichever engine has read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wholepose.errors import WeightsError
from wholepose.weights.card import ModelCard


@dataclass(frozen=True)
class GraphPort:
    """An input or an output of a graph.

    Attributes:
        name: Its name.
        dtype: Such as ``"uint8"``.
        shape: Its sides; None or a text where a side is free.
    """

    name: str
    dtype: str
    shape: Sequence[int | str | None]


def check_graph(
    inputs: Sequence[GraphPort], outputs: Sequence[GraphPort], card: ModelCard, num_keypoints: int, path: Path
) -> bool:
    """Compares a graph with its card.

    Args:
        inputs: What the graph takes.
        outputs: What it gives.
        card: The card in the same file.
        num_keypoints: Of the card's skeleton.
        path: Names the file in errors.

    Returns:
        Whether the graph ends in heatmaps instead of keypoints.

    Raises:
        WeightsError: An input or output is missing, or differs from what the card says.
    """
    taken = {port.name: port for port in inputs}
    given = {port.name: port for port in outputs}
    if not set(taken) <= {"crops", "flip_test"} or "crops" not in taken:
        raise WeightsError(f"{path}: a wholepose model's input is 'crops', not {', '.join(taken) or 'nothing'}")
    height, width = card.input_size
    _check_port(path, taken["crops"], "uint8", (None, height, width, 3))
    if "heatmaps" in given:
        size = (height // card.stride, width // card.stride)
        _check_port(path, given["heatmaps"], "float32", (None, num_keypoints, *size))
        return True
    expected = {"keypoints": (2,), "scores": (), "covariances": (2, 2)}
    missing = [name for name in expected if name not in given]
    if missing:
        raise WeightsError(
            f"{path}: the graph lacks the output {missing[0]!r} (it has {', '.join(given)}); "
            "write it with `wholepose export`"
        )
    for name, trailing in expected.items():
        _check_port(path, given[name], "float32", (None, num_keypoints, *trailing))
    return False


def _check_port(path: Path, port: GraphPort, dtype: str, shape: tuple[int | None, ...]) -> None:
    """Raises WeightsError where an input or output differs from what the card says; free sides fit anything."""
    fits = len(port.shape) == len(shape) and all(
        wanted is None or not isinstance(found, int) or found == wanted
        for found, wanted in zip(port.shape, shape, strict=True)
    )
    if fits and isinstance(port.shape[0], int):
        raise WeightsError(
            f"{path}: {port.name!r} takes only batches of {port.shape[0]}; export it again with a free batch size"
        )
    if not fits or port.dtype != dtype:
        wanted_text = ", ".join("batch" if side is None else str(side) for side in shape)
        raise WeightsError(
            f"{path}: {port.name!r} is {port.dtype} {list(port.shape)}, but by its model card it must be {dtype} "
            f"[{wanted_text}]; export it again"
        )
