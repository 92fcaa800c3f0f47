"""What a training run is made of: frozen, typed, saved as JSON, changed by dotted names.

There are no configuration files to write: a recipe is a Python function that returns a :class:`TrainConfig`, the
command line changes single fields (``--set optimiser.lr=1e-4``), and a run saves what it used as ``config.json``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from wholepose.data.augment import AugmentConfig
from wholepose.errors import ConfigError
from wholepose.geometry import Protocol

T = TypeVar("T")

PREVIOUS_STAGE = "@previous"
"""``model.init_from`` of a stage that goes on from the one before it."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and how its heatmaps are made and read.

    Attributes:
        arch: A name of ``wholepose.models.posenet.ARCHITECTURES``.
        input_size: (height, width) of a crop in pixels, multiples of 32.
        skeleton: Name of the skeleton that is learnt.
        sigma: Standard deviation of the targets in heatmap cells.
        decode_kernel: Blur of the DARK decoder, an odd number of cells from 3 on; travels with the weights.
        init_from: Weights to start from, a path or a registered name; what does not fit is skipped and listed. Empty:
            fresh weights. ``PREVIOUS_STAGE``: what the stage before this one found.
        init: How fresh convolutions start: ``"normal"`` is the reference's N(0, 0.001); ``"kaiming"`` suits small
            networks that start from nothing.
    """

    arch: str = "hrnet_w48"
    input_size: tuple[int, int] = (384, 288)
    skeleton: str = "halpe136"
    sigma: float = 3.0
    decode_kernel: int = 17
    init_from: str = ""
    init: Literal["normal", "kaiming"] = "normal"

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        if any(side < 32 or side % 32 for side in self.input_size):
            raise ConfigError(f"model.input_size must be multiples of 32, not {self.input_size}")
        if self.decode_kernel < 3 or self.decode_kernel % 2 == 0:
            raise ConfigError(f"model.decode_kernel must be an odd number of cells from 3 on, not {self.decode_kernel}")
        _check_range("model.sigma", self.sigma, low=0.1)


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser and what is done to gradients.

    Attributes:
        name: ``"adam"`` (the reference) or ``"adamw"``.
        lr: Learning rate for the whole batch.
        weight_decay: Decoupled for AdamW; batch norms and biases are left out.
        clip_norm: Largest norm of the gradient; 0 does not clip.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 5e-4
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        if self.lr <= 0:
            raise ConfigError(f"optimiser.lr must be positive, not {self.lr}")
        _check_range("optimiser.weight_decay", self.weight_decay)
        _check_range("optimiser.clip_norm", self.clip_norm)


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves, step by step.

    Attributes:
        name: ``"step"``: times ``gamma`` at each milestone; ``"cosine"``: down to ``final_fraction`` of the rate.
        warmup_steps: Optimiser steps of linear warm-up; at most a fifth of the run's, so that short runs leave it too.
        warmup_start: Fraction of the rate that the warm-up starts from.
        milestones: Epochs.
        gamma: Factor at a milestone.
        final_fraction: Where the cosine ends.
    """

    name: Literal["step", "cosine"] = "step"
    warmup_steps: int = 500
    warmup_start: float = 0.001
    milestones: tuple[int, ...] = (170, 200)
    gamma: float = 0.1
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        for name in ("warmup_steps", "gamma"):
            _check_range(f"schedule.{name}", getattr(self, name))
        for name in ("warmup_start", "final_fraction"):
            _check_range(f"schedule.{name}", getattr(self, name), high=1)


@dataclass(frozen=True)
class SetConfig:
    """One annotated set.

    Attributes:
        annotations: The JSON file.
        images: Folder that the file names are relative to; empty: the folder of the annotations.
        weight: How often an epoch shows each of its people.
    """

    annotations: str
    images: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks the weight.

        Raises:
            ConfigError: It is not positive.
        """
        if self.weight <= 0:
            raise ConfigError(f"{self.annotations}: a set's weight must be positive, not {self.weight}")


@dataclass(frozen=True)
class SynthConfig:
    """Synthetic people among those who are trained on, drawn when a sample is made; see ``wholepose synth --help``.

    Attributes:
        people: How many an epoch shows, new ones in every epoch. 0: none.
        assets: Folder of MakeHuman assets; empty: procedural clothes and hair alone.
        backgrounds: Folder of photos without people; empty: made-up places.
        hand_poses: File of hand shapes; empty: random ones alone.
        clean: Nothing of unproven licence: no skin pictures, no hand poses.
        effects: How much cameras spoil pictures, 0 to 1.
        device: What renders, in each loader process: ``"cpu"`` or a CUDA device.
    """

    people: int = 0
    assets: str = ""
    backgrounds: str = ""
    hand_poses: str = ""
    clean: bool = False
    effects: float = 1.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        _check_range("data.synth.people", self.people)
        _check_range("data.synth.effects", self.effects, high=1)
        if self.clean and self.hand_poses:
            raise ConfigError("data.synth.hand_poses come under a research licence and cannot be had with clean=true")


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from and what is judged on.

    Attributes:
        train: Sets that are mixed.
        synth: Synthetic people that are mixed in.
        val: The set for validation; None trains without.
        workers: Loader processes a rank; 0 loads in the training process. Changes no result.
        cache_images: Decode every photo once, at the start, into a file of the run's folder that all loader processes
            map into memory. For sets that fit there: 10,000 photos of 640 x 480 take 9 GB.
    """

    train: tuple[SetConfig, ...] = ()
    synth: SynthConfig = field(default_factory=SynthConfig)
    val: SetConfig | None = None
    workers: int = 2
    cache_images: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        _check_range("data.workers", self.workers)


