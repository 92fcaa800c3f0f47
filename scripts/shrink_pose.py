"""Takes exchange modules out of a trained pose network that answers about the same without them.

    python scripts/shrink_pose.py LARGE.safetensors SMALL.safetensors --arch hrnet_w32_deep_f96 --minutes 15 \\
        --processes 2 --crops runs/crops --scenes runs/scenes --data ../shared/data

The first modules of each stage stay, and its last one, which leads out of it: some modules of a network that has been
made deeper (scripts/grow_pose.py) and then trained briefly do almost nothing. For so many minutes the smaller network
then learns to give the larger one's heatmaps, of the crops that scripts/train_pose.py learns from.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import cv2
import torch
from fixed_norms import fix_norms
from grow_pose import place
from machine import has_fast_bf16
from muon import Muon, split_parameters
from pose_photos import read_material
from pose_samples import SHARES, Samples
from together import Together, run_together
from tqdm import tqdm
from train_pose import LARGE, OUTER, RATES

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.decode import normalize
from wholepose.models.folding import fold_batch_norms
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model

SIZE, COUNT = LARGE.size, LARGE.count
RATE = 0.1
"""Highest learning rate against that for new weights."""
RISING = 30
"""Steps until they are reached; from then on they fall evenly to nothing."""


def shrink(old: PoseNet, arch: str) -> PoseNet:
    """The network without the modules that architecture `arch` does not have.

    Raises:
        ValueError: They differ in more than the number of modules, or the new one has more of them.
    """
    before, after = old.config, ARCHITECTURES[arch]
    if dataclasses.replace(before, modules=after.modules) != after or any(
        ours > theirs for ours, theirs in zip(after.modules, before.modules, strict=True)
    ):
        raise ValueError(f"{arch} is not the old network with fewer exchange modules")
    kept = old.state_dict()
    new = build_model(arch, old.num_keypoints)
    new.load_state_dict({name: kept[place(name, after, before)] for name in new.state_dict()})
    return new


def imitate(together: Together, options: argparse.Namespace) -> None:
    """Writes the smaller network after it has learnt from the larger one for some minutes."""
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    old, card = load_model(options.old)
    new = shrink(old, options.arch)
    if options.minutes:
        learn(new, fold_batch_norms(old), together, options)
    if together.leads:
        save_model(options.new, new, dataclasses.replace(card, arch=options.arch))
        sizes = [sum(parameter.numel() for parameter in network.parameters()) / 1e6 for network in (old, new)]
        print(f"{options.new}: {options.arch}, {sizes[1]:.1f} million parameters of {sizes[0]:.1f}")


def learn(new: PoseNet, old: PoseNet, together: Together, options: argparse.Namespace) -> None:
    """Brings the heatmaps of `new` near those of `old`."""
    material = read_material("default", options.data, options.crops, options.scenes)
    samples = Samples(material, SHARES["default"], options.seed + 1_000_000 * together.rank)
    samples.want(SIZE, COUNT, 0.8)
    fix_norms(new)
    for network in (new, old):
        network.to(memory_format=torch.channels_last)
    filters, others = split_parameters(new, OUTER)
    optimisers = {"filters": Muon(filters), "others": torch.optim.AdamW(others, weight_decay=0.0)}
    started, running = time.monotonic(), None
    bar = tqdm(unit=" crops", disable=not together.leads)
    for step, (crops, _, _) in enumerate(samples):
        done = together.agreed((time.monotonic() - started) / 60 / options.minutes)
        if done >= 1:
            break
        for name, optimiser in optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = RATE * RATES[name] * min(1.0, (step + 1) / RISING) * (1 - done)
        pictures = normalize(crops)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bf16(torch.device("cpu"))):
            with torch.no_grad():
                told = old(pictures).float()
            heatmaps = new(pictures).float()
        loss = (heatmaps - told).square().mean()
        loss.backward()
        together.average_gradients(list(new.parameters()))
        for optimiser in optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        running = loss.detach() if running is None else running.lerp(loss.detach(), 0.05)
        bar.update(COUNT * together.count)
        bar.set_postfix_str(f"apart {running.sqrt().item():.4f}")
    bar.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), required=True)
    parser.add_argument("--minutes", type=float, default=0, help="of learning from the old network; default: none")
    parser.add_argument("--data", type=Path, help="folder of the labelled photos")
    parser.add_argument("--crops", type=Path, nargs="*", default=[], help="folders of scripts/draw_pose_crops.py")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="folders of scripts/draw_detector_scenes.py")
    parser.add_argument("--processes", type=int, default=1, help="of one thread each, that share the work")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.minutes and (options.data is None or not options.crops):
        parser.error("learning needs --data and --crops")
    run_together(options.processes, imitate, options)


if __name__ == "__main__":
    main()
