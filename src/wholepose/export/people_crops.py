"""Crops of people from a user's pictures, to calibrate a model by and to compare its forms on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.detectors import PersonDetector
from wholepose.errors import ConfigError, ImageError
from wholepose.geometry import Protocol, crop_image, crop_matrices, crop_regions
from wholepose.images import find_images, load_image, printable_path
from wholepose.weights.card import ModelCard

PEOPLE_A_PICTURE = 4
"""So that a crowd does not crowd out the other pictures."""

_SEED = 0


@dataclass(frozen=True, eq=False)
class PeopleCrops:
    """Crops and where they come from.

    Attributes:
        crops: (N, H, W, 3) uint8 RGB.
        pictures: The pictures that they come from; at least one.
        unread: What was named in vain and pictures that could not be read, and why.
    """

    crops: NDArray[np.uint8]
    pictures: Sequence[Path]
    unread: Sequence[str]


def cut_people(names: Sequence[str | Path], card: ModelCard, detector: PersonDetector, limit: int) -> PeopleCrops:
    """Cuts crops of the people in pictures, as a model gets them.

    Pictures are taken in an order that is mixed and always the same, until there are enough crops. One in which nobody
    is found is taken as a whole, as photos of one person often are cut out already.

    Args:
        names: Pictures, folders and patterns.
        card: Says how large a crop is.
        detector: Finds the people.
        limit: Most crops.

    Raises:
        ConfigError: There is no picture that can be read.
    """
    found = find_images(names)
    size = card.input_size
    protocol: Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"
    crops: list[NDArray[np.uint8]] = []
    unread = [f"{name}: {reason}" for name, reason in found.problems]
    pictures = []
    for index in np.random.default_rng(_SEED).permutation(len(found.paths)):
        if len(crops) >= limit:
            break
        try:
            image = load_image(found.paths[index])
        except ImageError as error:
            unread.append(str(error))
            continue
        pictures.append(found.paths[index])
        boxes = detector.detect([image])[0].boxes[:PEOPLE_A_PICTURE]
        if not len(boxes):
            boxes = np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
        centers, sizes = crop_regions(boxes, size[1] / size[0])
        crops += [crop_image(image, matrix, size) for matrix in crop_matrices(centers, sizes, size, protocol=protocol)]
    if not crops:
        where = ", ".join(printable_path(name) for name in names)
        raise ConfigError(f"{where}: no picture there can be read; give a folder of photos of people")
    return PeopleCrops(np.stack(crops[:limit]), pictures, unread)
