"""Several processes of one thread each that train one network: on few cores faster than one process of many threads.

Two processes learnt from about 90 crops a second where two threads learnt from 65 to 75 (scripts/train_pose.py on 2
cores, crops of 128 x 96).
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


class Together:
    """The place of this process among those that train together; also for a process alone."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def leads(self) -> bool:
        """Whether this process keeps the clock, the log and the checkpoints."""
        return self.rank == 0

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replaces gradients by their means over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.count).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agreed(self, value: float) -> float:
        """The leader's value."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return shared.item()


def run_together(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Calls `work(together, *arguments)` in `count` processes of one thread each, or in this one."""
    if count == 1:
        work(Together(), *arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it takes the others with it
    mp.start_processes(_work, (count, address, work, arguments), nprocs=count, daemon=True, start_method="spawn")


def _work(rank: int, count: int, address: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
    try:
        work(Together(rank, count), *arguments)
    finally:
        dist.destroy_process_group()
