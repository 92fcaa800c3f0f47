"""The learning rate as a function of the step, and averaged weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wholepose.training.config import ScheduleConfig

WARMUP_SHARE = 0.2
"""Largest share of a run's steps that warm up."""


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """What the base learning rate is multiplied with in one optimiser step.

    The warm-up takes at most ``WARMUP_SHARE`` of the run: a few steps on a small set must not be all warm-up.

    Args:
        schedule: Its shape.
        step: Steps done so far; the first step is 0.
        steps_per_epoch: Optimiser steps of an epoch.
        total_steps: Optimiser steps of the whole run.

    Returns:
        A factor in [0, 1].
    """
    factor = 1.0
    if schedule.name == "step":
        epoch = step // steps_per_epoch
        factor = schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
    else:
        done = min(1.0, step / max(1, total_steps))
        factor = schedule.final_fraction + (1 - schedule.final_fraction) * 0.5 * (1 + math.cos(math.pi * done))
    warmup_steps = min(schedule.warmup_steps, WARMUP_SHARE * total_steps)
    if step < warmup_steps:
        share = step / warmup_steps
        factor *= schedule.warmup_start + (1 - schedule.warmup_start) * share
    return factor


class WeightAverage:
    """Exponential moving average of a model's weights and batch statistics.

    The decay starts low and rises, so that the average of a short run is not its random beginning.

    Args:
        model: Whose weights are averaged.
        decay: The decay that is reached.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model; ``step`` counts updates from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [(self.state[name], tensor) for name, tensor in model.state_dict().items()]
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        torch._foreach_lerp_([kept for kept, _ in averaged], [tensor for _, tensor in averaged], 1 - decay)
        if counters:
            torch._foreach_copy_([kept for kept, _ in counters], [tensor for _, tensor in counters])
