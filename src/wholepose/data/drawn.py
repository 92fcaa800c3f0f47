"""What a dataset asks of people who are in no file but drawn when a sample wants them, such as synthetic ones.

The dataset places the crop as it does in a photo, and only then is it drawn: as sharp as the model's input, wherever
the augmentation looks. Who can draw people is handed to the dataset; nothing here knows how it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wholepose.data.augment import AugmentConfig
from wholepose.skeletons import Skeleton


class Subject(Protocol):
    """Somebody in a photo of which nothing is drawn yet."""

    @property
    def box(self) -> NDArray[np.floating]:
        """(4,) xyxy photo pixels."""

    @property
    def keypoints(self) -> NDArray[np.floating]:
        """(K, 2) photo pixels."""

    @property
    def visibility(self) -> NDArray[np.integer]:
        """(K,) as in annotations: 0 not labelled, 1 hidden, 2 seen."""

    @property
    def photo_width(self) -> int:
        """In pixels."""

    def draw(self, matrix: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draws a crop (H, W, 3) RGB of (height, width); `matrix` (2, 3) maps photo pixels to the crop's."""


class Painter(Protocol):
    """Thinks up people by number: one number, one person, in every process. It travels to worker processes."""

    @property
    def skeleton(self) -> Skeleton:
        """Of the keypoints."""

    def subject(self, number: int) -> Subject:
        """Person number `number`, from 0 without end."""


@dataclass(frozen=True, eq=False)
class DrawnSource:
    """People in a mixture who are drawn, new ones in every epoch.

    Attributes:
        painter: Who draws them.
        people: How many an epoch has.
        augment: How their samples are varied; None for what the dataset does by default.
    """

    painter: Painter
    people: int
    augment: AugmentConfig | None = None
