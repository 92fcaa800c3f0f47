"""Weights averaged over the last steps, which do better than those of the last step."""

from __future__ import annotations

import torch


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module, step: int, longest: float = 0.999) -> None:
    """Moves averaged weights and statistics towards the network's after step `step`, counted from 1.

    After many steps a step keeps the share `longest` of the average.
    """
    keep = min(longest, (1 + step) / (10 + step))
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    kept, new = zip(*(pair for pair in pairs if pair[0].dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(list(kept), list(new), 1 - keep)  # a few calls instead of one for each, which a GPU waits for