@dataclass(frozen=True)
class TrainConfig:
    """One stage of training.

    Attributes:
        recipe: Name of the recipe that made it.
        stage: Name of the stage, where the recipe has several; its folder in the run's.
        epochs: How many.
        batch_size: Samples of one optimiser step, over all processes and accumulated parts.
        accumulate: Parts that a process splits its share of the batch into.
        amp: Mixed precision.
        ema_decay: Decay of the averaged weights, which are what is judged and kept; 0 keeps the plain ones.
        channels_last: Memory layout; faster nearly everywhere.
        compile: ``torch.compile`` the network.
        seed: Of weights, order and augmentation.
        log_every: Optimiser steps from one line of the log to the next.
        evaluate_every: Epochs from one validation to the next.
        checkpoint_minutes: Longest time between checkpoints; there is also one before and after every validation.
        keep_last: Checkpoints kept beside the best one.
        flip_test: Average with the mirrored crop in validation.
        protocol: Numerics, see PROTOCOL; ``"mmpose0"`` reproduces the reference's quirks.
    """

    recipe: str = ""
    stage: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    epochs: int = 210
    batch_size: int = 256
    accumulate: int = 1
    amp: Literal["off", "bf16", "fp16"] = "off"
    ema_decay: float = 0.0
    channels_last: bool = True
    compile: bool = False
    seed: int = 0
    log_every: int = 50
    evaluate_every: int = 10
    checkpoint_minutes: float = 10.0
    keep_last: int = 2
    flip_test: bool = True
    protocol: Protocol = "default"

    def __post_init__(self) -> None:
        """Checks what no single type can say.

        Raises:
            ConfigError: A value cannot work; the message names the field.
        """
        for name in ("epochs", "batch_size", "accumulate", "evaluate_every", "keep_last", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ConfigError(f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay must lie in [0, 1), not {self.ema_decay}")
        _check_range("seed", self.seed, high=2**64 - 1)  # what PyTorch takes
        _check_range("checkpoint_minutes", self.checkpoint_minutes)


def _check_range(name: str, value: float, low: float = 0, high: float = math.inf) -> None:
    if not low <= value <= high:
        limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ConfigError(f"{name} must be {limits}, not {value}")


def to_json(config: TrainConfig) -> str:
    """Writes a configuration, with sorted keys."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def from_json(text: str, where: str) -> TrainConfig:
    """Reads a configuration.

    Args:
        text: What :func:`to_json` wrote.
        where: The file's name, for messages.

    Raises:
        ConfigError: The text is not a configuration; the message names the field.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from error
    value: TrainConfig = _build(TrainConfig, document, where)
    return value


def override(config: TrainConfig, assignments: Iterable[str]) -> TrainConfig:
    """Changes fields by dotted name.

    Args:
        config: The configuration to start from.
        assignments: Such as ``"optimiser.lr=1e-4"`` or ``"model.input_size=256,192"``.

    Returns:
        A changed copy.

    Raises:
        ConfigError: There is no such field, or the value does not fit its type.
    """
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--set takes NAME=VALUE, such as optimiser.lr=1e-4, not {assignment!r}")
        config = _replace(config, path.strip().split("."), text.strip(), path.strip())
    return config


HARMLESS = ("data.workers", "data.cache_images", "checkpoint_minutes", "keep_last")
"""Fields that change no result, and so may differ when a run goes on."""


def difference(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Lines such as ``optimiser.lr: 0.0005 -> 0.0001`` for every field in which two configurations differ in effect."""
    before, after = _flatten(dataclasses.asdict(old)), _flatten(dataclasses.asdict(new))
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in HARMLESS
    ]


def _flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _replace(node: T, path: list[str], text: str, whole: str) -> T:
    fields = {f.name for f in dataclasses.fields(node)}  # type: ignore[arg-type]
    if path[0] not in fields:
        raise ConfigError(f"no setting {whole!r}: {path[0]!r} is not one of {', '.join(sorted(fields))}")
    hint = typing.get_type_hints(type(node))[path[0]]
    current = getattr(node, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(current):
            raise ConfigError(f"no setting {whole!r}: {path[0]!r} has no parts")
        value = _replace(current, path[1:], text, whole)
    else:
        value = _build(hint, _parse(hint, text), f"--set {whole}")
    try:
        return dataclasses.replace(node, **{path[0]: value})  # type: ignore[type-var]
    except ValueError as error:
        raise ConfigError(f"--set {whole}={text}: {error}") from error


def _parse(hint: Any, text: str) -> Any:
    """Turns a word of the command line into what JSON would hold for this type."""
    if hint is str or typing.get_origin(hint) is Literal:
        return text
    if typing.get_origin(hint) is tuple and not text.startswith("["):
        return [_parse(typing.get_args(hint)[0], word.strip()) for word in text.split(",") if word.strip()]
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _build(hint: Any, value: Any, where: str) -> Any:
    """Checks a JSON value against a type and turns lists into tuples and objects into dataclasses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(
                _build(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
            )
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ConfigError(f"{where} has no field {sorted(unknown)[0]!r}")
        items = {key: _build(hints[key], item, f"{where}.{key}") for key, item in value.items()}
        try:
            return hint(**items)
        except (TypeError, ValueError) as error:  # a missing field, or a range that the class checks itself
            raise ConfigError(f"{where}: {error}") from error
    elif hint is float:
        if type(value) in (int, float) and abs(value) < 1e15:  # neither NaN nor infinity
            return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where} must be {name}, not {value!r}")
