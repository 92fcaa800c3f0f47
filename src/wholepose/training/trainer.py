"""The training loop: resumable at any step, alone or in many processes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from wholepose.data.annotations import AnnotationSet, read_annotations
from wholepose.data.dataset import PoseDataset, Sample, Source, collate
from wholepose.data.photos import PhotoStore
from wholepose.data.sampler import BatchSampler
from wholepose.errors import ConfigError, TrainingError
from wholepose.models.checkpoints import save_model
from wholepose.models.posenet import STRIDE
from wholepose.outputs import atomic_path
from wholepose.skeletons import get_skeleton
from wholepose.training import processes
from wholepose.training.checkpoint import CheckpointFolder, TrainingState
from wholepose.training.config import SetConfig, TrainConfig, difference, from_json, to_json
from wholepose.training.losses import heatmap_loss
from wholepose.training.network import build_network, build_optimiser, normalise
from wholepose.training.run_log import RunLog
from wholepose.training.schedule import WeightAverage, learning_rate_factor
from wholepose.training.targets import heatmap_targets
from wholepose.training.validation import Validation, validate
from wholepose.weights import ModelCard

MOST_SKIPPED_IN_A_ROW = 10
ACCURACY_THRESHOLD = 0.05
"""``acc_pose`` of the log counts keypoints whose highest cell is this near, as a share of the map's sides."""

TensorBatch = tuple[Tensor, Tensor, Tensor]  # crops uint8 (B, H, W, 3), keypoints (B, K, 2), visibility (B, K)


class Observer(Protocol):
    """Whoever watches a run; the command line draws its progress bar from this."""

    def started(self, config: TrainConfig, steps: int, done: int) -> None:
        """A stage begins, with ``done`` of its optimiser steps behind it."""

    def stepped(self, epoch: int, loss: float, lr: float) -> None:
        """An optimiser step is done."""

    def said(self, message: str) -> None:
        """Something worth a line happened."""


