"""Gives a trained pose network more channels or more layers, without changing what it answers.

    python scripts/grow_pose.py OLD.safetensors NEW.safetensors --arch hrnet_w32_large_f96 --packs runs/packs

The channels that were there stay as they were and see none of the new ones at first; the new ones start with random
filters over all of them. New blocks and modules pass on what they get at first. Pictures are needed for the statistics
of the new channels and layers.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from pack_pose import read_packs
from pose_samples import SHARES, one_batch

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.decode import normalize
from wholepose.models.hrnet import BasicBlock, HRModule, HRNetConfig
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model

STATISTICS = ("running_mean", "running_var")


def grow(old: PoseNet, arch: str, pictures: torch.Tensor) -> PoseNet:
    """A network of architecture `arch`, which has the layers of `old` and more, that answers as `old` does.

    Args:
        old: Stays as it is.
        arch: Name of the new architecture.
        pictures: (B, 3, H, W) normalised crops.

    Raises:
        ValueError: The new architecture lacks layers of the old one, or has fewer channels somewhere.
    """
    new = build_model(arch, old.num_keypoints)
    before = {place(name, old.config, new.config): value for name, value in old.state_dict().items()}
    after = new.state_dict()
    if any(
        name not in after
        or value.ndim != after[name].ndim
        or any(a > b for a, b in zip(value.shape, after[name].shape, strict=True))
        for name, value in before.items()
    ):
        raise ValueError(f"{arch} is not the old network with more channels or layers")
    for module in new.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    last = {id(norm.weight) for norm in _last_norms(new)}
    for name, parameter in new.named_parameters():
        if name not in before and id(parameter) in last:
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        for name, kept in before.items():
            value = after[name]
            if value.ndim == 4:
                value[: kept.shape[0], kept.shape[1] :] = 0
            value[tuple(slice(side) for side in kept.shape)] = kept

    seen = copy.deepcopy(new).train()
    for module in seen.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over what is seen
    with torch.no_grad():
        seen(pictures)
        for name, value in seen.state_dict().items():
            if name.endswith(STATISTICS):
                count = len(before[name]) if name in before else 0
                after[name][count:] = value[count:]
    return new


def place(name: str, old: HRNetConfig, new: HRNetConfig) -> str:
    """The name in the new network of a layer of the old one: a stage's last module is the last one there too.

    Other modules keep their numbers, whether the new network has more of them or fewer.
    """
    found = re.match(r"(backbone\.stage(\d)\.)(\d+)(\..*)", name)
    if not found:
        return name
    stage, number = int(found[2]) - 2, int(found[3])
    if number == old.modules[stage] - 1:
        number = new.modules[stage] - 1
    return f"{found[1]}{number}{found[4]}"


def _last_norms(model: PoseNet) -> Iterator[torch.nn.BatchNorm2d]:
    """The batch norms after which a block, or a way from one branch to another, is added to what passes by."""
    for module in model.modules():
        if isinstance(module, BasicBlock):
            yield module.bn2
        elif isinstance(module, HRModule):
            for row in module.fuse_layers:
                for way in row:
                    yield from [layer for layer in way.modules() if isinstance(layer, torch.nn.BatchNorm2d)][-1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), required=True)
    parser.add_argument("--packs", type=Path, required=True, help="folder of scripts/pack_pose.py")
    options = parser.parse_args()
    torch.manual_seed(0)
    old, card = load_model(options.old)
    pictures = normalize(one_batch(read_packs("clean", options.packs), SHARES["clean"], (128, 96), 128).crops)
    new = grow(old, options.arch, pictures)
    with torch.inference_mode():
        change = (new.eval()(pictures) - old(pictures)).abs().max().item()
    save_model(options.new, new, dataclasses.replace(card, arch=options.arch))
    print(f"{options.new}: {options.arch}, heatmaps changed by {change:.1e} at most")


if __name__ == "__main__":
    main()
