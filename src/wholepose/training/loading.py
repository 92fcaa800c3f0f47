"""Batches as tensors, made in loader processes or in the training process, with the same result."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wholepose.data.dataset import PoseDataset, Sample, collate
from wholepose.data.sampler import BatchSampler
from wholepose.errors import TrainingError, WholeposeError


class TensorBatch(NamedTuple):
    """B samples as tensors.

    Attributes:
        crops: (B, H, W, 3) uint8 RGB.
        keypoints: (B, K, 2) float32 crop pixels.
        weights: (B, K) float32; 0 is not labelled.
        matrices: (B, 2, 3) float64 maps from photo pixels to crop pixels.
        people: (B,) int64 rows in the annotations of the dataset's source.
    """

    crops: Tensor
    keypoints: Tensor
    weights: Tensor
    matrices: Tensor
    people: Tensor


_Loaded = tuple[TensorBatch | None, list[WholeposeError]]
"""A batch of the samples that could be made, None without any, and why the others could not."""


def make_loader(
    dataset: PoseDataset, sampler: BatchSampler, *, workers: int, persistent: bool = False, pin_memory: bool = False
) -> DataLoader[_Loaded]:
    """Makes a loader; go through it with :func:`batches`.

    Args:
        dataset: The samples.
        sampler: Their order; its position counts whenever an iteration begins.
        workers: Processes; 0 makes batches in this one.
        persistent: Keep the processes from one epoch to the next.
        pin_memory: For a GPU.
    """
    context = None
    if workers:
        # A plain fork copies the locks of threads that PyTorch, the log and the process group have running, but not the
        # threads that would release them. A fork server has none of those, and is faster to start from than nothing.
        served = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if served else "spawn")
        if served:
            context.set_forkserver_preload([__name__])
    return DataLoader(
        _Guarded(dataset),  # type: ignore[arg-type]  # typed by the sample, the loader by what collate_fn makes
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        persistent_workers=persistent and workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else every iteration would draw from the run's own random state
    )


def batches(loader: DataLoader[_Loaded], failures: list[str] | None = None) -> Iterator[TensorBatch]:
    """Yields the batches of an iteration.

    Args:
        loader: From :func:`make_loader`.
        failures: Gets a message for each sample that cannot be made, and batches go without it; None raises the first.

    Raises:
        TrainingError: A loader process died.
        WholeposeError: A sample cannot be made; the message names the photo.
    """
    iterator = iter(loader)
    while True:
        try:
            batch, errors = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                f"a loader process died ({str(error).splitlines()[0]}); often memory ran out: try "
                "--set data.workers=0 or data.cache_images=false, then run again to go on"
            ) from error
        if errors and failures is None:
            raise errors[0]
        if failures is not None:
            failures.extend(map(str, errors))
        if batch is not None:
            yield batch


class _Guarded(torch.utils.data.Dataset[Sample | WholeposeError]):
    """Hands errors over as values: a loader process would wrap them into its own traceback."""

    def __init__(self, dataset: PoseDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | WholeposeError:
        try:
            return self.dataset[key]
        except WholeposeError as error:
            return error


def _collate(samples: list[Sample | WholeposeError]) -> _Loaded:
    errors = [sample for sample in samples if isinstance(sample, WholeposeError)]
    whole = [sample for sample in samples if not isinstance(sample, WholeposeError)]
    if not whole:
        return None, errors
    batch = collate(whole)
    arrays = (batch.crops, batch.keypoints, batch.weights, batch.matrices, batch.people)
    return TensorBatch(*map(torch.from_numpy, arrays)), errors


def _start_worker(_worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the trainer ends its loaders
    threading.Thread(target=_end_with_trainer, daemon=True).start()


def _end_with_trainer() -> None:
    """Ends this loader process when the trainer is gone; PyTorch looks at the fork server, which would live on."""
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)
