"""Means of weights: over the last steps, or of two networks, which often do better than any of them."""

from __future__ import annotations

import torch


def follow(average: torch.nn.Module, network: torch.nn.Module, step: int, longest: float = 0.999) -> None:
    """Moves averaged weights and statistics towards the network's after step `step`, counted from 1.

    After many steps a step keeps the share `longest` of the average.
    """
    keep = min(longest, (1 + step) / (10 + step))
    move(average, network, 1 - keep)


@torch.no_grad()
def move(network: torch.nn.Module, other: torch.nn.Module, share: float) -> None:
    """Moves weights and statistics of a network by `share` of the way to those of another one of the same shape."""
    pairs = zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    kept, new = zip(*(pair for pair in pairs if pair[0].dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(list(kept), list(new), share)  # a few calls instead of one for each, which a GPU waits for
