"""Muon: momentum made orthogonal before each step, for the filters between the first layer and the last.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the coefficients of the
Newton-Schulz iteration are theirs. `torch.optim.Muon` takes matrices only; here a filter bank (out, in, h, w) counts as
a matrix of `out` rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from machine import has_fast_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def split_parameters(
    model: torch.nn.Module, outer: tuple[str, ...]
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Filter banks, which Muon moves, and all other parameters, to which those count whose names begin with `outer`."""
    named = list(model.named_parameters())
    inner = {name for name, parameter in named if parameter.ndim == 4 and not name.startswith(outer)}
    return [p for name, p in named if name in inner], [p for name, p in named if name not in inner]


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The matrices with singular values brought near 1: (N, R, C) float32, reckoned in bfloat16 where that is fast."""
    a, b, c = COEFFICIENTS
    values = matrices.bfloat16() if has_fast_bf16(matrices.device) else matrices
    values = values / (values.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = values.shape[1] > values.shape[2]
    if tall:
        values = values.mT.contiguous()
    for _ in range(ITERATIONS):
        gram = values @ values.mT
        values = a * values + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ values
    return (values.mT if tall else values).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Steps of equal size in every direction of a filter bank.

    Args:
        parameters: Tensors of two or more dimensions.
        lr: Spectral norm of a step, for banks with no more rows than columns.
        momentum: Of the gradient's running mean; Nesterov's way.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Moves the parameters that have gradients."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((parameter.shape[0], parameter[0].numel()), []).append(parameter)
            for (rows, columns), parameters in alike.items():
                gradients = [parameter.grad for parameter in parameters]
                means = [self.state[p].setdefault("mean", torch.zeros_like(p.grad)) for p in parameters]
                torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
                steps = torch._foreach_lerp(gradients, means, group["momentum"])
                updates = orthogonal(torch.stack([step.flatten(1) for step in steps]))
                views = [update.view_as(p) for update, p in zip(updates, parameters, strict=True)]
                torch._foreach_add_(parameters, views, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
