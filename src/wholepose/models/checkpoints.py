"""Checkpoints: reading those of MMPose, HRNet, DarkPose and timm, and writing our own.

Every layout is brought to the names of :class:`~wholepose.models.posenet.PoseNet`, which are those of MMPose 1.x:

========================  =====================  =============================
file                      backbone               head
========================  =====================  =============================
wholepose, MMPose 1.x     ``backbone.conv1...``  ``head.final_layer...``
MMPose 0.x                ``backbone.conv1...``  ``keypoint_head.final_layer...``
HRNet, DarkPose, timm     ``conv1...``           ``final_layer...``
========================  =====================  =============================

``module.`` prefixes are dropped. ImageNet classifiers of HRNet and timm carry more layers than a pose network; a
non-strict load leaves them out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from wholepose.errors import ConfigError, WeightsError
from wholepose.models.checkpoint_files import read_tensors
from wholepose.models.hrnet import BOTTLENECK_EXPANSION, SIZE_DIVISOR, HRNetConfig
from wholepose.models.posenet import ARCHITECTURES, STRIDE, PoseNet
from wholepose.outputs import atomic_path
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard

Layout = Literal["mmpose1", "mmpose0", "hrnet"]

_NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network")
_DEEPEST_NESTING = 3  # a pickled dictionary can hold itself
_BACKBONE_ROOT = re.compile(r"(conv[12]|bn[12]|layer1|transition[123]|stage[234])\.")
_LAYOUT_ORDER: tuple[Layout, ...] = ("mmpose0", "hrnet", "mmpose1")  # the backbone's names do not tell 0.x from 1.x
_SHOWN = 4
_FILTER_DIMENSIONS = 4


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint file said about itself.

    Attributes:
        layout: Whose parameter names it uses; wholepose's own are ``"mmpose1"``.
        metadata: The safetensors metadata; empty for other files.
    """

    layout: Layout
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class LoadReport:
    """What a load did with each tensor.

    Attributes:
        loaded: Names that were copied into the model.
        skipped: Names that both sides have, and why each was not copied, as in
            ``{"head.final_layer.weight": "shape (17, 48, 1, 1), the model has (136, 48, 1, 1)"}``.
        missing: Names that the model has and the file has not.
        unexpected: Names that the file has and the model has not.
    """

    loaded: tuple[str, ...]
    skipped: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def summary(self) -> str:
        """The report in a sentence, naming the first few of what was left out."""
        parts = [f"{len(self.loaded)} tensors fit"]
        if self.skipped:
            parts.append(f"skipped {_list([f'{name} ({why})' for name, why in self.skipped.items()])}")
        if self.missing:
            parts.append(f"not in the file: {_list(self.missing)}")
        if self.unexpected:
            parts.append(f"not in the model: {_list(self.unexpected)}")
        return "; ".join(parts)


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """Reads the weights of a checkpoint under the names of ``PoseNet``.

    Args:
        path: ``.safetensors``, ``.pth`` or ``.pt``; see the module's table of layouts.

    Returns:
        The tensors by name, on the CPU, and what else the file said.

    Raises:
        WeightsError: The file is missing, damaged, wants to run code, or holds no weights of an HRNet.
    """
    content, metadata = read_tensors(path)
    for _ in range(_DEEPEST_NESTING):
        inner = (content.get(key) for key in _NESTED_UNDER)
        content = next((mapping for mapping in inner if isinstance(mapping, Mapping)), content)
    state: dict[str, Tensor] = {}
    layouts: set[Layout] = set()
    for original, value in content.items():
        name, layout = _our_name(str(original))
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
            if layout is None:
                continue  # an epoch number beside a bare state dict
            raise WeightsError(f"{path}: {original!r} is not a plain tensor, but {type(value).__name__}")
        if name in state:
            raise WeightsError(f"{path}: two tensors are both {name!r}; the file mixes checkpoints")
        state[name] = value.detach()
        if layout is not None:
            layouts.add(layout)
    if not layouts:
        found = _list([str(key) for key in content]) if content else "nothing"
        raise WeightsError(f"{path}: holds no weights of an HRNet (it has {found})")
    return state, CheckpointInfo(min(layouts, key=_LAYOUT_ORDER.index), metadata)