@dataclass
class Progress:
    """Where a run stands; saved in each checkpoint."""

    step: int = 0
    updates: int = 0
    epoch: int = 0
    position: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_ap: float = -1.0
    window_loss: float = 0.0
    window_steps: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: All epochs are done.
        stopped_by: The signal that ended it early, or None.
        weights: The weights to use: the best in validation, or the last without validation. None when not finished.
        best_ap: Their AP in [0, 1]; -1 without validation.
    """

    finished: bool
    stopped_by: int | None
    weights: Path | None
    best_ap: float


class _Stop(Exception):  # noqa: N818 - not an error
    """A signal arrived; the current step is dropped, to be done again after resuming."""


def collate_tensors(samples: list[Sample]) -> TensorBatch:
    """Stacks samples into tensors, which worker processes hand over in shared memory."""
    batch = collate(samples)
    return torch.from_numpy(batch.crops), torch.from_numpy(batch.keypoints), torch.from_numpy(batch.weights)


def _quiet_worker(_worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the trainer decides


class Trainer:
    """Trains one stage in a folder, from its newest checkpoint if it has one.

    The folder gets ``config.json``, ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``last.safetensors`` and, with
    validation, ``best.safetensors``.

    Args:
        config: What to do.
        run: The folder.
        device: As :func:`wholepose.training.processes.choose_device` takes it.
        observer: Who is told of progress.
    """

    def __init__(self, config: TrainConfig, run: Path, *, device: str = "auto", observer: Observer | None = None) -> None:
        self.config, self.run, self.observer = config, run, observer
        self.rank, self.processes = processes.join()
        self.device = processes.choose_device(device)
        if config.batch_size % (self.processes * config.accumulate):
            raise ConfigError(
                f"batch_size {config.batch_size} cannot be dealt out to {self.processes} processes in "
                f"{config.accumulate} parts each; make it a multiple of {self.processes * config.accumulate}"
            )
        self._settle_config()
        torch.set_flush_denormal(True)
        self.progress = Progress()
        self.dataset = self._dataset()
        self.val = None if config.data.val is None else self._read(config.data.val)
        self.sampler = BatchSampler(
            len(self.dataset),
            config.batch_size // self.processes,
            seed=config.seed,
            rank=self.rank,
            processes=self.processes,
        )
        self.network, report = build_network(config)
        if report is not None:
            self._say(str(report))
        if self.processes > 1:
            processes.synchronise_batch_norm(self.network, self.device)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.network.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimiser = build_optimiser(config.optimiser, self.network)
        self.average = WeightAverage(self.network, config.ema_decay) if config.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self._statistics = [buffer.clone() for buffer in self.network.buffers()]
        self._signal: int | None = None
        self._saved_at = time.monotonic()
        self.checkpoints = CheckpointFolder(run / "checkpoints", config.keep_last)
        log_length = self._resume()
        self.log = RunLog(run, log_length, self.progress.step) if self.rank == 0 else None
        model: nn.Module = self.network
        if config.compile:
            model = torch.compile(model)  # type: ignore[assignment]
        if self.processes > 1:
            model = DistributedDataParallel(model, broadcast_buffers=False)
        self.model = model.train()

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.config.epochs * self.sampler.steps

    def fit(self) -> Outcome:
        """Trains to the end or until SIGTERM or Ctrl-C, which save first.

        Raises:
            TrainingError: Ten steps in a row were no use, or a loader process died.
            OSError: A checkpoint could not be written; the one before is whole.
        """
        if self.observer and self.rank == 0:
            self.observer.started(self.config, self.total_steps, self.progress.step)
        with self._listening():
            try:
                self._epochs()
            except _Stop:
                self._save()
                return Outcome(False, self._signal or int(signal.SIGTERM), None, self.progress.best_ap)
            finally:
                if self.log:
                    self.log.close()
        best = self.run / "best.safetensors"
        chosen = best if self.val is not None and best.exists() else self.run / "last.safetensors"
        return Outcome(True, None, chosen, self.progress.best_ap)

    # --- setting up

    def _settle_config(self) -> None:
        path = self.run / "config.json"
        if path.exists():
            old = from_json(path.read_text(), str(path))
            changes = difference(old, self.config)
            if changes:
                listed = "\n  ".join(changes)
                raise ConfigError(
                    f"{self.run} holds a run with other settings; give --run another folder, or the old ones:\n  {listed}"
                )
        if self.rank == 0:
            self.run.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_text(to_json(self.config))

    def _read(self, part: SetConfig) -> AnnotationSet:
        return read_annotations(
            part.annotations,
            images=part.images or None,
            skeleton=get_skeleton(self.config.model.skeleton),
            protocol=self.config.protocol,
        )

    def _dataset(self) -> PoseDataset:
        data = self.config.data
        if not data.train:
            raise ConfigError("there is nothing to train on: name annotation files or a dataset folder with --data")
        dataset = PoseDataset(
            [Source(self._read(part), weight=part.weight) for part in data.train],
            self.config.model.input_size,
            augment=self.config.augment,
            seed=self.config.seed,
            protocol=self.config.protocol,
            photos=PhotoStore(keep="pixels") if data.cache_images else None,
        )
        if data.cache_images:
            dataset.preload()
        return dataset

    def _resume(self) -> int:
        """Takes up the newest checkpoint; returns the length of the log that belongs to it."""
        state = self.checkpoints.load_newest()
        if state is None:
            return 0
        self.progress = Progress(**state.values["progress"])
        self.network.load_state_dict(state.group("model"))
        if self.average:
            for name, tensor in state.group("average").items():
                self.average.state[name].copy_(tensor)
        moments = state.group("optimiser")
        saved = self.optimiser.state_dict()
        saved["state"] = {}
        for name, tensor in moments.items():
            index, key = name.split(".", 1)
            saved["state"].setdefault(int(index), {})[key] = tensor
        self.optimiser.load_state_dict(saved)
        self.scaler.load_state_dict(state.values["scaler"])
        torch.set_rng_state(state.tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random.cuda"], self.device)
        self._say(f"resuming at step {self.progress.step} of {self.total_steps}")
        return int(state.values["log_bytes"])

    # --- the loop

    def _epochs(self) -> None:
        config, progress = self.config, self.progress
        loader = DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            num_workers=config.data.workers,
            collate_fn=collate_tensors,
            persistent_workers=config.data.workers > 0,
            worker_init_fn=_quiet_worker,
            pin_memory=self.device.type == "cuda",
        )
        while progress.epoch < config.epochs:
            self.sampler.set_position(progress.epoch, progress.position)
            waiting = time.perf_counter()
            for batch in self._batches(loader):
                waited = time.perf_counter() - waiting
                self._train_on(batch, waited)
                waiting = time.perf_counter()
            progress.epoch, progress.position = progress.epoch + 1, 0
            last = progress.epoch == config.epochs
            if self.val is not None and (last or progress.epoch % config.evaluate_every == 0):
                self._validate()
            if last:
                self._keep("last")
            self._save()

    def _batches(self, loader: DataLoader[TensorBatch]) -> Iterator[TensorBatch]:
        iterator = iter(loader)
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise TrainingError(
                    f"a loader process died ({str(error).splitlines()[0]}); often memory ran out: try "
                    "--set data.workers=0 or data.cache_images=false, then run again to go on"
                ) from error
            yield batch

    def _train_on(self, batch: TensorBatch, waited_s: float) -> None:
        """One optimiser step, with its line in the log and, when due, its checkpoint."""
        config, progress = self.config, self.progress
        started = time.perf_counter()
        lr = config.optimiser.lr * learning_rate_factor(
            config.schedule, progress.step, self.sampler.steps, self.total_steps
        )
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss, accuracy = self._step(batch)
        progress.step += 1
        progress.position += 1
        if loss is None:
            progress.skipped += 1
            progress.skipped_in_a_row += 1
            self._say(f"step {progress.step} skipped: its loss is not finite or nothing in it is labelled")
            if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
                raise TrainingError(
                    f"{MOST_SKIPPED_IN_A_ROW} steps in a row had a loss that is not finite or nothing labelled; lower "
                    "optimiser.lr, set optimiser.clip_norm, or check the labels with `wholepose data check`"
                )
        else:
            progress.skipped_in_a_row = 0
            progress.updates += 1
            progress.window_loss += loss
            progress.window_steps += 1
            if self.average:
                self.average.update(self.network, progress.updates)
            if self.observer and self.rank == 0:
                self.observer.stepped(progress.epoch + 1, loss, lr)
        if progress.step % config.log_every == 0:
            self._log_window(lr, accuracy, time.perf_counter() - started, waited_s)
        if time.monotonic() - self._saved_at > 60 * config.checkpoint_minutes:
            self._save()

    def _step(self, batch: TensorBatch) -> tuple[float | None, float]:
        """Forward, backward and update; the loss over all processes, or None where the step was no use."""
        config = self.config
        for kept, buffer in zip(self._statistics, self.network.buffers(), strict=True):
            kept.copy_(buffer)
        self.optimiser.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), dtype=torch.float64)
        labelled, accuracy = 0.0, 0.0
        parts = list(zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True))
        for number, part in enumerate(parts, 1):
            with self._local_gradients(number < len(parts)):
                loss, weight, accuracy = self._forward(part)
                bad, stop = processes.largest([not math.isfinite(loss.item()), self._signal is not None], self.device)
                if stop:
                    self._undo()
                    raise _Stop
                if bad:
                    self._undo()
                    return None, 0.0
                self.scaler.scale(loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            labelled += weight
            loss_sum += loss.item() / len(parts)
        self.scaler.unscale_(self.optimiser)
        limit = config.optimiser.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        any_label, broken = processes.largest([labelled > 0, not math.isfinite(norm.item())], self.device)
        if not any_label or (broken and not self.scaler.is_enabled()):
            self._undo()
            return None, 0.0
        self.scaler.step(self.optimiser)  # in fp16 it leaves out a step with gradients that are not finite by itself
        self.scaler.update()
        return float(processes.total(loss_sum.to(self.device)).item()) / self.processes, accuracy

    def _forward(self, part: tuple[Tensor, ...]) -> tuple[Tensor, float, float]:
        """Loss, labelled weight and accuracy of a part of the batch."""
        config = self.config
        crops, keypoints, visibility = (tensor.to(self.device, non_blocking=True) for tensor in part)
        height, width = (side // STRIDE for side in config.model.input_size)
        targets, weights = heatmap_targets(
            keypoints, visibility, (height, width), stride=STRIDE, sigma=config.model.sigma, protocol=config.protocol
        )
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            heatmaps = self.model(normalise(crops, channels_last=config.channels_last))
        loss = heatmap_loss(heatmaps, targets, weights)
        accuracy = 0.0
        if (self.progress.step + 1) % config.log_every == 0:
            accuracy = _accuracy(heatmaps.detach(), targets, weights)
        return loss, float(weights.sum().item()), accuracy

    def _undo(self) -> None:
        """Forgets what a dropped step did to gradients and batch statistics."""
        self.optimiser.zero_grad(set_to_none=True)
        for kept, buffer in zip(self._statistics, self.network.buffers(), strict=True):
            buffer.copy_(kept)

    def _local_gradients(self, more_to_come: bool) -> contextlib.AbstractContextManager[None]:
        if more_to_come and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()  # type: ignore[no-untyped-call, no-any-return]
        return contextlib.nullcontext()

    # --- telling and keeping

    def _log_window(self, lr: float, accuracy: float, time_s: float, waited_s: float) -> None:
        progress = self.progress
        mean = processes.gather(accuracy)
        if self.log:
            memory = torch.cuda.max_memory_allocated(self.device) >> 20 if self.device.type == "cuda" else 0
            line = {
                "mode": "train",
                "epoch": progress.epoch + 1,
                "iter": progress.position,
                "lr": lr,
                "heatmap_loss": progress.window_loss / max(1, progress.window_steps),
                "acc_pose": float(np.mean(mean)),
                "skipped": progress.skipped,
                "memory_mb": memory,
                "data_time": round(waited_s, 5),
                "time": round(time_s + waited_s, 5),
            }
            self.log.write(line, progress.step)
        progress.window_loss, progress.window_steps = 0.0, 0

    def _weights(self) -> dict[str, Tensor]:
        """The weights that are judged and kept: the average, where there is one."""
        return self.average.state if self.average else self.network.state_dict()

    def _validate(self) -> None:
        assert self.val is not None
        plain = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self._weights())
        try:
            result = validate(
                self.network, self.val, self.config, rank=self.rank, processes=self.processes, device=self.device
            )
        finally:
            self.network.load_state_dict(plain)
            self.network.train()
        if result is not None:
            self._record(result)
        self.progress.best_ap = processes.largest([self.progress.best_ap], self.device)[0]

    def _record(self, result: Validation) -> None:
        progress = self.progress
        assert self.log is not None
        values = {name: value for name, value in result.metrics.items() if value is not None}
        self.log.write({"mode": "val", "epoch": progress.epoch, "iter": len(self.dataset), **values}, progress.step)
        for number, picture in enumerate(result.pictures):
            self.log.picture(f"val/person_{number}", picture, progress.step)
        score = result.metrics.get("AP")
        ap = -1.0 if score is None else score
        self._say(f"epoch {progress.epoch}: AP {ap:.4f}" + (" (best)" if ap > progress.best_ap else ""))
        if ap > progress.best_ap or not (self.run / "best.safetensors").exists():
            progress.best_ap = ap
            self._keep("best", values)

    def _keep(self, name: str, metrics: dict[str, float] | None = None) -> None:
        """Writes the weights with their card."""
        if self.rank != 0:
            return
        model = self.config.model
        card = ModelCard(
            name=f"{model.arch}_{model.input_size[0]}x{model.input_size[1]}.{self.run.name}",
            arch=model.arch,
            skeleton=model.skeleton,
            input_size=model.input_size,
            stride=STRIDE,
            decode_kernel=model.decode_kernel,
            protocol=self.config.protocol,
            source=f"recipe {self.config.recipe or 'unnamed'}, epoch {self.progress.epoch}",
            training_data=tuple(Path(part.annotations).name for part in self.config.data.train),
            metrics={f"val/{key}": float(value) for key, value in (metrics or {}).items()},
        )
        plain = build_network(dataclasses.replace(self.config, model=dataclasses.replace(model, init_from="")))[0]
        plain.load_state_dict({key: tensor.cpu() for key, tensor in self._weights().items()})
        save_model(self.run / f"{name}.safetensors", plain, card)

    def _save(self) -> None:
        """Writes a checkpoint, on one process."""
        self._saved_at = time.monotonic()
        if self.rank != 0 or self.log is None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        values: dict[str, Any] = {
            "step": self.progress.step,
            "progress": dataclasses.asdict(self.progress),
            "scaler": self.scaler.state_dict(),
            "log_bytes": self.log.length_bytes,
        }
        self.checkpoints.save(TrainingState(tensors, values))

    def _say(self, message: str) -> None:
        if self.observer and self.rank == 0:
            self.observer.said(message)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Turns SIGTERM and Ctrl-C into a stop at the next step."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def remember(number: int, _frame: object) -> None:
            self._signal = number

        before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _accuracy(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> float:
    """Share of the labelled keypoints whose highest cell is within ``ACCURACY_THRESHOLD`` of the target's."""
    height, width = heatmaps.shape[2:]
    peaks = [maps.flatten(2).argmax(2) for maps in (heatmaps, targets)]
    x = (peaks[0] % width - peaks[1] % width) / width
    y = (peaks[0] // width - peaks[1] // width) / height
    counted = weights > 0
    near = (torch.hypot(x.float(), y.float()) < ACCURACY_THRESHOLD) & counted
    return float(near.sum().item()) / max(1, int(counted.sum().item()))
