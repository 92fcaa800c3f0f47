"""The order of samples: shuffled, cut into batches, dealt out to processes, and entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wholepose.errors import ConfigError


class BatchSampler:
    """Batches of (epoch, index) pairs for one of several processes; a ``DataLoader`` takes it as ``batch_sampler``.

    Each step takes the next ``batch_size * processes`` samples of the epoch's order and gives every process its own run
    of them: two processes with batches of 16 see together what one sees with batches of 32. The order depends on the
    seed and the epoch alone.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        """Makes a sampler that stands at the first batch of epoch 0.

        Args:
            length: Samples in an epoch.
            batch_size: Samples a batch and process.
            seed: Another seed, another order.
            rank: Which process this is.
            processes: How many there are.
            shuffle: Or else in order.
            drop_last: Leave out what does not fill a step; otherwise the last step's samples are dealt out as evenly as
                they go, and a process may get one batch fewer than others.

        Raises:
            ConfigError: An epoch has no full step.
            ValueError: An argument makes no sense.
        """
        if length < 0 or batch_size < 1 or not 0 <= rank < processes:
            raise ValueError(f"length {length}, batch_size {batch_size}, rank {rank} of {processes} make no sampler")
        if drop_last and length < batch_size * processes:
            raise ConfigError(
                f"an epoch has {length} samples, less than one step of {processes} x {batch_size}; lower the batch size"
            )
        self.length, self.batch_size = length, batch_size
        self.seed, self.rank, self.processes = seed, rank, processes
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch, self.start = 0, 0

    @property
    def steps(self) -> int:
        """Steps in a whole epoch, the same for all processes."""
        step = self.batch_size * self.processes
        return self.length // step if self.drop_last else -(-self.length // step)

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Chooses where the next iteration begins.

        Args:
            epoch: From 0.
            start: Steps of it that are already done.

        Raises:
            ValueError: The epoch has no such step.
        """
        if epoch < 0 or not 0 <= start <= self.steps:
            raise ValueError(f"there is no step {start} of epoch {epoch}; an epoch has {self.steps} steps")
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Batches that an iteration yields from the current position."""
        return sum(1 for step in range(self.start, self.steps) if len(self._places(step)))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yields the batches of the epoch from the current position on."""
        epoch = self.epoch
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        for step in range(self.start, self.steps):
            batch = [(epoch, int(order[place])) for place in self._places(step)]
            if batch:
                yield batch

    def _places(self, step: int) -> range:
        """This process's places in the epoch's order at a step."""
        step_size = self.batch_size * self.processes
        first = step * step_size
        size = min(step_size, self.length - first)
        low, high = (first + size * rank // self.processes for rank in (self.rank, self.rank + 1))
        return range(low, high)
