"""Gives a trained pose network more features before its heatmaps, without changing what it answers.

    python scripts/widen_pose.py OLD.safetensors NEW.safetensors --crops runs/crops

The last exchange brings all branches to so many channels. Those that were there stay as they were; the new ones start
as random mixtures of the branches that no heatmap uses yet. Pictures are needed to learn the scale of what has had no
batch norm so far.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pose_samples import SHARES, Batches, read_material

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.decode import normalize
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model

NEW_SCALE = 0.5
"""Spread of each branch's share in the new channels: four of them make one."""


def widen(old: PoseNet, arch: str, pictures: torch.Tensor) -> PoseNet:
    """A network of architecture `arch`, which differs in `features` alone, that answers as `old` does.

    Args:
        old: Stays as it is; its features are its width.
        arch: Name of the new architecture.
        pictures: (B, 3, H, W) normalised crops.
    """
    new = build_model(arch, old.num_keypoints)
    kept = old.config.out_channels
    before = old.state_dict()
    fuse = new.backbone.stage4[-1].fuse_layers[0]
    for source, layer in enumerate(fuse):
        torch.nn.init.kaiming_normal_(layer[0].weight, nonlinearity="linear")
        torch.nn.init.constant_(layer[1].weight, NEW_SCALE)
        if source == 0:
            with torch.no_grad():
                layer[0].weight[:kept] = torch.eye(kept)[..., None, None]
    torch.nn.init.zeros_(new.head.final_layer.weight)
    with torch.no_grad():
        for name, value in new.state_dict().items():
            if name in before:
                value[tuple(slice(side) for side in before[name].shape)] = before[name]

    # What the finest branch brings had no batch norm: one that changes nothing is put there. The others know the scale
    # of their old channels, not of their new ones.
    outputs: dict[int, torch.Tensor] = {}
    hooks = [layer[0].register_forward_hook(partial(_keep, outputs, source)) for source, layer in enumerate(fuse)]
    with torch.inference_mode():
        new.eval()(pictures)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for source, layer in enumerate(fuse):
            convolution_output, norm = outputs[source], layer[1]
            unknown = slice(0 if source == 0 else kept, None)
            norm.running_mean[unknown] = convolution_output.mean((0, 2, 3))[unknown]
            norm.running_var[unknown] = convolution_output.var((0, 2, 3))[unknown]
        finest = fuse[0][1]
        finest.weight[:kept] = (finest.running_var + finest.eps).sqrt()[:kept]
        finest.bias[:kept] = finest.running_mean[:kept]
    return new


def _keep(
    outputs: dict[int, torch.Tensor], source: int, _module: object, _inputs: object, output: torch.Tensor
) -> None:
    outputs[source] = output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), default="hrnet_w24_slim_f96")
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
