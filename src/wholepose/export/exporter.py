"""Exporting a model: one ONNX file from crops to keypoints, compared with PyTorch before it appears."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from wholepose.errors import WeightsError
from wholepose.export.change import KeypointChange, check_change, keypoint_change
from wholepose.export.decoding import HeatmapShape, add_decode
from wholepose.export.graph import GraphBuilder
from wholepose.export.network import add_network, add_network_with_flip_test
from wholepose.export.pictures import draw_pictures
from wholepose.export.stored_weights import StoredWeights, byte_weights, halve_weights
from wholepose.export.verification import (
    MAX_DIFFERENCE_PX,
    MAX_SCORE_DIFFERENCE,
    Comparison,
    compare,
)
from wholepose.geometry import Protocol
from wholepose.models.checkpoints import check_card
from wholepose.models.folding import fold_batch_norms
from wholepose.models.posenet import PoseNet
from wholepose.outputs import atomic_path
from wholepose.runtimes.base import CropPredictions
from wholepose.runtimes.onnx import OnnxRuntime
from wholepose.skeletons import get_skeleton
from wholepose.weights import read_card
from wholepose.weights.card import ModelCard

OUTPUTS_KEY = "outputs"
"""Key in the file's metadata that says ``"keypoints"`` or ``"heatmaps"``."""

MAX_ROUNDING_PX = {"half": MAX_DIFFERENCE_PX, "byte": 0.25}
"""Half of the keypoints may move by this much, crop pixels, before rounded weights are refused."""

_PICTURES = 8
"""By which the effect of rounding is measured."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        size_bytes: Its size.
        comparison: How far it is from PyTorch; with smaller weights, how far it was before they were rounded.
        rounding: What rounding the weights changed on drawn pictures; None where they were not rounded.
    """

    path: Path
    size_bytes: int
    comparison: Comparison
    rounding: KeypointChange | None = None


def export_onnx(
    model: PoseNet,
    card: ModelCard,
    path: str | Path,
    *,
    flip_test: bool = False,
    raw: bool = False,
    weights: StoredWeights = "full",
) -> ExportReport:
    """Writes a model as one ONNX file, and compares it with PyTorch in ONNX Runtime.

    The graph takes ``crops`` (batch, H, W, 3) uint8 RGB and gives ``keypoints`` (batch, K, 2) in crop pixels,
    ``scores`` (batch, K) raw peaks and ``covariances`` (batch, K, 2, 2) in crop px^2, float32, by the card's decode
    kernel and protocol. Its input ``flip_test``, a bool, may be left out. The card is in the file's metadata.

    Convention:
        Crop pixels: the centre of the crop's top-left pixel is (0, 0), x runs right, y runs down.

    Args:
        model: Stays as it is.
        card: Describes the model.
        path: The ``.onnx`` file; it appears only after the comparison.
        flip_test: What the graph does when the caller leaves ``flip_test`` out.
        raw: The graph ends in ``heatmaps`` (batch, K, H / 4, W / 4) instead, and has no flip test.
        weights: ``"half"`` and ``"byte"`` store them in half or a quarter of the size; see ``halve_weights`` and
            ``byte_weights``.

    Returns:
        Size and differences.

    Raises:
        ValueError: ``flip_test`` and ``raw`` are both asked for.
        WeightsError: The card does not fit the model, or the file's answers differ from PyTorch's by more than 0.05 px
            or a score of 0.001; or rounding the weights moves half of the keypoints by more than 0.05 px (bytes: 0.25).
        OSError: The file cannot be written.
    """
    if flip_test and raw:
        raise ValueError("a graph that ends in raw heatmaps has no flip test; leave one of the two out")
    check_card(card, card.name)
    num_keypoints = get_skeleton(card.skeleton).num_keypoints
    if num_keypoints != model.num_keypoints:
        raise WeightsError(
            f"{card.name}: the model gives {model.num_keypoints} keypoints, but {card.skeleton} has {num_keypoints}"
        )
    path = Path(path)
    rounding: KeypointChange | None = None
    with atomic_path(path) as temporary:
        graph = _build(model, card, flip_test, raw)
        onnx.save(graph, temporary)
        comparison = compare(model, card, temporary)
        if not (
            comparison.max_difference_px <= MAX_DIFFERENCE_PX
            and comparison.max_score_difference <= MAX_SCORE_DIFFERENCE
        ):
            raise WeightsError(
                f"{path}: not written: ONNX Runtime and PyTorch differ by {comparison.max_difference_px:.4f} px "
                f"(at most {MAX_DIFFERENCE_PX}) and {comparison.max_score_difference:.2g} in score (at most "
                f"{MAX_SCORE_DIFFERENCE}); try other versions of onnxruntime and torch, and report this"
            )
        if weights != "full":
            rounding = _save_rounded(graph, temporary, path, weights)
    return ExportReport(path, path.stat().st_size, comparison, rounding)


def halve_onnx(source: str | Path, path: str | Path) -> KeypointChange:
    """Writes an exported model with half weights; see ``halve_weights``.

    Args:
        source: An ``.onnx`` file from ``export_onnx``.
        path: The ``.onnx`` file to write.

    Returns:
        What rounding the weights changed on drawn pictures.

    Raises:
        WeightsError: The file is not a wholepose model, or rounding moves half of the keypoints by more than 0.05 px.
        OSError: The file cannot be written.
    """
    source, path = Path(source), Path(path)
    read_card(source)
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
        return _save_rounded(onnx.load(source), temporary, path, "half")


def _save_rounded(
    graph: onnx.ModelProto, temporary: Path, path: Path, weights: Literal["half", "byte"]
) -> KeypointChange:
    """Writes a model with rounded weights over the file that holds it with full ones."""
    before = _predict_pictures(temporary)
    onnx.save(halve_weights(graph) if weights == "half" else byte_weights(graph), temporary)
    change = keypoint_change(before, _predict_pictures(temporary))
    most = MAX_ROUNDING_PX[weights]
    check_change(change, most, f"{path}: not written: with {weights} weights", "export it with full weights")
    return change


def _predict_pictures(path: Path) -> CropPredictions:
    runtime = OnnxRuntime(path, device="cpu")
    return runtime.predict(draw_pictures(_PICTURES, runtime.card.input_size))


def _build(model: PoseNet, card: ModelCard, flip_test: bool, raw: bool) -> onnx.ModelProto:
    height, width = card.input_size
    skeleton = get_skeleton(card.skeleton)
    shape = HeatmapShape(skeleton.num_keypoints, height // card.stride, width // card.stride)
    folded = fold_batch_norms(model).cpu()
    graph = GraphBuilder()
    crops = graph.input("crops", TensorProto.UINT8, ["batch", height, width, 3])

    metadata = {**card.to_metadata(), OUTPUTS_KEY: "heatmaps" if raw else "keypoints"}
    if raw:
        add_network(graph, folded, crops, "heatmaps")
        return graph.build({"heatmaps": ["batch", shape.keypoints, shape.height, shape.width]}, metadata)
    flip = graph.input("flip_test", TensorProto.BOOL, [], default=np.array(flip_test))
    heatmaps, doubt = add_network_with_flip_test(graph, folded, crops, flip, card.input_size, skeleton.flip_indices)
    protocol: Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"
    add_decode(graph, heatmaps, doubt, shape, kernel=card.decode_kernel, stride=card.stride, protocol=protocol)
    outputs: dict[str, list[int | str]] = {
        "keypoints": ["batch", shape.keypoints, 2],
        "scores": ["batch", shape.keypoints],
        "covariances": ["batch", shape.keypoints, 2, 2],
    }
    return graph.build(outputs, metadata)
