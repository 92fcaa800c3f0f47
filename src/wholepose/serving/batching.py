"""Dynamic batching: pictures of different requests go through the model together.

A thread that is free takes what waits, up to a batch. So nobody waits for a batch to fill, and under load the batches
fill by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wholepose.boxes import whole_image_box
from wholepose.estimator import PoseEstimator
from wholepose.poses import Poses
from wholepose.serving.metrics import Metrics

_LOG = logging.getLogger("wholepose.serving")
_MAX_PIXELS = 40_000_000  # of a batch, as in `wholepose predict`


@dataclass(frozen=True, eq=False)
class Job:
    """A picture for the model.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32 xyxy pixels, or None: the detector looks.
        whole_image: One box that holds the whole picture, instead of boxes.
        flip_test: Average with the mirrored crops.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32] | None
    whole_image: bool
    flip_test: bool
    answer: asyncio.Future[Poses]
    queued: float = field(default_factory=time.perf_counter)

    @property
    def pixels(self) -> int:
        """Height x width."""
        return int(self.image.shape[0]) * int(self.image.shape[1])


class Batcher:
    """Runs the model in threads on what waits.

    Args:
        estimator: Shared by the threads.
        batch_size: Most pictures a batch.
        workers: Threads.
        metrics: Told of batches and times.
    """

    def __init__(self, estimator: PoseEstimator, *, batch_size: int, workers: int, metrics: Metrics) -> None:
        self._estimator = estimator
        self._batch_size = batch_size
        self._metrics = metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        metrics.queue.set_function(lambda: len(self._waiting))
        self._idle = workers
        self._closed = False
        self._seconds_a_picture = 0.1
        self._threads = [
            threading.Thread(target=self._work, name=f"wholepose-model-{number}", daemon=True)
            for number in range(workers)
        ]

    @property
    def pictures_a_second(self) -> float:
        """How many pictures all threads together have lately predicted in a second of work."""
        return len(self._threads) / self._seconds_a_picture

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets the threads end with the batch that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    async def predict(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32] | None, *, whole_image: bool, flip_test: bool
    ) -> Poses:
        """Finds the poses of one picture; see ``Job``. A caller that is cancelled takes its picture out of the queue.

        Raises:
            WholeposeError: The model fails on it.
        """
        job = Job(image, boxes, whole_image, flip_test, asyncio.get_running_loop().create_future())
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return await job.answer

    def _work(self) -> None:
        while (jobs := self._take()) is not None:
            if jobs:
                self._run(jobs)
            del jobs  # while this thread waits it holds no pixels
            with self._changed:
                self._idle += 1

    def _run(self, jobs: Sequence[Job]) -> None:
        start = time.perf_counter()
        answers = self._predict(jobs)
        seconds = time.perf_counter() - start
        self._seconds_a_picture += 0.2 * (seconds / len(jobs) - self._seconds_a_picture)
        for job in jobs:
            self._metrics.stage.labels("queue").observe(start - job.queued)
            self._metrics.stage.labels("predict").observe(seconds)
        self._metrics.batch_images.observe(len(jobs))
        loop = jobs[0].answer.get_loop()
        if not loop.is_closed():  # as it is where the server was ended without waiting
            loop.call_soon_threadsafe(_deliver, jobs, answers)

    def _take(self) -> list[Job] | None:
        """Waits for work and takes this thread's share of it; None when the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            # With several threads free, a share each is done sooner than a batch in one of them.
            most = min(self._batch_size, -(-len(self._waiting) // max(self._idle, 1)))
            jobs: list[Job] = []
            pixels = 0
            while self._waiting and len(jobs) < most:
                job = self._waiting[0]
                if jobs and (job.flip_test != jobs[0].flip_test or pixels + job.pixels > _MAX_PIXELS):
                    break
                self._waiting.popleft()
                if not job.answer.cancelled():
                    jobs.append(job)
                    pixels += job.pixels
            self._idle -= 1
        return jobs

    def _predict(self, jobs: Sequence[Job]) -> list[Poses | Exception]:
        """The answer to each job; a job that fails does not fail the others."""
        try:
            images = [job.image for job in jobs]
            boxes = [whole_image_box(job.image) if job.whole_image else job.boxes for job in jobs]
            return list(self._estimator.predict_batch(images, boxes, flip_test=jobs[0].flip_test))
        except Exception as error:
            if len(jobs) == 1:
                _LOG.error("the model failed on a picture of %s", jobs[0].image.shape, exc_info=error)
                return [error]
            return [answer for job in jobs for answer in self._predict([job])]


def _deliver(jobs: Sequence[Job], answers: Sequence[Poses | Exception]) -> None:
    """Hands answers to those who still wait; called in the event loop."""
    for job, answer in zip(jobs, answers, strict=True):
        if job.answer.done():
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
