"""PoseEstimator: a person detector and a pose model as one call, from images to poses.

Convention:
    Boxes and keypoints are in pixels of the image that is passed in: the centre of its top-left pixel is (0, 0).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wholepose.boxes import check_box_scores, check_person_boxes
from wholepose.detectors import PersonDetector, load_detector
from wholepose.errors import ConfigError
from wholepose.geometry import Protocol as Numerics
from wholepose.geometry import (
    crop_image,
    crop_matrices,
    crop_regions,
    invert_affine,
    transform_points,
)
from wholepose.images import check_image
from wholepose.poses import Poses
from wholepose.runtimes import (
    CropPredictions,
    Device,
    OnCores,
    Precision,
    Runtime,
    RuntimeName,
    load_runtime,
    on_threads,
)
from wholepose.skeletons import Skeleton, get_skeleton
from wholepose.suppression import without_repeats
from wholepose.weights import resolve_model
from wholepose.zoom import Found, check_zoomable, look_again

if TYPE_CHECKING:
    from wholepose.video_pipeline import Smoother, VideoPoses
    from wholepose.videos import VideoReader


@runtime_checkable
class CropsOnDevice(Protocol):
    """A runtime that can cut the crops where its model runs, as ``TorchRuntime`` does on a GPU."""

    @property
    def crops_on_device(self) -> bool:
        """Whether that is the faster way."""
        ...

    def predict_in_images(
        self,
        images: Sequence[NDArray[np.uint8]],
        owners: NDArray[np.int64],
        matrices: NDArray[np.float64],
        *,
        batch_size: int,
        flip_test: bool = False,
    ) -> CropPredictions:
        """Keypoints, in crop pixels, of people in images; see ``TorchRuntime.predict_in_images``."""
        ...


class PoseEstimator:
    """Finds people and their keypoints. Holds no memory of past images; several threads may share one.

    Args:
        runtime: The pose model.
        detector: Finds the people where no boxes are given; None if boxes are always given.
        batch_size: Most people that the model sees at once. It bounds memory and does not change results.
        zoom: Look at faces and hands again, enlarged, which finds more of them and takes up to four times as long. For
            models that have learnt from enlarged faces and hands, as the embedded one has.

    Raises:
        ConfigError: ``zoom`` where the model finds no faces or hands of bodies.
        ValueError: The batch size is below 1.
    """

    def __init__(
        self, runtime: Runtime, detector: PersonDetector | None = None, *, batch_size: int = 16, zoom: bool = False
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.runtime = runtime
        self.detector = detector
        self.batch_size = batch_size
        self.zoom = zoom
        self._skeleton = get_skeleton(runtime.card.skeleton)
        if zoom:
            check_zoomable(self._skeleton)
        self._protocol: Numerics = "mmpose0" if runtime.card.protocol == "mmpose0" else "default"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "default",
        *,
        detector: str | Path | PersonDetector | None = "default",
        runtime: RuntimeName = "auto",
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        offline: bool | None = None,
        batch_size: int = 16,
        zoom: bool = False,
    ) -> PoseEstimator:
        """Loads weights, and a detector to go with them.

        Args:
            name: ``"default"`` or ``"clean"``, the models inside the package, ``"large"``, or a path of an ``.onnx`` or
                ``.safetensors`` file. What others published comes as checkpoints: ``wholepose convert`` reads those.
            detector: What ``load_detector`` understands, or a detector, or None where boxes are always given.
            runtime: Engine; by default the file's own.
            device: ``"auto"`` takes a GPU that the engine supports, else the CPU.
            precision: Of the arithmetic, with PyTorch.
            threads: CPU threads; all cores when None.
            offline: Never download; None asks the environment.
            batch_size: See ``PoseEstimator``.
            zoom: Likewise.

        Returns:
            The estimator.

        Raises:
            ConfigError: A name, a device or a combination is not possible here, or an extra is missing.
            WeightsError: The weights are missing, damaged or of the wrong kind.
        """
        path = resolve_model(name, offline=offline)
        engine = load_runtime(path, runtime=runtime, device=device, precision=precision, threads=threads)
        if isinstance(detector, (str, Path)):
            detector = load_detector(detector, device=device, threads=threads, offline=offline)
        return cls(engine, detector, batch_size=batch_size, zoom=zoom)

    @property
    def skeleton(self) -> Skeleton:
        """What keypoints come out."""
        return self._skeleton

    def predict(
        self,
        image: NDArray[np.uint8],
        boxes: ArrayLike | None = None,
        *,
        box_scores: ArrayLike | None = None,
        flip_test: bool = False,
    ) -> Poses:
        """Finds the people of one image, or the keypoints of people whose boxes are known.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) xyxy pixels, a list or an array of any real dtype. An empty one means nobody, and the model is
                not called. None asks the detector. Boxes may reach beyond the image: what lies outside is black; a box
                wholly outside has keypoints of low score. ``whole_image_box(image)`` takes all of the image.
            box_scores: (N,); ones when None. They weigh people in ``Poses.instance_scores``.
            flip_test: Average with the mirrored crops: half as fast, a little better.

        Returns:
            N people, in the order of the boxes; of the detector: best first, none twice (see ``without_repeats``).

        Raises:
            ConfigError: Neither boxes nor a detector are there.
            ValueError: The image or a box is malformed (the message names the row).
        """
        scores = None if box_scores is None else [box_scores]
        return self.predict_batch([image], None if boxes is None else [boxes], scores, flip_test=flip_test)[0]

    def predict_batch(
        self,
        images: Sequence[NDArray[np.uint8]],
        boxes: Sequence[ArrayLike | None] | None = None,
        box_scores: Sequence[ArrayLike | None] | None = None,
        *,
        flip_test: bool = False,
    ) -> list[Poses]:
        """Like ``predict`` for several images, whose people share batches of the model.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.
            boxes: One entry an image, each as in ``predict``; None asks the detector about that image, or about all.
            box_scores: One entry an image, each as in ``predict``.
            flip_test: As in ``predict``.

        Returns:
            One Poses an image, in the same order.

        Raises:
            ConfigError: An image has no boxes, and there is no detector.
            ValueError: An image, a box or the number of entries is wrong; the message names the image and the row.
        """
        for index, image in enumerate(images):
            with _naming_image(index, images):
                check_image(image)
        all_boxes, all_scores = self._people(images, boxes, box_scores)
        owners = np.repeat(np.arange(len(images)), [len(each) for each in all_boxes])
        flat_boxes = np.concatenate([np.zeros((0, 4), np.float32), *all_boxes])
        look = partial(self._look, images, flip_test)
        found = look(owners, flat_boxes)
        if self.zoom:
            found = look_again(look, owners, found, self._skeleton)
        people = [
            Poses(
                keypoints=found.keypoints[owners == index],
                scores=found.scores[owners == index].clip(0, 1),
                boxes=all_boxes[index],
                box_scores=all_scores[index],
                skeleton=self._skeleton,
                covariances=found.covariances[owners == index],
                raw_scores=found.scores[owners == index],
            )
            for index in range(len(images))
        ]
        return [
            without_repeats(poses) if boxes is None or boxes[index] is None else poses
            for index, poses in enumerate(people)
        ]

    def predict_video(
        self,
        source: str | os.PathLike[str] | VideoReader,
        *,
        boxes: ArrayLike | None = None,
        detect_every: int = 5,
        max_people: int | None = None,
        track: bool = True,
        smoother: Smoother | None = None,
        flip_test: bool = False,
        start: int | None = None,
        stop: int | None = None,
        stride: int = 1,
    ) -> VideoPoses:
        """Finds the people of a video, frame by frame, in bounded memory.

        Decoding, detection and the pose model run in threads while the caller works; they end with the iteration, with
        ``close()``, or when the result is forgotten.

        Args:
            source: Path of a file, ``"webcam:0"``, an ``rtsp://`` or ``http://`` address, or a reader of
                ``open_video``.
            boxes: (N, 4) xyxy pixels, the same in every frame; None asks the detector.
            detect_every: Ask the detector in every so many-th frame; in those between, the box of each person is
                carried on from the pose before.
            max_people: Most people a frame, best boxes first; None is all.
            track: Give each person the same number in every frame: ``Poses.track_ids``.
            smoother: Such as ``wholepose.smoothing.OneEuroSmoother()``, a fresh one for each video.
            flip_test: As in ``predict``.
            start: Number of the first frame, from 0; not with a reader, which has its own.
            stop: Number of the first frame left out at the end.
            stride: Take every so many-th frame.

        Returns:
            An iterator over (frame, poses), also a context manager; ``frame.image`` is the upright RGB picture. After
            the end its ``lost_frames`` says how many frames were damaged.

        Raises:
            VideoError: The source cannot be read; also later, where it ends in an error.
            ConfigError: There are no boxes and no detector.
            ValueError: A box or a number is not usable.
        """
        from wholepose.tracking import PoseTracker
        from wholepose.video_pipeline import VideoPoses, most_workers
        from wholepose.videos import VideoReader, open_video

        fixed = None if boxes is None else check_person_boxes(boxes)
        if fixed is None and self.detector is None:
            raise ConfigError("this estimator has no person detector: pass boxes, or make it with detector='default'")
        if max_people is not None and max_people < 1:
            raise ValueError(f"max_people must be at least 1, not {max_people}")
        if detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, not {detect_every}")
        if isinstance(source, VideoReader) and (start, stop, stride) != (None, None, 1):
            raise ValueError("the reader chooses its frames: give start, stop and stride to open_video")

        reader = (
            source if isinstance(source, VideoReader) else open_video(source, start=start, stop=stop, stride=stride)
        )
        detect_every = detect_every if fixed is None else 1
        workers, shared = self.shared(most_workers(reader.info, detect_every))

        def find_people(images: Sequence[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
            if fixed is not None:
                return [(fixed, np.ones(len(fixed), np.float32))] * len(images)
            assert shared.detector is not None
            best = slice(max_people)
            return [(found.boxes[best], found.scores[best]) for found in shared.detector.detect(images)]

        return VideoPoses(
            reader,
            find_people,
            partial(shared.predict_batch, flip_test=flip_test),
            detect_every=detect_every,
            workers=workers,
            tracker=PoseTracker() if track else None,
            smoother=smoother,
            keep_all=fixed is not None,
        )

    def shared(self, most: int) -> tuple[int, PoseEstimator]:
        """Splits the cores among threads that use this estimator at the same time, as the workers of a video do.

        Networks on one core each are faster than networks that take turns on all cores: no core waits for another, not
        even where other programs want them too.

        Args:
            most: How many threads at most.

        Returns:
            How many threads are best, and the estimator for them: the same models, each call on its share of the cores.
        """
        if not self.runtime.name.endswith("-cpu"):
            return min(most, 2), self  # what the CPU has to do goes on while the GPU is at work
        if not isinstance(self.runtime, OnCores):
            return 1, self
        count = min(most, self.runtime.threads)
        threads = self.runtime.threads // count
        runtime = self.runtime.with_threads(threads)
        detector = on_threads(self.detector, threads)
        return count, PoseEstimator(runtime, detector, batch_size=self.batch_size, zoom=self.zoom)

    def _people(
        self,
        images: Sequence[NDArray[np.uint8]],
        boxes: Sequence[ArrayLike | None] | None,
        box_scores: Sequence[ArrayLike | None] | None,
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Boxes (N, 4) and their scores (N,) of every image, checked; from the detector where none are given."""
        given_boxes = _one_each("boxes", boxes, images)
        given_scores = _one_each("box_scores", box_scores, images)
        for index, (image_boxes, image_scores) in enumerate(zip(given_boxes, given_scores, strict=True)):
            if image_boxes is None and image_scores is not None:
                raise ValueError(f"image {index} has box_scores but no boxes; the detector brings its own scores")
        unknown = [index for index, image_boxes in enumerate(given_boxes) if image_boxes is None]
        if unknown:
            if self.detector is None:
                raise ConfigError(
                    "this estimator has no person detector: pass boxes, or make it with detector='default'; for a "
                    "picture of one person pass boxes=whole_image_box(image)"
                )
            found = self.detector.detect([images[index] for index in unknown])
            for index, detections in zip(unknown, found, strict=True):
                given_boxes[index], given_scores[index] = detections.boxes, detections.scores
        checked_boxes, checked_scores = [], []
        for index, (image_boxes, image_scores) in enumerate(zip(given_boxes, given_scores, strict=True)):
            assert image_boxes is not None
            with _naming_image(index, images):
                checked_boxes.append(check_person_boxes(image_boxes))
                checked_scores.append(check_box_scores(image_scores, len(checked_boxes[-1])))
        return checked_boxes, checked_scores

    def _look(
        self,
        images: Sequence[NDArray[np.uint8]],
        flip_test: bool,
        owners: NDArray[np.int64],
        boxes: NDArray[np.floating],
    ) -> Found:
        """What the model finds in boxes (N, 4), each of the image that ``owners`` names."""
        height, width = self.runtime.card.input_size
        centers, sizes = crop_regions(boxes, width / height)
        matrices = crop_matrices(centers, sizes, (height, width), protocol=self._protocol)
        predictions = self._predict_people(images, owners, matrices, flip_test)
        back = invert_affine(matrices)
        linear = back[:, None, :, :2]
        covariances = linear @ predictions.covariances.astype(np.float64) @ np.swapaxes(linear, -1, -2)
        return Found(transform_points(predictions.keypoints, back), predictions.scores, covariances)

    def _predict_people(
        self,
        images: Sequence[NDArray[np.uint8]],
        owners: NDArray[np.int64],
        matrices: NDArray[np.float64],
        flip_test: bool,
    ) -> CropPredictions:
        """Cuts and predicts a batch at a time, so that memory does not grow with the number of people."""
        if isinstance(self.runtime, CropsOnDevice) and self.runtime.crops_on_device:
            return self.runtime.predict_in_images(
                images, owners, matrices, batch_size=self.batch_size, flip_test=flip_test
            )
        size = self.runtime.card.input_size
        crops = np.empty((min(self.batch_size, len(owners)), *size, 3), dtype=np.uint8)
        parts = [CropPredictions.empty(self._skeleton.num_keypoints)]
        for start in range(0, len(owners), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            count = len(owners[chunk])
            for place, (owner, matrix) in enumerate(zip(owners[chunk], matrices[chunk], strict=True)):
                crops[place] = crop_image(images[owner], matrix, size)
            parts.append(self.runtime.predict(crops[:count], flip_test=flip_test))
        return CropPredictions.concatenate(parts)


def _one_each(
    name: str, values: Sequence[ArrayLike | None] | None, images: Sequence[NDArray[np.uint8]]
) -> list[ArrayLike | None]:
    """A list of one entry an image."""
    if values is None:
        return [None] * len(images)
    if len(values) != len(images):
        raise ValueError(f"{name} must have one entry for each of the {len(images)} images, not {len(values)}")
    return list(values)


@contextlib.contextmanager
def _naming_image(index: int, images: Sequence[NDArray[np.uint8]]) -> Iterator[None]:
    """Says in a ValueError which of several images it is about."""
    try:
        yield
    except ValueError as error:
        if len(images) == 1:
            raise
        raise ValueError(f"image {index}: {error}") from error
