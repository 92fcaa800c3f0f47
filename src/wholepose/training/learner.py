"""The network in training: one optimiser step, and everything that must be saved to take the next one elsewhere."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wholepose.models.decode import normalize
from wholepose.models.posenet import STRIDE, PoseNet
from wholepose.training import processes
from wholepose.training.checkpoint import TrainingState
from wholepose.training.config import TrainConfig
from wholepose.training.loading import TensorBatch
from wholepose.training.losses import heatmap_loss
from wholepose.training.network import build_optimiser
from wholepose.training.schedule import WeightAverage
from wholepose.training.targets import heatmap_targets

ACCURACY_THRESHOLD = 0.05
"""A keypoint is counted as found when its highest cell is this near, as a share of the map's sides."""


@dataclass(frozen=True)
class Step:
    """What one optimiser step did.

    Attributes:
        loss: Mean over the whole batch, all processes.
        useful: False where the step was undone: its loss or gradient was not finite, or nothing in it was labelled.
        accuracy: Share of this process's labelled keypoints that were found; 0 where that was not asked for.
    """

    loss: float
    useful: bool
    accuracy: float


class Learner:
    """Network, averaged weights, optimiser and gradient scale.

    Args:
        network: The network with its start weights, on the CPU.
        config: How to train.
        device: Where.
    """

    def __init__(self, network: PoseNet, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = network
        shared = processes.count() > 1
        if device.type == "cpu":
            torch.set_flush_denormal(True)  # weights near 0 would make some steps many times slower
        if shared:
            processes.synchronise_batch_norm(network, device)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.optimiser = build_optimiser(config.optimiser, network)
        self.average = WeightAverage(network, config.ema_decay) if config.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
        model: nn.Module = network
        if config.compile:
            model = torch.compile(model)  # type: ignore[assignment]
        if shared:
            model = DistributedDataParallel(model)
        self.model = model.train()
        self._buffers = list(network.buffers())
        self._kept_buffers = [buffer.clone() for buffer in self._buffers]

    def step(self, batch: TensorBatch, lr: float, *, measure: bool = False) -> Step:
        """Takes one optimiser step, unless the batch is of no use.

        Args:
            batch: This process's share.
            lr: Learning rate.
            measure: Work out the accuracy.
        """
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        torch._foreach_copy_(self._kept_buffers, self._buffers)
        self.optimiser.zero_grad(set_to_none=True)
        loss_sum = labelled = torch.zeros((), device=self.device)
        accuracy = 0.0
        parts = [TensorBatch(*tensors) for tensors in zip(*(t.chunk(config.accumulate) for t in batch), strict=True)]
        for number, part in enumerate(parts, 1):
            with self._local_gradients(number < len(parts)):
                heatmaps, targets, weights = self._forward(part)
                loss = heatmap_loss(heatmaps, targets, weights) / len(parts)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            loss_sum = loss_sum + loss.detach()
            labelled = labelled + weights.sum()
            if measure and number == len(parts):
                accuracy = _accuracy(heatmaps.detach(), targets, weights)
        self.scaler.unscale_(self.optimiser)
        limit = config.optimiser.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        loss_here, labelled_here, norm_here = torch.stack([loss_sum, labelled, norm]).tolist()
        overflow = not math.isfinite(norm_here)
        # In half precision a gradient may be too large for its scale, which the scaler then lowers; not so at scale 1.
        bad = not math.isfinite(loss_here) or (overflow and self.scaler.get_scale() <= 1)
        loss_total, labelled_total, bad_total = processes.totals([loss_here, labelled_here, float(bad)], self.device)
        useful = labelled_total > 0 and bad_total == 0
        if useful:
            self.scaler.step(self.optimiser)  # leaves the weights as they are where a scaled gradient overflowed
        else:
            torch._foreach_copy_(self._buffers, self._kept_buffers)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        return Step(loss_total / processes.count(), useful, accuracy)

    def _forward(self, part: TensorBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Heatmaps (B, K, h, w), targets (B, K, h, w) and weights (B, K) of a part of the batch."""
        config = self.config
        crops, keypoints, labels = (tensor.to(self.device, non_blocking=True) for tensor in part[:3])
        height, width = (side // STRIDE for side in config.model.input_size)
        targets, weights = heatmap_targets(
            keypoints, labels, (height, width), stride=STRIDE, sigma=config.model.sigma, protocol=config.protocol
        )
        pixels = normalize(crops)
        if not config.channels_last:
            pixels = pixels.contiguous()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            heatmaps = self.model(pixels)
        return heatmaps, targets, weights

    def _local_gradients(self, more_to_come: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients of all but the last part wait for the others of this process."""
        if more_to_come and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return contextlib.nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """The weights that are judged and kept: the average, where there is one."""
        return self.average.state if self.average else self.network.state_dict()

    @contextlib.contextmanager
    def judged(self) -> Iterator[PoseNet]:
        """The network with the weights that are judged, in evaluation mode; afterwards as before."""
        plain = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights())
        self.network.eval()
        try:
            yield self.network
        finally:
            self.network.load_state_dict(plain)
            self.network.train()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by dotted name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def restore(self, state: TrainingState) -> None:
        """Goes back to where :meth:`tensors` and ``scaler.state_dict()`` were taken."""
        self.network.load_state_dict(state.group("model"))
        if self.average:
            for name, tensor in state.group("average").items():
                self.average.state[name].copy_(tensor)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.group("optimiser").items():
            index, key = name.split(".", 1)
            like = parameters[int(index)]
            # The memory layout is the parameter's, which makes a step faster; it is not saved.
            kept = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(index), {})[key] = kept
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.scaler.load_state_dict(state.values["scaler"])
        torch.set_rng_state(state.tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random.cuda"], self.device)


def _accuracy(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> float:
    """Share of the labelled keypoints whose highest cell is within ``ACCURACY_THRESHOLD`` of the target's."""
    height, width = heatmaps.shape[2:]
    peaks = [maps.flatten(2).argmax(2) for maps in (heatmaps, targets)]
    x = (peaks[0] % width - peaks[1] % width) / width
    y = (peaks[0] // width - peaks[1] // width) / height
    counted = weights > 0
    near = (torch.hypot(x.float(), y.float()) < ACCURACY_THRESHOLD) & counted
    return float(near.sum().item()) / max(1, int(counted.sum().item()))
