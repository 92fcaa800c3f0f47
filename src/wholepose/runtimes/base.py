"""What every runtime is: crops in, keypoints out, whatever engine does the work between."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wholepose import geometry
from wholepose.errors import WeightsError
from wholepose.heatmaps import decode, merge_flipped
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard

if TYPE_CHECKING:
    from typing_extensions import Self

RuntimeName = Literal["auto", "onnx", "openvino", "torch"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, eq=False)
class CropPredictions:
    """Keypoints of a batch of crops.

    Convention:
        Crop pixels: the centre of the crop's top-left pixel is (0, 0), x runs right, y runs down.

    Attributes:
        keypoints: (B, K, 2) float32, (x, y) in crop pixels.
        scores: (B, K) float32, the raw heatmap peaks, which may exceed 1.
        covariances: (B, K, 2, 2) float32, crop px^2.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    covariances: NDArray[np.float32]

    @staticmethod
    def empty(num_keypoints: int) -> CropPredictions:
        """The answer for no crops: arrays of shape (0, K, ...)."""
        return CropPredictions(
            np.zeros((0, num_keypoints, 2), np.float32),
            np.zeros((0, num_keypoints), np.float32),
            np.zeros((0, num_keypoints, 2, 2), np.float32),
        )

    @staticmethod
    def concatenate(parts: list[CropPredictions]) -> CropPredictions:
        """Joins predictions of consecutive batches."""
        return CropPredictions(
            np.concatenate([part.keypoints for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.covariances for part in parts]),
        )


class Runtime(Protocol):
    """A model ready to run. Several threads may share one."""

    @property
    def card(self) -> ModelCard:
        """What the weights are: skeleton, input size, decoding, licence."""
        ...

    @property
    def name(self) -> str:
        """Engine and device, such as ``"onnx-cpu"``."""
        ...

    def predict(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropPredictions:
        """Finds the keypoints of each crop.

        Args:
            crops: (B, H, W, 3) uint8 RGB of the card's input size. B may be 0, which the model never sees.
            flip_test: Average with the prediction on the mirrored crops: slower, a little better.

        Returns:
            B x K keypoints in crop pixels.

        Raises:
            ValueError: The crops have another shape or dtype.
            WeightsError: The weights cannot do this, or answer with numbers that are not finite.
        """
        ...


@runtime_checkable
class OnCores(Protocol):
    """Something that works on a chosen number of CPU threads: a runtime, or a detector."""

    @property
    def threads(self) -> int:
        """How many CPU threads a call takes."""
        ...

    def with_threads(self, threads: int) -> Self:
        """The same, for callers who make several calls at once and leave each a share of the cores.

        Args:
            threads: How many CPU threads a call shall take.
        """
        ...


T = TypeVar("T")


def on_threads(thing: T, threads: int) -> T:
    """The same runtime or detector with so many CPU threads a call, where it knows how; else as it is."""
    return thing.with_threads(threads) if isinstance(thing, OnCores) else thing


def check_crops(crops: NDArray[np.uint8], card: ModelCard) -> None:
    """Raises ValueError unless crops are (B, H, W, 3) uint8 of the card's input size."""
    expected = (*card.input_size, 3)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != expected:
        raise ValueError(
            f"crops must be uint8 of shape (B, {', '.join(map(str, expected))}) for {card.name}, "
            f"not {crops.dtype} {crops.shape}"
        )


def check_predictions(predictions: CropPredictions, card: ModelCard) -> CropPredictions:
    """Passes predictions on, or raises WeightsError where they hold a NaN or an infinity."""
    for field in ("keypoints", "scores", "covariances"):
        if not np.isfinite(getattr(predictions, field)).all():
            raise WeightsError(
                f"{card.name}: the model's {field} are not all finite; its weights are damaged, or too large for the "
                "precision it runs in (try fp32)"
            )
    return predictions


def predict_in_halves(
    predict: Callable[[NDArray[np.uint8]], CropPredictions],
    crops: NDArray[np.uint8],
    is_out_of_memory: Callable[[Exception], bool],
) -> CropPredictions:
    """Runs a batch, and where the device's memory does not hold it, its halves, down to single crops.

    Args:
        predict: The engine; called with part of the crops.
        crops: (B, H, W, 3) uint8, B >= 1.
        is_out_of_memory: Tells the engine's memory errors from others.

    Returns:
        Predictions of all crops, in order.
    """
    parts: list[CropPredictions] = []
    start, size = 0, len(crops)
    while start < len(crops):
        try:
            parts.append(predict(crops[start : start + size]))
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = -(-size // 2)
            continue
        start += size
    return parts[0] if len(parts) == 1 else CropPredictions.concatenate(parts)


def predict_by_heatmaps(
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    crops: NDArray[np.uint8],
    card: ModelCard,
    *,
    flip_test: bool,
) -> CropPredictions:
    """Decodes, and flips, outside a graph that ends in heatmaps, by the rules of those that end in keypoints.

    Args:
        run: The engine: (B, H, W, 3) uint8 crops to (B, K, h, w) float32 heatmaps.
        crops: (B, H, W, 3) uint8, B >= 1.
        card: Says how to decode.
        flip_test: Average with the prediction on the mirrored crops.

    Raises:
        WeightsError: The heatmaps are not all finite.
    """
    heatmaps = run(crops)
    if flip_test:
        mirrored = run(np.ascontiguousarray(crops[:, :, ::-1]))
        heatmaps = merge_flipped(heatmaps, mirrored, get_skeleton(card.skeleton).flip_indices)
    if not np.isfinite(heatmaps).all():
        raise WeightsError(f"{card.name}: the model's heatmaps are not all finite; its weights are damaged")
    protocol: geometry.Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"
    decoded = decode(heatmaps, kernel=card.decode_kernel, protocol=protocol)
    stride = np.float32(card.stride)
    return CropPredictions(decoded.coordinates * stride, decoded.scores, decoded.covariances * stride**2)


def available_cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    with contextlib.suppress(AttributeError):  # only Linux knows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
