"""Turning somebody's checkpoint into a model with a card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from wholepose.errors import ConfigError, WeightsError
from wholepose.models.checkpoints import (
    Layout,
    architecture_names,
    check_card,
    empty_model,
    infer_config,
    load_state,
    read_state_dict,
    save_model,
)
from wholepose.models.hrnet import SIZE_DIVISOR
from wholepose.models.posenet import ARCHITECTURES, PoseNet
from wholepose.skeletons import SKELETONS, get_skeleton
from wholepose.weights import REGISTRY, ModelCard, sha256_of
from wholepose.weights.card import METADATA_KEY

_HEAD = "head.final_layer.weight"
_HASH_DIGITS_IN_NAME = 8


_MEASURED_WITH = ("input_size", "decode_kernel", "protocol")
"""What a model's metrics depend on, beside its weights."""


@dataclass(frozen=True)
class CardOptions:
    """What the caller says about a checkpoint; None is left to be found out."""

    arch: str | None = None
    skeleton: str | None = None
    input_size: tuple[int, int] | None = None
    decode_kernel: int | None = None
    protocol: str | None = None
    licence: str | None = None
    name: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint as a model.

    Attributes:
        model: In evaluation mode, on the CPU.
        card: What the caller, the file, the registry and the weights say, in this order.
        layout: Whose parameter names the file uses.
        guesses: What nobody said and was assumed, in words.
    """

    model: PoseNet
    card: ModelCard
    layout: Layout
    guesses: tuple[str, ...]


def open_checkpoint(path: str | Path, options: CardOptions | None = None) -> OpenedCheckpoint:
    """Reads a checkpoint of any known layout and finds out what it is.

    Files of the registry are recognised by their hash; of others, the shapes tell the architecture and the number of
    keypoints, and the file's name may tell the input size.

    Args:
        path: ``.pth``, ``.pt`` or ``.safetensors``.
        options: What the caller knows.

    Raises:
        ConfigError: Something cannot be found out and must be said, or what was said is impossible.
        WeightsError: The file is missing, damaged, unsafe, no pose network, or not what ``options`` say.
    """
    options = options or CardOptions()
    path = Path(path)
    _check_size(options.input_size, path)
    state, info = read_state_dict(path)
    sha256 = sha256_of(path)
    card = _known_card(sha256, info.metadata, path)
    arch = _find_arch(state, options.arch or (card.arch if card else None), path)
    skeleton = _find_skeleton(state, options.skeleton or (card.skeleton if card else None), path)
    guesses: list[str] = []
    if card is None:
        input_size = options.input_size or _size_in_name(path.name)
        if input_size is None:
            raise ConfigError(
                f"{path}: weights do not tell their input size; say it: wholepose convert FILE --input-size 384x288"
            )
        if options.input_size is None:
            guesses.append(f"input size {input_size[0]}x{input_size[1]}, from the file's name")
        kernel = 17 if info.layout == "mmpose0" and input_size[0] >= 384 else 11
        if options.decode_kernel is None:
            guesses.append(f"decode kernel {kernel}, as is usual for such files")
        card = ModelCard(
            name=f"{arch}_{input_size[0]}x{input_size[1]}.{skeleton}_{sha256[:_HASH_DIGITS_IN_NAME]}",
            arch=arch,
            skeleton=skeleton,
            input_size=input_size,
            decode_kernel=kernel,
            source=path.name,
            source_sha256=sha256,
        )
    said = {key: value for key, value in vars(options).items() if value is not None}
    if any(said.get(key, getattr(card, key)) != getattr(card, key) for key in _MEASURED_WITH):
        card = replace(card, metrics={}, intervals={}, measured_by="")  # they were another model's
    try:
        card = replace(card, **{"arch": arch, "skeleton": skeleton, **said})
    except ValueError as error:
        raise ConfigError(f"{path}: the model card would be wrong: {error}") from error
    _check_size(card.input_size, path)
    check_card(card, str(path))
    model = empty_model(ARCHITECTURES[arch], get_skeleton(skeleton).num_keypoints)
    load_state(model, state, where=str(path))
    return OpenedCheckpoint(model.eval(), card, info.layout, tuple(guesses))


def convert_checkpoint(path: str | Path, out: str | Path, options: CardOptions | None = None) -> OpenedCheckpoint:
    """Writes a checkpoint as safetensors with a model card; see :func:`open_checkpoint`.

    Args:
        path: ``.pth``, ``.pt`` or ``.safetensors``.
        out: The ``.safetensors`` file.
        options: What the caller knows.

    Raises:
        ConfigError: As above, or ``out`` does not end in ``.safetensors``.
        WeightsError: As above.
        OSError: ``out`` cannot be written.
    """
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out}: models are written as .safetensors; give the output that ending")
    opened = open_checkpoint(path, options)
    save_model(out, opened.model, opened.card)
    return opened


def _check_size(size: tuple[int, int] | None, path: Path) -> None:
    if size is not None and any(side < 1 or side % SIZE_DIVISOR for side in size):
        raise ConfigError(f"{path}: input sides must be multiples of {SIZE_DIVISOR}, not {size[0]}x{size[1]}")


def _known_card(sha256: str, metadata: Mapping[str, str], path: Path) -> ModelCard | None:
    """The card that the file carries, or that the registry has for it."""
    if METADATA_KEY in metadata:
        return ModelCard.from_metadata(metadata, str(path))
    entry = next((entry for entry in REGISTRY.values() if sha256.startswith(entry.sha256)), None)
    return entry.card(sha256) if entry else None


def _find_arch(state: dict[str, Tensor], said: str | None, path: Path) -> str:
    if said is not None and said not in ARCHITECTURES:
        raise ConfigError(f"no architecture {said!r}; there are {', '.join(ARCHITECTURES)}")
    try:
        config = infer_config(state)
    except ValueError as error:
        raise WeightsError(f"{path}: no weights of a whole HRNet ({error})") from error
    names = architecture_names(config)
    if not names:
        raise WeightsError(f"{path}: an HRNet of a shape that wholepose has no name for: {config}")
    if said is not None and said not in names:
        raise WeightsError(
            f"{path}: holds {' or '.join(names)}, not {said}; name the right architecture, or give the right file"
        )
    return said or names[0]


def _find_skeleton(state: dict[str, Tensor], said: str | None, path: Path) -> str:
    head = state.get(_HEAD)
    if head is None or head.ndim != 4:
        raise WeightsError(
            f"{path}: has no layer that gives heatmaps (final_layer); ImageNet weights are a start for training, not a "
            "model"
        )
    count = head.shape[0]
    if said is not None:
        wanted = get_skeleton(said).num_keypoints
        if wanted != count:
            raise WeightsError(f"{path}: gives {count} keypoints, but the skeleton {said} has {wanted}")
        return said
    name = next((name for name, skeleton in SKELETONS.items() if skeleton.num_keypoints == count), None)
    if name is None:
        raise ConfigError(f"{path}: gives {count} keypoints, and wholepose knows no skeleton of so many")
    return name


def _size_in_name(name: str) -> tuple[int, int] | None:
    """(height, width) in a file's name, as in ``hrnet_w48_coco_384x288_dark.pth``."""
    for match in re.finditer(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", name):
        height, width = int(match[1]), int(match[2])
        if height % SIZE_DIVISOR == 0 and width % SIZE_DIVISOR == 0:
            return height, width
    return None
