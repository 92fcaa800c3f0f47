"""Builds what is trained, network, start weights and optimiser, and writes what came out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wholepose.models.checkpoints import empty_model, load_state, save_model
from wholepose.models.posenet import ARCHITECTURES, STRIDE, PoseNet, build_model
from wholepose.skeletons import get_skeleton
from wholepose.training.config import OptimiserConfig, TrainConfig
from wholepose.weights.card import ModelCard


def build_network(config: TrainConfig) -> PoseNet:
    """Makes the network with fresh weights.

    Args:
        config: ``seed`` and ``model`` decide; the global random state of PyTorch is set.

    Raises:
        ConfigError: The architecture or the skeleton does not exist.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model.arch, get_skeleton(config.model.skeleton).num_keypoints)
    if config.model.init == "kaiming":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(model.head.final_layer.weight, std=0.001)
    return model


def build_optimiser(config: OptimiserConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimiser; weight decay leaves out biases and batch norms, which have one dimension."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr)


def write_weights(
    path: Path, weights: Mapping[str, Tensor], config: TrainConfig, *, epochs: int, metrics: Mapping[str, float]
) -> None:
    """Writes weights with their model card, whole or not at all.

    Args:
        path: ``RUN/best.safetensors`` or ``RUN/last.safetensors``; the folder's name becomes part of the model's.
        weights: By the names of ``PoseNet``, on any device.
        config: How they were trained.
        epochs: For how long.
        metrics: What validation measured.

    Raises:
        OSError: The file cannot be written.
    """
    model = config.model
    card = ModelCard(
        name=f"{model.arch}_{model.input_size[0]}x{model.input_size[1]}.{path.parent.resolve().name}",
        arch=model.arch,
        skeleton=model.skeleton,
        input_size=model.input_size,
        stride=STRIDE,
        decode_kernel=model.decode_kernel,
        protocol=config.protocol,
        source=f"recipe {config.recipe or 'without a name'}, after epoch {epochs} of {config.epochs}",
        training_data=tuple(Path(part.annotations).name for part in config.data.train),
        metrics={f"val/{name}": value for name, value in metrics.items()},
    )
    network = empty_model(ARCHITECTURES[model.arch], get_skeleton(model.skeleton).num_keypoints)
    load_state(network, {name: tensor.cpu() for name, tensor in weights.items()}, where=str(path))
    save_model(path, network, card)
