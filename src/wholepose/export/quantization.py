"""Static int8 quantisation of an exported model.

ONNX Runtime's quantiser does the work: weights become int8, a scale for each output channel, and activations uint8, the
pair that the VNNI instructions of processors multiply, with ranges from calibration crops. The first convolution, which
sees the picture, the last one, which gives the heatmaps, and the decoding stay in float.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from wholepose.errors import ConfigError, WeightsError
from wholepose.export.change import KeypointChange, check_change, keypoint_change
from wholepose.export.stored_weights import widen_weights
from wholepose.outputs import atomic_path
from wholepose.runtimes.onnx import OnnxRuntime
from wholepose.weights.card import ModelCard

MAX_CHANGE_PX = 0.5
"""Half of the keypoints may move by this much, crop pixels, before a quantised model is refused."""

FEWEST_CROPS = 8
CHECKED_SHARE = 4
"""Every fourth crop is not calibrated with; keypoints are compared on those."""

_QUANTIZED = ("Conv", "Add", "Relu", "Resize")


@dataclass(frozen=True)
class QuantizationReport:
    """What was written.

    Attributes:
        path: The file.
        size_bytes: Its size.
        calibration_crops: How many crops gave the ranges.
        change: How far keypoints moved on the other crops.
    """

    path: Path
    size_bytes: int
    calibration_crops: int
    change: KeypointChange


def quantize_onnx(
    source: str | Path, path: str | Path, crops: NDArray[np.uint8], *, max_change_px: float = MAX_CHANGE_PX
) -> QuantizationReport:
    """Writes an exported model in int8, and compares its keypoints with the original's.

    The new file has the same inputs and outputs. Its card has ``_int8`` behind the name and no metrics, which were the
    original's.

    Args:
        source: An ``.onnx`` file from ``export_onnx``, with full, half or byte weights.
        path: The ``.onnx`` file to write; it appears only after the comparison.
        crops: (N, H, W, 3) uint8 RGB, N >= 8, of people such as the model will see.
        max_change_px: Refuse a larger median distance of keypoints.

    Returns:
        Size and change.

    Raises:
        ConfigError: There are too few crops, or the file is quantised already.
        WeightsError: The file is not a wholepose model, or its keypoints move too far.
        OSError: The file cannot be written.
    """
    source, path = Path(source), Path(path)
    if len(crops) < FEWEST_CROPS:
        raise ConfigError(f"int8 needs at least {FEWEST_CROPS} crops of people to calibrate by, not {len(crops)}")
    checked = np.arange(len(crops)) % CHECKED_SHARE == CHECKED_SHARE - 1
    original = OnnxRuntime(source, device="cpu")
    before = original.predict(crops[checked])
    card = original.card
    del original  # before the calibration takes memory of its own
    model = widen_weights(onnx.load(source))
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ConfigError(f"{source}: is quantised already; give the file that it was made from")
    with tempfile.TemporaryDirectory(prefix="wholepose-int8-") as folder:
        full, small = Path(folder) / "full.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, full)
        with _quiet():
            _quantize(model, full, small, crops[~checked])
        quantized = onnx.load(small)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata |= _int8_card(card, int((~checked).sum())).to_metadata()
    helper.set_model_props(quantized, metadata)
    with atomic_path(path) as temporary:
        onnx.save(quantized, temporary)
        change = keypoint_change(before, OnnxRuntime(temporary, device="cpu").predict(crops[checked]))
        check_change(
            change,
            max_change_px,
            f"{path}: not written: in int8",
            "calibrate with more, or more typical, pictures, or keep the model in float",
        )
    return QuantizationReport(path, path.stat().st_size, int((~checked).sum()), change)


def _quantize(model: onnx.ModelProto, source: Path, path: Path, crops: NDArray[np.uint8]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # its package has no types
        """Gives one crop at a time, so that memory does not grow with their number."""

        def __init__(self) -> None:
            self._crops = iter(crops)

        def get_next(self) -> dict[str, Any] | None:
            crop = next(self._crops, None)
            return None if crop is None else {"crops": crop[None]}

    convolutions = [index for index, node in enumerate(model.graph.node) if node.op_type == "Conv"]
    if len(convolutions) < 3:
        raise WeightsError(f"{source.name}: has {len(convolutions)} convolutions; there is nothing to quantise")
    first, last = convolutions[0], convolutions[-1]
    inner = {node.name for node in model.graph.node[first + 1 : last]}
    quantize_static(
        source,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(_QUANTIZED),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in model.graph.node if node.name not in inner],
    )


def _int8_card(card: ModelCard, crops: int) -> ModelCard:
    note = f"Quantised to int8, calibrated by {crops} crops."
    unmeasured = replace(card, metrics={}, intervals={}, measured_by="")
    return replace(unmeasured, name=f"{card.name}_int8", description=f"{card.description} {note}".strip())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the quantiser's advice and ONNX Runtime's warning that ``flip_test`` has a default."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)
