"""CUDA graphs: the hundreds of small kernels of an HRNet are recorded once and started with one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BATCH = 256
"""Larger batches keep a GPU busy without this."""

_WARM_UP_RUNS = 3


class GraphedFunction:
    """A function of a batch on an NVIDIA GPU, recorded for batches of 1, 2, 4, ... and replayed. Threads may share it.

    A batch of another size is filled up with whatever the last one left there, so the function must treat every crop
    alone. The first call for a size is slow: it tries the GPU's algorithms and records.

    Args:
        function: (B, ...) tensor to (B, ...) tensor, both on the GPU; without any copy from or to the host in it.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._recorded: dict[int, tuple[object, Tensor, Tensor]] = {}
        self._pool: object = None
        self._lock = threading.Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        """Computes the function.

        Args:
            batch: (B, ...) on the GPU, 1 <= B <= ``LARGEST_BATCH``; of the same shape but for B, and dtype, each time.

        Returns:
            (B, ...) in host memory.
        """
        size = 1 << (len(batch) - 1).bit_length()
        with self._lock:  # inputs and outputs have fixed places
            if size not in self._recorded:
                self._recorded[size] = self._record(batch, size)
            graph, inputs, outputs = self._recorded[size]
            inputs[: len(batch)].copy_(batch)
            graph.replay()  # type: ignore[attr-defined]
            return outputs[: len(batch)].cpu()

    def _record(self, batch: Tensor, size: int) -> tuple[object, Tensor, Tensor]:
        import torch

        inputs = batch.new_zeros((size, *batch.shape[1:]))
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                self._function(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile. The graphs share memory: they never run at the same time.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]
            outputs = self._function(inputs)
        self._pool = self._pool or graph.pool()
        return graph, inputs, outputs
