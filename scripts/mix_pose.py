"""Takes the weighted mean of the weights of two networks of the same line, which often does better than either.

    python scripts/mix_pose.py ONE.safetensors OTHER.safetensors NEW.safetensors --share 0.35

Both must have come from the same trained weights; means of networks trained apart answer nonsense.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from averaging import move

from wholepose.models.checkpoints import load_model, save_model
from wholepose.models.posenet import PoseNet


def mix(one: PoseNet, other: PoseNet, share: float) -> None:
    """Moves the weights and statistics of `one` by `share` of the way to those of `other`.

    Raises:
        ValueError: They are networks of different shapes.
    """
    if one.config != other.config or one.num_keypoints != other.num_keypoints:
        raise ValueError("the networks differ in shape")
    move(one, other, share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", type=Path, help="its card is kept")
    parser.add_argument("other", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the other one; default: 0.5")
    options = parser.parse_args()
    (one, card), (other, _) = load_model(options.one), load_model(options.other)
    mix(one, other, options.share)
    save_model(options.new, one, card)


if __name__ == "__main__":
    main()
