"""Takes exchange modules out of a trained pose network that answers about the same without them.

    python scripts/shrink_pose.py LARGE.safetensors SMALL.safetensors --arch hrnet_w32_deep_f96

The first modules of each stage stay, and its last one, which leads out of it: some modules of a network that has been
made deeper (scripts/grow_pose.py) and then trained briefly do almost nothing. What little they did is learnt again with
`scripts/train_pose.py default --init SMALL.safetensors --teacher LARGE.safetensors --fixed-norms --rate .1`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from grow_pose import place

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), required=True)
    options = parser.parse_args()
    old, card = load_model(options.old)
    new = shrink(old, options.arch)
    save_model(options.new, new, dataclasses.replace(card, arch=options.arch))
    before, after = (sum(parameter.numel() for parameter in network.parameters()) / 1e6 for network in (old, new))
    print(f"{options.new}: {options.arch}, {after:.1f} million parameters of {before:.1f}")


if __name__ == "__main__":
    main()
