"""Gives a trained pose network more channels, without changing what it answers.

    python scripts/widen_pose.py OLD.safetensors NEW.safetensors --arch hrnet_w32_slim_f96 --crops runs/crops

The channels that were there stay as they were and see none of the new ones at first; the new ones start with random
filters over all of them. Pictures are needed for the statistics of the new channels.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path

import numpy as np
import torch
from pose_photos import read_material
from pose_samples import SHARES, Batches

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.decode import normalize
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model


def widen(old: PoseNet, arch: str, pictures: torch.Tensor) -> PoseNet:
    """A network of architecture `arch`, which has the layers of `old` with more channels, that answers as `old` does.

    Args:
        old: Stays as it is.
        arch: Name of the new architecture.
        pictures: (B, 3, H, W) normalised crops.

    Raises:
        ValueError: The new architecture has other layers, or fewer channels somewhere.
    """
    new = build_model(arch, old.num_keypoints)
    before, after = old.state_dict(), new.state_dict()
    if set(before) != set(after) or any(
        wide < narrow for name in before for narrow, wide in zip(before[name].shape, after[name].shape, strict=True)
    ):
        raise ValueError(f"{arch} is not the old network with more channels")
    for module in new.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        for name, value in after.items():
            kept = before[name]
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
            if "running" in name:
                count = len(before[name])
                after[name][count:] = value[count:]
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), required=True)
    parser.add_argument("--crops", type=Path, required=True, help="folder that scripts/draw_pose_crops.py filled")
    options = parser.parse_args()
    torch.manual_seed(0)
    old, card = load_model(options.old)
    material = read_material("clean", None, [options.crops])
    crops, _, _ = Batches(material, SHARES["clean"], 0).next((128, 96), 128)
    pictures = normalize(torch.from_numpy(np.ascontiguousarray(crops)))
    new = widen(old, options.arch, pictures)
    with torch.inference_mode():
        change = (new.eval()(pictures) - old.eval()(pictures)).abs().max().item()
    save_model(options.new, new, dataclasses.replace(card, arch=options.arch))
    print(f"{options.new}: {options.arch}, heatmaps changed by {change:.1e} at most")


if __name__ == "__main__":
    main()
