"""Folding batch norms into the convolutions before them, for inference and export."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from wholepose.models.posenet import PoseNet


def fold_batch_norms(model: PoseNet) -> PoseNet:
    """A copy of a model, in evaluation mode, whose convolutions do the work of the batch norms after them.

    The weights are computed in float64. The copy answers as the model does in evaluation mode, up to rounding; it is
    faster, but can be neither trained nor saved.

    Args:
        model: Stays as it is.

    Returns:
        A model with ``nn.Identity`` where the batch norms were.
    """
    folded = copy.deepcopy(model).eval()
    for module, (conv_name, conv), (norm_name, norm) in list(normed_convolutions(folded)):
        setattr(module, conv_name, _folded(conv, norm))
        setattr(module, norm_name, nn.Identity())
    return folded.requires_grad_(False)


def normed_convolutions(
    model: nn.Module,
) -> Iterator[tuple[nn.Module, tuple[str, nn.Conv2d], tuple[str, nn.BatchNorm2d]]]:
    """Yields each convolution that a batch norm follows, and that norm, with names, and the module they are in."""
    for module in model.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield module, (conv_name, conv), (norm_name, norm)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with bias that does what a convolution without bias and its batch norm do."""
    assert conv.bias is None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight: Tensor = conv.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        result = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            (conv.stride[0], conv.stride[1]),
            (int(conv.padding[0]), int(conv.padding[1])),
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        result.weight.copy_(weight)
        assert result.bias is not None
        result.bias.copy_(bias)
    return result
