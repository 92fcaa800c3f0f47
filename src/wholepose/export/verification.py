"""Comparing an exported file with the PyTorch model it came from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholepose.errors import WeightsError
from wholepose.export.pictures import draw_pictures
from wholepose.geometry import Protocol
from wholepose.models.decode import DecodedTensors, decode, merge_flipped, normalize
from wholepose.models.posenet import PoseNet
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard

MAX_DIFFERENCE_PX = 0.05
MAX_SCORE_DIFFERENCE = 1e-3
"""Of peaks of 1; of higher ones in proportion."""

_PICTURES = 2
_ROUNDING = 1e-5
"""What two correct programs may differ by, of the largest value in a person's heatmaps; float32 gives about 2e-6."""

_ROUNDING_TRIALS = 12
"""Each of them moves one of two equal peaks above the other by even chances."""
_MOVED_PX = 0.01
_SEED = 7
_ERRORS_ONLY = 3  # it warns that flip_test, which has a default, can be overridden; it is meant to be


@dataclass(frozen=True)
class Comparison:
    """How far ONNX Runtime and PyTorch are apart, over pictures with and without the flip test.

    Attributes:
        keypoints: How many keypoints were compared.
        undetermined: How many more were found whose place their heatmap does not determine: rounding alone moves them,
            as between two equally high peaks. They are compared by their scores only.
        max_difference_px: Largest distance of a keypoint, crop pixels.
        max_score_difference: Largest difference of a score, undetermined keypoints included; of peaks above 1 relative.
    """

    keypoints: int
    undetermined: int
    max_difference_px: float
    max_score_difference: float


def compare(model: PoseNet, card: ModelCard, path: Path) -> Comparison:
    """Runs a model in PyTorch and an ONNX file in ONNX Runtime on the same pictures.

    Args:
        model: The source of the file.
        card: Its card.
        path: The file, with keypoints or heatmaps as outputs.

    Raises:
        WeightsError: ONNX Runtime cannot run the file.
    """
    crops = draw_pictures(_PICTURES, card.input_size)
    reference = copy.deepcopy(model).to("cpu").float().eval()
    protocol: Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"
    flip_indices = torch.from_numpy(get_skeleton(card.skeleton).flip_indices.copy())
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        raw = session.get_outputs()[0].name == "heatmaps"
        if raw:
            found = [_run_raw(session, crops), _run_raw(session, crops[:, :, ::-1])]
            found[1] = merge_flipped(found[0], found[1], flip_indices)
            answers = [_decode(maps, card, protocol) for maps in found]
        else:
            answers = [_run(session, crops, flip_test) for flip_test in (False, True)]
    except Exception as error:  # ONNX Runtime has a dozen types without a base of their own
        raise WeightsError(f"{card.name}: ONNX Runtime cannot run the exported file: {error}") from error
    with torch.inference_mode():
        first, second = (reference(normalize(torch.from_numpy(batch.copy()))) for batch in (crops, crops[:, :, ::-1]))
        expected = [first, merge_flipped(first, second, flip_indices)]
        parts = [_compare(maps, *answer, card, protocol) for maps, answer in zip(expected, answers, strict=True)]
    return Comparison(
        sum(part.keypoints for part in parts),
        sum(part.undetermined for part in parts),
        max(part.max_difference_px for part in parts),
        max(part.max_score_difference for part in parts),
    )


def _run(session: onnxruntime.InferenceSession, crops: NDArray[np.uint8], flip_test: bool) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in crop pixels and scores (N, K) of a file that ends in keypoints."""
    names = ["keypoints", "scores"]
    keypoints, scores = session.run(names, {"crops": crops, "flip_test": np.array(flip_test)})
    return torch.from_numpy(keypoints), torch.from_numpy(scores)


def _run_raw(session: onnxruntime.InferenceSession, crops: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(session.run(["heatmaps"], {"crops": np.ascontiguousarray(crops)})[0])


def _decode(heatmaps: Tensor, card: ModelCard, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in crop pixels and scores (N, K)."""
    decoded: DecodedTensors = decode(heatmaps, kernel=card.decode_kernel, protocol=protocol)
    return decoded.coordinates * card.stride, decoded.scores


def _compare(heatmaps: Tensor, keypoints: Tensor, scores: Tensor, card: ModelCard, protocol: Protocol) -> Comparison:
    """Compares PyTorch's heatmaps with what the file answered."""
    expected, expected_scores = _decode(heatmaps, card, protocol)
    random = torch.Generator().manual_seed(_SEED)
    scale = _ROUNDING * heatmaps.abs().amax(dim=(1, 2, 3), keepdim=True)
    determined = torch.ones(expected.shape[:2], dtype=torch.bool)
    for _ in range(_ROUNDING_TRIALS):
        noise = torch.randn(heatmaps.shape, generator=random)
        moved = _decode(heatmaps + scale * noise, card, protocol)[0]
        determined &= (moved - expected).norm(dim=-1) <= _MOVED_PX
    distances = torch.where(determined, (keypoints - expected).norm(dim=-1), 0.0)
    score_differences = (scores - expected_scores).abs() / expected_scores.abs().clamp_min(1.0)
    return Comparison(
        int(determined.sum()), int((~determined).sum()), float(distances.max()), float(score_differences.max())
    )
