"""The training loop: resumable at any step, alone or in many processes."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from wholepose.data.annotations import AnnotationSet, read_annotations
from wholepose.data.dataset import PoseDataset, Source
from wholepose.data.drawn import DrawnSource, Painter
from wholepose.data.sampler import BatchSampler
from wholepose.errors import ConfigError, TrainingError, WholeposeError
from wholepose.models.checkpoints import load_checkpoint
from wholepose.skeletons import get_skeleton
from wholepose.training import processes
from wholepose.training.checkpoint import CheckpointFolder, TrainingState
from wholepose.training.config import PREVIOUS_STAGE, SetConfig, SynthConfig, TrainConfig
from wholepose.training.learner import Learner, Step
from wholepose.training.loading import TensorBatch, batches, make_loader
from wholepose.training.network import build_network, write_weights
from wholepose.training.photo_file import PhotoFile
from wholepose.training.progress import Observer, Outcome, Progress
from wholepose.training.run_folder import check_data, check_settings, fingerprint, held, write_settings
from wholepose.training.run_log import RunLog
from wholepose.training.schedule import learning_rate_factor
from wholepose.training.validation import Validation, judgeable, validate
from wholepose.weights.cache import resolve

MOST_SKIPPED_IN_A_ROW = 10


MakePainter = Callable[[SynthConfig, int], Painter]
"""Makes whoever draws synthetic people, from the settings and the run's seed."""


class _Stop(Exception):  # noqa: N818 - not an error
    """A signal arrived, and every process knows."""


