"""Dynamic batching: pictures of different requests share batches, and nobody notices."""

import asyncio
import threading

import numpy as np
import pytest

from wholepose.errors import WeightsError
from wholepose.estimator import PoseEstimator

pytest.importorskip("prometheus_client", reason="needs the [serve] extra")


class Watched(PoseEstimator):
    """An estimator that notes its batches; pictures of one height make it fail, and a gate may hold it up."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self.batches = []
        self.open = threading.Event()
        self.open.set()

    def predict_batch(self, images, boxes=None, box_scores=None, *, flip_test=False):
        self.batches.append(len(images))
        assert self.open.wait(30)
        if any(image.shape[0] == 77 for image in images):
            raise WeightsError("the model fails on this one")
        return super().predict_batch(images, boxes, box_scores, flip_test=flip_test)


@pytest.fixture
def batching(tiny_estimator):
    """(estimator, run): run(work, workers) runs an async function on a started batcher."""
    from wholepose.serving.batching import Batcher
    from wholepose.serving.metrics import Metrics

    estimator = Watched(tiny_estimator.runtime)

    def run(work, workers=1, batch_size=4):
        batcher = Batcher(estimator, batch_size=batch_size, workers=workers, metrics=Metrics())
        batcher.start()
        try:
            return asyncio.run(asyncio.wait_for(work(batcher), 30))
        finally:
            estimator.open.set()
            batcher.stop()

    return estimator, run


@pytest.fixture
def pictures(tiny_models):
    return [tiny_models.blob_image((120 + index, 110), (60 + index, 50), 8) for index in range(9)]


async def settle():
    for _ in range(20):
        await asyncio.sleep(0.01)


def ask(batcher, image, flip_test=False):
    return asyncio.ensure_future(batcher.predict(image, None, whole_image=True, flip_test=flip_test))


def test_batches_fill_under_load(batching, pictures):
    """FAULTS 16: what waits goes together, and each answer is what the picture alone gets."""
    estimator, run = batching

    async def work(batcher):
        estimator.open.clear()
        tasks = [ask(batcher, pictures[0])]
        await settle()
        tasks += [ask(batcher, image) for image in pictures[1:]]
        await settle()
        estimator.open.set()
        return await asyncio.gather(*tasks)

    answers = run(work)
    assert estimator.batches == [1, 4, 4]
    for image, poses in zip(pictures, answers, strict=True):
        alone = PoseEstimator(estimator.runtime).predict(image, [[0, 0, image.shape[1], image.shape[0]]])
        np.testing.assert_array_equal(poses.keypoints, alone.keypoints)
        np.testing.assert_array_equal(poses.scores, alone.scores)


def test_free_threads_share(batching, pictures):
    """Two free threads take half of what waits each."""
    estimator, run = batching

    async def work(batcher):
        estimator.open.clear()
        first = [ask(batcher, pictures[0]), ask(batcher, pictures[1])]
        await settle()
        rest = [ask(batcher, image) for image in pictures[2:8]]
        await settle()
        estimator.open.set()
        await asyncio.gather(*first, *rest)

    run(work, workers=2, batch_size=8)
    assert estimator.batches[:2] == [1, 1]
    assert sum(estimator.batches) == 8


def test_flip_test_goes_apart(batching, pictures):
    estimator, run = batching

    async def work(batcher):
        estimator.open.clear()
        tasks = [ask(batcher, pictures[0])]
        await settle()
        tasks += [ask(batcher, pictures[1]), ask(batcher, pictures[2], flip_test=True), ask(batcher, pictures[3])]
        await settle()
        estimator.open.set()
        return await asyncio.gather(*tasks)

    run(work)
    assert estimator.batches == [1, 1, 1, 1]


def test_one_failure_stays_alone(batching, pictures):
    """A picture on which the model fails does not fail those that share its batch."""
    estimator, run = batching

    async def work(batcher):
        estimator.open.clear()
        tasks = [ask(batcher, pictures[0])]
        await settle()
        tasks += [ask(batcher, pictures[1]), ask(batcher, np.zeros((77, 80, 3), np.uint8)), ask(batcher, pictures[2])]
        await settle()
        estimator.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(work)
    assert isinstance(answers[2], WeightsError)
    assert [len(answer) for answer in answers[:2] + answers[3:]] == [1, 1, 1]


def test_who_left_is_not_predicted(batching, pictures):
    estimator, run = batching

    async def work(batcher):
        estimator.open.clear()
        first = ask(batcher, pictures[0])
        await settle()
        left, stays = [ask(batcher, image) for image in pictures[1:5]], ask(batcher, pictures[5])
        await settle()
        for task in left:
            task.cancel()
        await settle()
        estimator.open.set()
        return await asyncio.gather(first, stays)

    assert len(run(work)) == 2
    assert estimator.batches == [1, 1]


def test_large_pictures_go_apart(batching):
    """A batch holds at most 40 million pixels."""
    estimator, run = batching
    large = np.zeros((5000, 5000, 3), np.uint8)

    async def work(batcher):
        estimator.open.clear()
        tasks = [ask(batcher, large[:10, :10])]
        await settle()
        tasks += [ask(batcher, large), ask(batcher, large)]
        await settle()
        estimator.open.set()
        return await asyncio.gather(*tasks)

    run(work)
    assert estimator.batches == [1, 1, 1]
