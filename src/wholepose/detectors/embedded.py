"""The person detector inside the package: one small ONNX file that ends in boxes.

Inputs: ``image`` uint8 (H, W, 3) RGB, sides divisible by 32; ``score_threshold`` and ``iou_threshold``, which have
defaults. Outputs: ``boxes`` float32 (N, 4) xyxy input pixels and ``scores`` float32 (N,), best first. Decoding and
non-maximum suppression are part of the graph.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.detectors.base import Detections, check_images, make_detections, non_maximum_suppression
from wholepose.detectors.letterbox import letterbox
from wholepose.detectors.session import DetectorSession, OnSession
from wholepose.detectors.tiles import join_tiles, tiles_of
from wholepose.errors import ConfigError, WeightsError
from wholepose.weights.onnx_file import check_onnx_file

EMBEDDED_DETECTOR = Path(__file__).resolve().parent.parent / "weights" / "embedded" / "detector.onnx"
METADATA_KEY = "wholepose_detector"

LARGEST_INPUT = 4096
SMALLEST_INPUT = 32
SECOND_LOOK = 2 / 3
"""Size of the second, mirrored look against the first: near people are seen better when they are smaller."""
SAME_PERSON_IOU = 0.6
"""Boxes that overlap more are of one person, within a look and between both."""


@dataclass(frozen=True, kw_only=True)
class DetectorCard:
    """What the file says about itself.

    Attributes:
        name: Name of the weights.
        input_size: Longer side, in pixels, to which a picture is shrunk or enlarged unless told otherwise.
        threshold: Score from which on a box counts unless told otherwise.
        licence: SPDX identifier or a short sentence.
        description: One or two plain sentences.
        training_data: Names of the data sets.
        metrics: Measured numbers by name.
    """

    name: str
    input_size: int
    threshold: float
    licence: str
    description: str
    training_data: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    def to_metadata(self) -> dict[str, str]:
        """Returns the card as ONNX metadata: JSON with sorted keys under ``"wholepose_detector"``."""
        return {METADATA_KEY: json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> DetectorCard:
        """Reads the card.

        Args:
            metadata: Metadata of an ONNX file.
            where: What to call the file in an error.

        Returns:
            The card.

        Raises:
            WeightsError: There is no card, or it does not have these fields.
        """
        if METADATA_KEY not in metadata:
            raise WeightsError(f"{where}: has no {METADATA_KEY!r} card in its metadata, so it is not our detector")
        try:
            fields = json.loads(metadata[METADATA_KEY])
            card = cls(**{**fields, "training_data": tuple(fields["training_data"])})
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{where}: the detector card is damaged: {error}") from error
        if not isinstance(card.input_size, int) or not isinstance(card.threshold, float):
            raise WeightsError(f"{where}: the detector card is damaged: input_size or threshold is no number")
        return card


def is_own_detector(path: Path) -> bool:
    """Whether an ONNX file has the card of such a detector.

    Raises:
        WeightsError: The file is missing, not ONNX, or keeps weights outside its folder.
    """
    return METADATA_KEY in check_onnx_file(path).metadata


class EmbeddedDetector(OnSession):
    """Finds people with the detector of the package.

    Long pictures are looked at in overlapping tiles. Every picture and tile is looked at twice, the second time smaller
    and mirrored, and runs alone, so that neighbours do not matter and memory does not grow with their number.

    Args:
        threshold: Lowest score that counts; None takes the card's.
        input_size: Longer side, in pixels, to which a picture is brought; None takes the card's. More finds smaller
            people and takes longer.
        threads: CPU threads; all cores that this process may use when None.
        path: Another file of the same kind.

    Raises:
        ConfigError: The input size is out of range.
        WeightsError: The file is missing, damaged or of another kind.
    """

    def __init__(
        self,
        *,
        threshold: float | None = None,
        input_size: int | None = None,
        threads: int | None = None,
        path: str | Path = EMBEDDED_DETECTOR,
    ) -> None:
        if input_size is not None and not SMALLEST_INPUT <= input_size <= LARGEST_INPUT:
            raise ConfigError(
                f"detector input size must be between {SMALLEST_INPUT} and {LARGEST_INPUT} pixels, not {input_size}"
            )
        self._session = DetectorSession(Path(path), threads)
        self.card = DetectorCard.from_metadata(self._session.metadata, str(path))
        self.threshold = self.card.threshold if threshold is None else threshold
        self.input_size = self.card.input_size if input_size is None else input_size

    @property
    def name(self) -> str:
        """Name of the weights."""
        return self.card.name

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds the people of several images, one after the other.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One entry an image, in the same order; boxes end at the image's edges.

        Raises:
            ValueError: An image has another shape or dtype, or no pixels.
            WeightsError: The network fails.
        """
        check_images(images)
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> Detections:
        size = (image.shape[0], image.shape[1])
        tiles = tiles_of(size)
        found = [self._look(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in tiles]
        return found[0] if len(tiles) == 1 else join_tiles(found, tiles, size)

    def _look(self, image: NDArray[np.uint8]) -> Detections:
        smaller = max(SMALLEST_INPUT, round(SECOND_LOOK * self.input_size))
        looks = self._run(image, self.input_size), self._run(image, smaller, mirrored=True)
        boxes, scores = (np.concatenate(both) for both in zip(*looks, strict=True))
        found = make_detections(boxes, scores, (image.shape[0], image.shape[1]), self.threshold)
        kept = non_maximum_suppression(found.boxes, found.scores, SAME_PERSON_IOU)
        return Detections(found.boxes[kept], found.scores[kept])

    def _run(
        self, image: NDArray[np.uint8], input_size: int, *, mirrored: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (N, 4) in pixels of the image, and their scores, at one size."""
        pixels, scale = letterbox(image, input_size)
        threshold = np.array([self.threshold], dtype=np.float32)
        seen = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
        boxes, scores = self._session.run({"image": seen, "score_threshold": threshold})
        if mirrored:
            boxes[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]
        return np.asarray(boxes / scale, dtype=np.float32), scores