class Trainer:
    """Trains one stage in a folder, from its newest checkpoint if it has one.

    The folder gets ``config.json``, ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``last.safetensors`` and, with
    validation, ``best.safetensors``. Several machines must share it.

    Args:
        config: What to do.
        run: The folder.
        device: As :func:`wholepose.training.processes.choose_device` takes it.
        observer: Who is told of progress.
        previous: Weights of the stage before, for ``PREVIOUS_STAGE``.
        make_painter: Needed where ``config.data.synth`` asks for people.

    Raises:
        ConfigError: A setting cannot work here, or the folder holds a run with other settings.
        AnnotationError: The data cannot be used.
        WeightsError: The start weights cannot be used, or every checkpoint is damaged.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        *,
        device: str = "auto",
        observer: Observer | None = None,
        previous: Path | None = None,
        make_painter: MakePainter | None = None,
    ) -> None:
        self.config, self.run, self.observer = config, run, observer
        self.rank, self.processes = processes.join()
        self.device = processes.choose_device(device)
        share = self.processes * config.accumulate
        if config.batch_size % share:
            raise ConfigError(
                f"batch_size {config.batch_size} cannot be dealt out to {self.processes} processes in "
                f"{config.accumulate} parts each; make it a multiple of {share}"
            )
        check_settings(config, run)
        self._held = contextlib.ExitStack()
        try:
            self._prepare(previous, make_painter)
        except BaseException:
            self._held.close()
            raise
        self._signal: int | None = None
        self._saved_at = time.monotonic()

    def _prepare(self, previous: Path | None, make_painter: MakePainter | None) -> None:
        """Everything that comes before the first step; nothing is noted of a run that fails here."""
        config, run = self.config, self.run
        self._held.enter_context(held(run, self.rank))
        network = build_network(config)  # before the data, which may take minutes to read
        self._data: dict[str, list[int]] = {}  # fingerprints
        self.checkpoints = CheckpointFolder(run / "checkpoints", config.keep_last)
        self.val = None if config.data.val is None else judgeable(self._read(config.data.val))
        self.photos = PhotoFile(run / f"photos_{self.rank}.cache") if config.data.cache_images else None
        if self.photos:
            self._held.callback(self.photos.remove)
        self.dataset = self._dataset(make_painter)
        self.sampler = BatchSampler(
            len(self.dataset),
            config.batch_size // self.processes,
            seed=config.seed,
            rank=self.rank,
            processes=self.processes,
        )
        self.progress = Progress()
        state = self._newest_state()
        if state is None and config.model.init_from:
            start = previous if config.model.init_from == PREVIOUS_STAGE else resolve(config.model.init_from)
            if start is None:
                raise ConfigError(f"model.init_from is {PREVIOUS_STAGE}, but this is the first stage")
            self._say(f"{start}: {load_checkpoint(network, start, strict=False).summary()}")
        self.learner = Learner(network, config, self.device)
        log_bytes = 0
        self._data["what there is to train on"] = [len(self.dataset), 0]
        if state is not None:
            check_data(run, state.values.get("data", {}), self._data)  # runs of earlier versions have none
            self.learner.restore(state)
            self.progress = Progress(**state.values["progress"])
            log_bytes = state.values["log_bytes"]
            self._say(f"going on at step {self.progress.step} of {self.total_steps}")
        if self.rank == 0:
            write_settings(config, run)
        self.log = RunLog(run, log_bytes, self.progress.step) if self.rank == 0 else None

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.config.epochs * self.sampler.steps

    def fit(self) -> Outcome:
        """Trains to the end or until SIGTERM or Ctrl-C, which save first.

        Raises:
            TrainingError: Ten steps in a row were no use, or a loader process died.
            WholeposeError: A photo cannot be read; what was trained before is saved.
            OSError: A checkpoint could not be written; the one before is whole.
        """
        if self.observer and self.rank == 0:
            self.observer.started(self.config, self.total_steps, self.progress.step)
        try:
            with self._listening():
                self._epochs()
        except _Stop:
            return Outcome(False, self._signal or int(signal.SIGTERM), None, self.progress.best_ap)
        finally:
            if self.log:
                self.log.close()
            self._held.close()
        best = self.run / "best.safetensors"
        return Outcome(
            True, None, best if self.val is not None else self.run / "last.safetensors", self.progress.best_ap
        )

    def _read(self, part: SetConfig) -> AnnotationSet:
        people = read_annotations(
            part.annotations,
            images=part.images or None,
            skeleton=get_skeleton(self.config.model.skeleton),
            protocol=self.config.protocol,
        )
        self._data[str(part.annotations)] = fingerprint(people)
        return people

    def _dataset(self, make_painter: MakePainter | None) -> PoseDataset:
        data = self.config.data
        sources: list[Source | DrawnSource] = [Source(self._read(part), weight=part.weight) for part in data.train]
        if data.synth.people:
            if self.config.model.skeleton != "halpe136":
                raise ConfigError(
                    f"synthetic people (data.synth.people={data.synth.people}) have the 136 keypoints of halpe136, "
                    f"not those of model.skeleton={self.config.model.skeleton}"
                )
            if make_painter is None:
                raise ConfigError("data.synth.people asks for synthetic people, but nothing here draws them")
            sources.append(DrawnSource(make_painter(data.synth, self.config.seed), data.synth.people))
        if not sources:
            raise ConfigError("there is nothing to train on: name annotation files or a dataset folder with --data")
        dataset = PoseDataset(
            sources,
            self.config.model.input_size,
            augment=self.config.augment,
            seed=self.config.seed,
            protocol=self.config.protocol,
            photos=self.photos,
        )
        if self.photos:
            dataset.preload()
            self.photos.seal()
        return dataset

    def _newest_state(self) -> TrainingState | None:
        """The newest checkpoint that is whole; process 0 chooses, since it renames those that are not."""
        state = None
        if self.rank == 0:
            self.checkpoints.clean()
            state = self.checkpoints.load_newest()
        step = processes.gather(None if state is None else state.values["step"])[0]
        return self.checkpoints.load(step) if state is None and step is not None else state

    # --- the loop

    def _epochs(self) -> None:
        config, progress = self.config, self.progress
        loader = make_loader(
            self.dataset,
            self.sampler,
            workers=config.data.workers,
            persistent=True,
            pin_memory=self.device.type == "cuda",
        )
        while progress.epoch < config.epochs:
            self.sampler.set_position(progress.epoch, progress.position)
            waiting = time.perf_counter()
            for batch in self._until_stopped(batches(loader)):
                waited_s = time.perf_counter() - waiting
                self._train_on(batch, waited_s)
                waiting = time.perf_counter()
            last = progress.epoch + 1 == config.epochs
            judged = self.val is not None and (last or (progress.epoch + 1) % config.evaluate_every == 0)
            if judged:
                self._save()  # should validating fail, it is done again, and not the training
                self._validate()
            if last:
                self._keep("last", {})
            progress.epoch, progress.position = progress.epoch + 1, 0
            if judged or last:
                self._save()

    def _until_stopped(self, source: Iterator[TensorBatch]) -> Iterator[TensorBatch]:
        """Passes batches on, until any process got a signal or cannot make its batch."""
        while True:
            failure: WholeposeError | None = None
            try:
                batch = next(source, None)
            except WholeposeError as error:
                batch, failure = None, error
            self._stop_if_asked(failure)
            if batch is None:
                return
            yield batch

    def _stop_if_asked(self, failure: WholeposeError | None = None) -> None:
        """When any process got a signal or failed, saves and ends all of them, by ``_Stop`` or by the failure."""
        states = [float(self._signal is not None), float(failure is not None)]
        stopped, failed = processes.totals(states, self.device)
        if not stopped and not failed:
            return
        self._save()
        processes.gather(None)  # a process that leaves early has torchrun end the one that is saving
        if stopped:  # whoever sent the signal may have ended the loaders too
            raise _Stop
        raise TrainingError("another process could not go on, and says why") if failure is None else failure

    def _train_on(self, batch: TensorBatch, waited_s: float) -> None:
        """One optimiser step, with its line in the log and, when due, its checkpoint."""
        config, progress = self.config, self.progress
        started = time.perf_counter()
        factor = learning_rate_factor(config.schedule, progress.step, self.sampler.steps, self.total_steps)
        lr = config.optimiser.lr * factor
        due = (progress.step + 1) % config.log_every == 0
        step = self.learner.step(batch, lr, measure=due)
        progress.step += 1
        progress.position += 1
        if step.useful:
            progress.skipped_in_a_row = 0
            progress.updates += 1
            progress.window_loss += step.loss
            progress.window_steps += 1
            if self.learner.average:
                self.learner.average.update(self.learner.network, progress.updates)
        else:
            self._skip()
        if self.observer and self.rank == 0:
            self.observer.stepped(progress.epoch + 1, step.loss, lr)
        if due:
            self._log_window(lr, step, time.perf_counter() - started, waited_s)
        if time.monotonic() - self._saved_at > 60 * config.checkpoint_minutes:
            self._save()

    def _skip(self) -> None:
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self._say(f"step {progress.step} skipped: its loss is not finite, or nothing in it is labelled")
        if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"{MOST_SKIPPED_IN_A_ROW} steps in a row had a loss that is not finite or nothing labelled; lower "
                "optimiser.lr, set optimiser.clip_norm, or check the labels with `wholepose data check`"
            )

    def _log_window(self, lr: float, step: Step, time_s: float, waited_s: float) -> None:
        progress = self.progress
        accuracy = float(np.mean(processes.gather(step.accuracy)))
        if self.log:
            memory = torch.cuda.max_memory_allocated(self.device) >> 20 if self.device.type == "cuda" else 0
            line = {
                "mode": "train",
                "epoch": progress.epoch + 1,
                "iter": progress.position,
                "lr": lr,
                "heatmap_loss": progress.window_loss / max(1, progress.window_steps),
                "acc_pose": accuracy,
                "skipped": progress.skipped,
                "memory_mb": memory,
                "data_time": round(waited_s, 5),
                "time": round(time_s + waited_s, 5),
            }
            self.log.write(line, progress.step)
        progress.window_loss, progress.window_steps = 0.0, 0

    # --- judging and keeping

    def _validate(self) -> None:
        assert self.val is not None
        with self.learner.judged() as network:
            result = validate(
                network,
                self.val,
                self.config,
                rank=self.rank,
                processes=self.processes,
                device=self.device,
                stopped=lambda: self._signal is not None,
            )
        self._stop_if_asked()
        if result is not None:
            self._record(result)

    def _record(self, result: Validation) -> None:
        """Logs a validation, and keeps the weights if they are the best so far."""
        progress = self.progress
        assert self.log is not None
        values = {name: value for name, value in result.metrics.items() if value is not None}
        self.log.write({"mode": "val", "epoch": progress.epoch + 1, "iter": progress.position, **values}, progress.step)
        for number, picture in enumerate(result.pictures):
            self.log.picture(f"val/person_{number}", picture, progress.step)
        ap = values.get("AP", 0.0)
        if result.failures:
            self._say(
                f"{len(result.failures)} photos to validate on cannot be read, and their people count as not found; "
                f"the first: {result.failures[0]}"
            )
        best = ap > progress.best_ap
        self._say(f"epoch {progress.epoch + 1}: AP {ap:.4f}{' (best)' if best else ''}")
        if best:
            progress.best_ap = ap
            self._keep("best", values)

    def _keep(self, name: str, metrics: dict[str, float]) -> None:
        """Writes the weights with their card."""
        if self.rank == 0:
            path = self.run / f"{name}.safetensors"
            write_weights(path, self.learner.weights(), self.config, epochs=self.progress.epoch + 1, metrics=metrics)

    def _save(self) -> None:
        """Writes a checkpoint, on one process."""
        if self.log is not None:
            values = {
                "step": self.progress.step,
                "progress": dataclasses.asdict(self.progress),
                "scaler": self.learner.scaler.state_dict(),
                "log_bytes": self.log.sync(),
                "data": self._data,
            }
            self.checkpoints.save(TrainingState(self.learner.tensors(), values))
        self._saved_at = time.monotonic()

    # --- to and from outside

    def _say(self, message: str) -> None:
        if self.observer and self.rank == 0:
            self.observer.said(message)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Turns SIGTERM and Ctrl-C into a stop before the next step; a second Ctrl-C ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def remember(number: int, _frame: object) -> None:
            if number == signal.SIGINT and self._signal == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number

        before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
