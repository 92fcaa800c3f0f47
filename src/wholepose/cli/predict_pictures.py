"""The pictures among the inputs of ``wholepose predict``: read ahead, predicted in batches, written one by one."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wholepose.cli.predict_inputs import People, Picture, read_ahead
from wholepose.cli.predict_outputs import Drawer, Writer
from wholepose.cli.predict_report import Report
from wholepose.errors import AnnotationError, ConfigError, ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wholepose.estimator import PoseEstimator
    from wholepose.poses import Poses

# A batch of pictures is predicted when it has enough people for the model, or one of these is reached.
_MAX_PICTURES = 8
_MAX_PIXELS = 40_000_000

# Errors in writing that every other input would meet too.
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE}


def predict_pictures(
    pictures: Sequence[Picture],
    estimator: PoseEstimator,
    people: People,
    writer: Writer,
    drawer: Drawer | None,
    report: Report,
    *,
    flip_test: bool,
    quiet: bool,
) -> None:
    """Predicts all pictures; failures go into the report.

    Args:
        pictures: What to read.
        estimator: Finds the keypoints.
        people: Where the boxes come from.
        writer: Takes the results.
        drawer: Draws them; None: nobody does.
        report: Is told of failures, and counts.
        flip_test: Average with the mirrored pictures.
        quiet: Without a progress bar.
    """
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=len(pictures), unit=" pictures", file=sys.stderr, disable=hidden, leave=False) as bar:
        batch = _Batch(estimator, flip_test)
        for picture, image in read_ahead(pictures):
            if isinstance(image, Exception):
                report.fail(str(image))
                bar.update()
                continue
            try:
                boxes, scores = people.find(picture, image)
            except (ValueError, AnnotationError) as error:
                report.fail(f"{picture.image_name}: {error}")
                bar.update()
                continue
            batch.add(picture, image, boxes, scores)
            if batch.is_full():
                _write_batch(batch, writer, drawer, people, report, bar.update)
        _write_batch(batch, writer, drawer, people, report, bar.update)


class _Batch:
    """Pictures that wait for the model until they hold enough people for it."""

    def __init__(self, estimator: PoseEstimator, flip_test: bool) -> None:
        self._estimator = estimator
        self._flip_test = flip_test
        self._clear()

    def _clear(self) -> None:
        self.pictures: list[Picture] = []
        self.images: list[NDArray[np.uint8]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(
        self, picture: Picture, image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> None:
        self.pictures.append(picture)
        self.images.append(image)
        self._boxes.append(boxes)
        self._scores.append(scores)

    def is_full(self) -> bool:
        return (
            sum(map(len, self._boxes)) >= self._estimator.batch_size
            or len(self.images) >= _MAX_PICTURES
            or sum(image.shape[0] * image.shape[1] for image in self.images) >= _MAX_PIXELS
        )

    def predict(self, *, distinct: bool) -> list[tuple[Picture, NDArray[np.uint8], Poses]]:
        """Predicts what waits, and forgets it; leaves out repeated people where they should be distinct."""
        from wholepose.suppression import without_repeats

        poses = self._estimator.predict_batch(self.images, self._boxes, self._scores, flip_test=self._flip_test)
        if distinct:
            poses = [without_repeats(each) for each in poses]
        done = list(zip(self.pictures, self.images, poses, strict=True))
        self._clear()
        return done


def _write_batch(
    batch: _Batch,
    writer: Writer,
    drawer: Drawer | None,
    people: People,
    report: Report,
    advance: Callable[[], object],
) -> None:
    """Predicts a batch and writes the results of each of its pictures."""
    for picture, image, poses in batch.predict(distinct=people.searches):
        try:
            writer.write(picture, (image.shape[0], image.shape[1]), poses)
            if drawer is not None:
                drawer.draw(picture, image, poses)
        except (ImageError, ConfigError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in HOPELESS:
                raise
            if isinstance(error, OSError):
                report.fail(f"{picture.image_name}: cannot write {error.filename or 'its result'} ({error.strerror})")
            else:
                report.fail(str(error))
        else:
            report.pictures += 1
            report.people += len(poses)
            if not len(poses):
                report.nobody(picture.image_name, asked_detector=people.detector is not None)
        advance()