def _our_name(name: str) -> tuple[str, Layout | None]:
    """The name in PoseNet, and the layout that it betrays; None for names that are not ours at all."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    if name.startswith("keypoint_head.final_layer."):
        return name.removeprefix("keypoint_"), "mmpose0"
    if name.startswith(("backbone.", "head.final_layer.")):
        return name, "mmpose1"
    if _BACKBONE_ROOT.match(name):
        return f"backbone.{name}", "hrnet"
    if name in ("final_layer.weight", "final_layer.bias"):
        return f"head.{name}", "hrnet"
    return name, None


def load_checkpoint(model: PoseNet, path: str | Path, strict: bool = True) -> LoadReport:
    """Copies a checkpoint into a model; on an error the model is as it was.

    Args:
        model: Takes the weights, in place.
        path: See :func:`read_state_dict`.
        strict: Every tensor must find its place. False (fine-tuning): what fits is copied, the rest is reported.

    Returns:
        What was loaded and what was not.

    Raises:
        WeightsError: The file cannot be read, does not fit, or a tensor holds NaN or infinity; the message names it.
    """
    state, _ = read_state_dict(path)
    return load_state(model, state, where=str(path), strict=strict)


def load_state(model: PoseNet, state: Mapping[str, Tensor], *, where: str, strict: bool = True) -> LoadReport:
    """Copies tensors, named as in ``PoseNet``, into a model; see :func:`load_checkpoint`.

    Args:
        model: Takes the weights, in place.
        state: Tensors by name.
        where: What to call their file in an error.
        strict: As in :func:`load_checkpoint`.
    """
    own = model.state_dict()
    skipped = {
        name: f"shape {tuple(state[name].shape)}, the model has {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    }
    loaded = tuple(name for name in own if name in state and name not in skipped)
    # PyTorch before 0.4.1, which trained the original releases, did not count batches.
    missing = tuple(name for name in own if name not in state and not name.endswith(".num_batches_tracked"))
    report = LoadReport(loaded, skipped, missing, tuple(name for name in state if name not in own))
    if strict and (report.skipped or report.missing or report.unexpected):
        raise WeightsError(f"{where}: does not fit the model: {report.summary()}. {_advice(model, state)}")
    if not loaded:
        raise WeightsError(f"{where}: nothing in it fits the model: {report.summary()}. {_advice(model, state)}")
    for name in loaded:
        if not torch.isfinite(state[name]).all():
            raise WeightsError(f"{where}: {name!r} holds NaN or infinity; the file is damaged or its training diverged")
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(state[name])
    return report


def _advice(model: PoseNet, state: Mapping[str, Tensor]) -> str:
    try:
        config = infer_config(state)
    except ValueError:
        return "The file is no whole HRNet; check which file it is"
    if config == model.config:
        return "The backbone fits; a non-strict load for fine-tuning would keep what fits"
    names = architecture_names(config)
    return f"The file is {' or '.join(names) if names else f'an HRNet that wholepose has no name for ({config})'}"


def infer_config(state: Mapping[str, Tensor]) -> HRNetConfig:
    """Tells a network's shape from its weights.

    Args:
        state: Tensors by the names of ``PoseNet``.

    Raises:
        ValueError: These are not the weights of an HRNet.
    """

    def count(pattern: str) -> int:
        found = {int(match[1]) for name in state if (match := re.match(pattern, name))}
        return len(found)

    try:
        width = state["backbone.stage2.0.branches.0.0.conv1.weight"].shape[0]
        stage1_channels = state["backbone.layer1.0.conv3.weight"].shape[0] // BOTTLENECK_EXPANSION
    except (KeyError, IndexError) as error:
        raise ValueError(f"not an HRNet: no tensor {error}") from error
    modules = (
        count(r"backbone\.stage2\.(\d+)\."),
        count(r"backbone\.stage3\.(\d+)\."),
        count(r"backbone\.stage4\.(\d+)\."),
    )
    widened = state.get(f"backbone.stage4.{modules[2] - 1}.fuse_layers.0.0.0.weight")
    return HRNetConfig(
        width=width,
        modules=modules,
        blocks=count(r"backbone\.stage2\.0\.branches\.0\.(\d+)\."),
        stage1_blocks=count(r"backbone\.layer1\.(\d+)\."),
        stage1_channels=stage1_channels,
        features=None if widened is None else widened.shape[0],
    )


def architecture_names(config: HRNetConfig) -> tuple[str, ...]:
    """The names in ``ARCHITECTURES`` of a network's shape; two where it has two, none where it has none."""
    return tuple(name for name, known in ARCHITECTURES.items() if known == config)


