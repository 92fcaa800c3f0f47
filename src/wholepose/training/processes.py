"""One process or many: what PyTorch's own launcher, ``torchrun``, has set up, behind a few small functions."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

from wholepose.errors import ConfigError


def join() -> tuple[int, int]:
    """Joins the processes that ``torchrun`` started.

    Returns:
        This process's rank and how many there are; (0, 1) without ``torchrun``.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=10))
    return dist.get_rank(), dist.get_world_size()


def leave() -> None:
    """Takes this process out of the group, where there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """The device that a run uses: of several GPUs the one that belongs to this process.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def totals(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each value over all processes.

    Args:
        values: As many on every process.
        device: The run's, whose network the sum goes through.
    """
    if not dist.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def gather(value: Any) -> list[Any]:
    """What every process holds, in the order of ranks; nobody goes on before all have asked."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Lets every batch norm see the samples of all processes, as if one process had the whole batch.

    PyTorch's own layer does this on GPUs only; elsewhere :class:`SharedBatchNorm` does.
    """
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(model, name, shared.to(device, child.weight.dtype))
        else:
            synchronise_batch_norm(child, device)
    return model


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics over all processes, on any device; every process must have as many values."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, h, w)."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = input.numel() // input.shape[1] * dist.get_world_size()
        values = input.to(torch.promote_types(input.dtype, self.weight.dtype))  # half precision is too coarse for sums
        mean: Tensor = _Sum.apply(values.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        centered = values - mean[:, None, None]
        variance: Tensor = _Sum.apply(centered.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _Sum(Function):
    """Sum over processes whose gradient is the sum over processes too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
