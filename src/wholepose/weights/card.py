"""The model card: what a weights file says about itself, the same words in safetensors and in ONNX metadata."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wholepose.errors import WeightsError

METADATA_KEY = "wholepose"
_PROTOCOLS = ("default", "mmpose0")
_LARGEST_CARD_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything that code must know to run a model, and what a person wants to know before using it.

    Attributes:
        name: Name of the weights, such as ``"hrnet_w48_384x288.halpe136_v1"``.
        arch: Name of the architecture, such as ``"hrnet_w48"``.
        skeleton: Name of the skeleton whose keypoints come out, such as ``"halpe136"``.
        input_size: (height, width) of a crop in pixels.
        stride: Crop pixels to one heatmap cell.
        decode_kernel: Width in cells of the Gaussian that the DARK decoder blurs with; odd, from 3 on.
        protocol: Numerics that the weights were trained with: ``"default"`` or ``"mmpose0"``.
        licence: SPDX identifier or a short sentence; ``"unknown"`` where nobody has said.
        source: Where the weights come from: a file name, a URL or a recipe.
        source_sha256: Hash of the file that the weights were converted from, 64 hex digits; empty when trained here.
        description: One or two plain sentences.
        recipe: How the weights were trained: commands, how long, on what hardware.
        training_data: Names of the data sets, with their terms.
        intended_use: What the weights are for, and what not.
        known_failures: Where they go wrong.
        metrics: Measured numbers by name, such as ``{"coco_val/ap": 0.77}``.
        intervals: (low, high) of 95 % by name of the metric, for those whose intervals are known.
        measured_by: The commands that measured.
    """

    name: str
    arch: str
    skeleton: str
    input_size: tuple[int, int]
    stride: int = 4
    decode_kernel: int = 17
    protocol: str = "default"
    licence: str = "unknown"
    source: str = ""
    source_sha256: str = ""
    description: str = ""
    recipe: str = ""
    training_data: tuple[str, ...] = ()
    intended_use: str = ""
    known_failures: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    measured_by: str = ""

    def __post_init__(self) -> None:
        """Checks every field and turns lists into tuples, so that two equal cards compare equal.

        Raises:
            ValueError: A field has a wrong type or value; the message names it.
        """
        for key in (item.name for item in dataclasses.fields(self) if item.type == "str"):
            if not isinstance(getattr(self, key), str):
                raise ValueError(f"{key} must be a text, not {getattr(self, key)!r}")
        for key in ("name", "arch", "skeleton", "licence"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} must not be empty")
        size = self.input_size
        if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(_is_count(side) for side in size):
            raise ValueError(f"input_size must be (height, width) in pixels, not {size!r}")
        object.__setattr__(self, "input_size", (int(size[0]), int(size[1])))
        if not _is_count(self.stride) or any(side % self.stride for side in self.input_size):
            raise ValueError(f"stride must divide input_size {self.input_size}, not be {self.stride!r}")
        if not _is_count(self.decode_kernel) or self.decode_kernel < 3 or self.decode_kernel % 2 == 0:
            raise ValueError(f"decode_kernel must be an odd number of cells from 3 on, not {self.decode_kernel!r}")
        if self.protocol not in _PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(_PROTOCOLS)}, not {self.protocol!r}")
        if not re.fullmatch(r"([0-9a-f]{64})?", self.source_sha256):
            raise ValueError(f"source_sha256 must be 64 lower-case hex digits or empty, not {self.source_sha256!r}")
        data = self.training_data
        if not isinstance(data, (tuple, list)) or not all(isinstance(item, str) for item in data):
            raise ValueError(f"training_data must be a sequence of texts, not {data!r}")
        object.__setattr__(self, "training_data", tuple(data))
        if not isinstance(self.metrics, Mapping):
            raise ValueError(f"metrics must map names to numbers, not be {self.metrics!r}")
        for key, value in self.metrics.items():
            if not isinstance(key, str) or not _is_finite(value):
                raise ValueError(f"metrics must map names to finite numbers, not {key!r} to {value!r}")
        object.__setattr__(self, "metrics", {key: float(value) for key, value in self.metrics.items()})
        if not isinstance(self.intervals, Mapping):
            raise ValueError(f"intervals must map names to pairs of numbers, not be {self.intervals!r}")
        for key, bounds in self.intervals.items():
            pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2 and all(_is_finite(end) for end in bounds)
            if key not in self.metrics or not pair or bounds[0] > bounds[1]:
                raise ValueError(f"intervals must map names of metrics to (low, high), not {key!r} to {bounds!r}")
        pairs = {key: (float(low), float(high)) for key, (low, high) in self.intervals.items()}
        object.__setattr__(self, "intervals", pairs)

    def to_metadata(self) -> dict[str, str]:
        """Returns the card as a file's metadata: JSON with sorted keys under ``"wholepose"``, and the format's name."""
        document = json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)
        return {METADATA_KEY: document, "format": "wholepose"}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelCard:
        """Reads the card from a file's metadata.

        Args:
            metadata: The metadata of a safetensors or ONNX file; other keys than ours are ignored.
            where: What to call the file in an error.

        Returns:
            The card.

        Raises:
            WeightsError: There is no card, or a field is missing, unknown or wrong; the message names it.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise WeightsError(
                f"{where}: has no wholepose model card in its metadata; make such a file with `wholepose convert` "
                f"(safetensors) or `wholepose export` (ONNX)"
            )
        if len(text) > _LARGEST_CARD_BYTES:
            raise WeightsError(f"{where}: the model card has {len(text)} characters; at most {_LARGEST_CARD_BYTES} fit")
        try:
            document: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{where}: the model card is not JSON ({error}); convert or export it again") from error
        if not isinstance(document, dict):
            raise WeightsError(f"{where}: the model card must be a JSON object, not {type(document).__name__}")
        known = {item.name for item in dataclasses.fields(cls)}
        # A field left out by an older writer has a default; those that change the numbers must be there.
        missing = {"name", "arch", "skeleton", "input_size", "stride", "decode_kernel", "protocol"} - set(document)
        if missing:
            raise WeightsError(
                f"{where}: the model card lacks {', '.join(sorted(missing))}; convert or export it again"
            )
        # An unknown field could change the numbers, so it is not skipped.
        unknown = set(document) - known
        if unknown:
            names = ", ".join(repr(key) for key in sorted(unknown))
            raise WeightsError(f"{where}: the model card has unknown fields {names}; a newer wholepose may read it")
        try:
            return cls(**document)
        except ValueError as error:
            raise WeightsError(f"{where}: the model card is wrong: {error}") from error


def _is_finite(value: object) -> bool:
    """Whether a value is a number that is neither infinite nor NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    """Whether a value is a positive whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
