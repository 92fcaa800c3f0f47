"""Builds what is trained: network, start weights, optimiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholepose.models.checkpoints import LoadReport, load_checkpoint
from wholepose.models.posenet import PoseNet, build_model
from wholepose.skeletons import get_skeleton
from wholepose.training.config import OptimiserConfig, TrainConfig
from wholepose.weights import resolve

_MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0, 1]
_STD = (0.229, 0.224, 0.225)


def build_network(config: TrainConfig) -> tuple[PoseNet, LoadReport | None]:
    """Makes the network with its start weights.

    Args:
        config: ``seed`` and ``model`` decide; the global random state of PyTorch is set.

    Returns:
        The network, and what was loaded and skipped where it starts from other weights.

    Raises:
        ConfigError: The architecture or the skeleton does not exist.
        WeightsError: The start weights cannot be read.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model.arch, get_skeleton(config.model.skeleton).num_keypoints)
    if config.model.init == "kaiming":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(model.head.final_layer.weight, std=0.001)
    if not config.model.init_from:
        return model, None
    return model, load_checkpoint(model, resolve(config.model.init_from), strict=False)


def build_optimiser(config: OptimiserConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimiser; weight decay leaves out biases and batch norms, which have one dimension."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr)


def normalise(crops: Tensor, *, channels_last: bool) -> Tensor:
    """Turns (B, H, W, 3) uint8 RGB crops into the network's (B, 3, H, W) float32 input, on their device."""
    mean = torch.tensor(_MEAN, device=crops.device) * 255
    factor = 1 / (torch.tensor(_STD, device=crops.device) * 255)
    pixels = ((crops.float() - mean) * factor).permute(0, 3, 1, 2)
    return pixels if channels_last else pixels.contiguous()
