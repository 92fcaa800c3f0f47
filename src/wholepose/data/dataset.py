"""Annotated people as training samples: a crop, where its keypoints are, and how much each counts.

Chance is a function of the seed, the epoch and the sample's index alone: the number of worker processes, the order in
which samples are asked for, and a restart in the middle of an epoch change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet, without_missing_images
from wholepose.data.augment import AugmentConfig, change_pixels, label_weights, place
from wholepose.data.drawn import DrawnSource
from wholepose.data.photos import PhotoStore
from wholepose.errors import AnnotationError
from wholepose.geometry import Protocol, crop_image
from wholepose.skeletons import Skeleton


class Sample(NamedTuple):
    """One person, ready for the model.

    Attributes:
        crop: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) float32 crop pixels; (0, 0) where the weight is 0. May lie outside the crop.
        weights: (K,) float32, what ``heatmaps.encode`` takes for visibility: 0 is not labelled.
        matrix: (2, 3) float64 map from photo pixels to crop pixels.
        source: Which of the dataset's sources.
        person: Row of the person in the annotations that ``dataset.sources[source]`` has left, or the number of one who
            is drawn.
    """

    crop: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    weights: NDArray[np.float32]
    matrix: NDArray[np.float64]
    source: int
    person: int


class Batch(NamedTuple):
    """B samples, stacked.

    Attributes:
        crops: (B, H, W, 3) uint8 RGB.
        keypoints: (B, K, 2) float32 crop pixels.
        weights: (B, K) float32.
        matrices: (B, 2, 3) float64 maps from photo pixels to crop pixels.
        sources: (B,) int64.
        people: (B,) int64 rows in the source's annotations, or numbers of drawn people.
    """

    crops: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    weights: NDArray[np.float32]
    matrices: NDArray[np.float64]
    sources: NDArray[np.int64]
    people: NDArray[np.int64]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples; what a ``DataLoader`` takes as ``collate_fn``."""
    crops, keypoints, weights, matrices, sources, people = zip(*samples, strict=True)
    return Batch(
        np.stack(crops),
        np.stack(keypoints),
        np.stack(weights),
        np.stack(matrices),
        np.array(sources, dtype=np.int64),
        np.array(people, dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class Source:
    """A set of annotations in a mixture.

    Attributes:
        annotations: The people, in the skeleton that is trained.
        weight: How often an epoch shows each of them: 1 once, 3 three times, 0.25 a quarter of them, another quarter in
            the next epoch.
        augment: How its samples are varied; None for what the dataset does by default. Sets of faces or hands alone may
            want their own.
    """

    annotations: AnnotationSet
    weight: float = 1.0
    augment: AugmentConfig | None = None


class PoseDataset:
    """People of one or several sets, indexed by (epoch, index).

    ``sources`` holds the sets as they are used, without those who cannot be trained on.

    ``dataset[epoch, index]`` is a ``Sample``; ``len(dataset)`` counts the samples of an epoch. With
    ``torch.utils.data.DataLoader`` use ``BatchSampler`` from this package, which yields such pairs.
    """

    def __init__(
        self,
        sources: Sequence[Source | DrawnSource | AnnotationSet],
        crop_size: tuple[int, int],
        *,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        protocol: Protocol = "default",
        photos: PhotoStore | None = None,
    ) -> None:
        """Drops who cannot be trained on, and plans the mixture.

        Left out are crowds, people without an area or a labelled keypoint or whose box is outside the photo, and those
        whose photo is missing.

        Args:
            sources: The sets; all of one skeleton. An ``AnnotationSet`` alone has weight 1. Those who are drawn come on
                top of those who are annotated.
            crop_size: (height, width) of the model's input.
            augment: How samples are varied; the protocol's training pipeline when None.
            seed: Another seed, another sequence of samples.
            protocol: ``"mmpose0"`` keeps the reference's quirks; read the annotations in the same protocol.
            photos: Where photos come from; from the disk each time when None.

        Raises:
            AnnotationError: More than 1 % of a set's photos are missing, or nobody is left to train on.
            ValueError: There are no sources, their skeletons differ, or a weight or a number of people is not positive.
        """
        named = [Source(item) if isinstance(item, AnnotationSet) else item for item in sources]
        if not named:
            raise ValueError("a dataset needs at least one source")
        names = {_skeleton(source).name for source in named}
        if len(names) > 1:
            raise ValueError(
                f"sources have different skeletons: {', '.join(sorted(names))}; read them with skeleton=..."
            )
        weights = [source.weight for source in named if isinstance(source, Source)]
        if not all(0 < weight < float("inf") for weight in weights):
            raise ValueError(f"weights must be positive, not {weights}")
        if any(source.people < 1 for source in named if isinstance(source, DrawnSource)):
            raise ValueError("a drawn source needs at least one person an epoch")
        self.crop_size = crop_size
        self.augment = AugmentConfig() if augment is None else augment
        self.seed = seed
        self.protocol = protocol
        self.photos = PhotoStore() if photos is None else photos
        self.sources: tuple[Source | DrawnSource, ...] = tuple(
            item if isinstance(item, DrawnSource) else replace(item, annotations=_trainable(item.annotations, protocol))
            for item in named
        )
        shares = [
            source.people if isinstance(source, DrawnSource) else max(1, round(source.weight * len(source.annotations)))
            for source in self.sources
        ]
        self._ends = np.cumsum(shares)
        self._orders: list[NDArray[np.int64]] = []
        for number, (share, source) in enumerate(zip(shares, self.sources, strict=True)):
            if isinstance(source, DrawnSource):
                self._orders.append(np.zeros(0, dtype=np.int64))
                continue
            order = np.arange(len(source.annotations))
            # A set that an epoch shows only in part is gone through in a fixed random order, not in the file's.
            if share % len(order):
                order = np.random.default_rng((seed, number)).permutation(order)
            self._orders.append(order)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the samples' keypoints."""
        return _skeleton(self.sources[0])

    def __len__(self) -> int:
        """Samples in an epoch."""
        return int(self._ends[-1])

    def person(self, epoch: int, index: int) -> tuple[int, int]:
        """Which source, and which row of its annotations or which drawn person, a sample is made of."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of an epoch of {len(self)}")
        source = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[source - 1]) if source else 0
        share, order = int(self._ends[source]) - start, self._orders[source]
        if isinstance(self.sources[source], DrawnSource):
            return source, epoch * share + index - start
        return source, int(order[(epoch * share + index - start) % len(order)])

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Makes the sample of (epoch, index).

        Raises:
            ImageError: The photo cannot be read.
            AnnotationError: The photo has another size than its annotations say.
        """
        epoch, index = key
        number, row = self.person(epoch, index)
        source = self.sources[number]
        config = self.augment if source.augment is None else source.augment
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch, index))))
        if isinstance(source, DrawnSource):
            return self._draw(source, number, row, config, random)
        people = source.annotations
        image_row = people.image_rows[row]
        height, width = people.image_sizes[image_row].tolist()
        photo = self.photos.read(people.image_files[image_row], (height, width))
        placed = place(
            people.boxes[row],
            people.keypoints[row],
            people.visibility[row],
            photo_width=photo.shape[1],
            crop_size=self.crop_size,
            skeleton=people.skeleton,
            config=config,
            random=random,
            protocol=self.protocol,
        )
        crop = change_pixels(crop_image(photo, placed.matrix, self.crop_size), config, random)
        return Sample(crop, placed.keypoints, placed.weights, placed.matrix, number, row)

    def _draw(
        self, source: DrawnSource, number: int, row: int, config: AugmentConfig, random: np.random.Generator
    ) -> Sample:
        subject = source.painter.subject(row)
        placed = place(
            subject.box,
            subject.keypoints,
            subject.visibility.astype(np.float32),
            photo_width=subject.photo_width,
            crop_size=self.crop_size,
            skeleton=source.painter.skeleton,
            config=config,
            random=random,
            protocol=self.protocol,
        )
        crop = change_pixels(subject.draw(placed.matrix, self.crop_size), config, random)
        return Sample(crop, placed.keypoints, placed.weights, placed.matrix, number, row)

    def preload(self) -> None:
        """Reads every photo once, so that a store that keeps photos is full before worker processes start.

        Raises:
            ImageError: A photo cannot be read.
            AnnotationError: A photo has another size than its annotations say.
        """
        for people in (source.annotations for source in self.sources if isinstance(source, Source)):
            for image_row in np.unique(people.image_rows):
                height, width = people.image_sizes[image_row].tolist()
                self.photos.read(people.image_files[image_row], (height, width))


def _skeleton(source: Source | DrawnSource) -> Skeleton:
    return source.painter.skeleton if isinstance(source, DrawnSource) else source.annotations.skeleton


def _trainable(annotations: AnnotationSet, protocol: Protocol) -> AnnotationSet:
    present = without_missing_images(annotations)
    counts = (label_weights(present.visibility, protocol) > 0).any(axis=1)
    chosen = present.select(present.trainable() & counts)
    if not len(chosen):
        raise AnnotationError(
            f"{annotations.path}: none of its {len(annotations)} people can be trained on: each is a crowd, or has no "
            "area, no labelled keypoint or no photo"
        )
    return chosen