def save_model(path: str | Path, model: PoseNet, card: ModelCard, *, half: bool = False) -> None:
    """Writes a model as safetensors with its card in the metadata; the file is whole or absent.

    Args:
        path: The ``.safetensors`` file.
        model: On any device, in any floating precision; it is written as float32.
        card: Must describe this model.
        half: Write the filters as float16, which halves the file; :func:`load_model` gives float32 again.

    Raises:
        ValueError: The card and the model disagree.
        OSError: The file cannot be written.
    """
    check_card(card, str(path))
    if ARCHITECTURES[card.arch] != model.config or get_skeleton(card.skeleton).num_keypoints != model.num_keypoints:
        raise ValueError(
            f"the card says {card.arch} with the keypoints of {card.skeleton}, the model is {model.config} with "
            f"{model.num_keypoints} keypoints"
        )
    state = {name: tensor.detach().to("cpu").contiguous() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor.to(torch.float16 if half and tensor.ndim == _FILTER_DIMENSIONS else torch.float32)
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(state, metadata=card.to_metadata()))
        _order_metadata(temporary)


def _order_metadata(path: Path) -> None:
    """Sorts the metadata in a safetensors header, which is written in random order, so that hashes can be compared."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) == length:
            file.seek(8)
            file.write(text)


def load_model(path: str | Path) -> tuple[PoseNet, ModelCard]:
    """Reads a file of :func:`save_model`.

    Returns:
        The model, in evaluation mode on the CPU, and its card.

    Raises:
        WeightsError: The file is missing, damaged, without a card, or does not fit it.
    """
    state, info = read_state_dict(path)
    card = ModelCard.from_metadata(info.metadata, str(path))
    check_card(card, str(path))
    model = empty_model(ARCHITECTURES[card.arch], get_skeleton(card.skeleton).num_keypoints)
    load_state(model, state, where=str(path))
    return model.eval(), card


def empty_model(config: HRNetConfig, num_keypoints: int) -> PoseNet:
    """A model whose weights are about to be loaded, without the time to draw random ones."""
    with torch.device("meta"):
        model = PoseNet(config, num_keypoints)
    model.to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        if name.endswith(".num_batches_tracked"):  # the one that a checkpoint may lack
            buffer.zero_()
    return model


def check_card(card: ModelCard, where: str) -> None:
    """Checks that a card describes a network of this package.

    Raises:
        WeightsError: Its architecture, skeleton, stride or input size is not possible here.
    """
    if card.arch not in ARCHITECTURES:
        raise WeightsError(f"{where}: the model card's arch {card.arch!r} is not one of {', '.join(ARCHITECTURES)}")
    try:
        get_skeleton(card.skeleton)
    except ConfigError as error:
        raise WeightsError(f"{where}: the model card's skeleton: {error}") from error
    if card.stride != STRIDE or any(side % SIZE_DIVISOR for side in card.input_size):
        raise WeightsError(
            f"{where}: the model card's stride {card.stride} and input size {card.input_size} do not fit {card.arch}, "
            f"which has stride {STRIDE} and takes sides that are multiples of {SIZE_DIVISOR}"
        )


def _list(items: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
