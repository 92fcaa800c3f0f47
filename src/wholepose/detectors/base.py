"""What every person detector takes and gives.

Convention:
    Boxes are (x1, y1, x2, y2) in pixels of the image, as COCO writes them: 0 is the image's left or upper edge and its
    width or height the right or lower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wholepose.geometry import box_iou, clip_boxes


@dataclass(frozen=True, eq=False)
class Detections:
    """The people that a detector found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels of the image, read-only.
        scores: (N,) float32 in [0, 1], falling, read-only.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Checks the shapes and puts the best first.

        Raises:
            ValueError: The shapes do not belong together, or a number is not finite.
        """
        boxes = np.array(self.boxes, dtype=np.float32)
        scores = np.array(self.scores, dtype=np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
            raise ValueError(f"detections need boxes (N, 4) and scores (N,), not {boxes.shape} and {scores.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("detections must be finite")
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
        boxes.flags.writeable = scores.flags.writeable = False
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        """Number of people."""
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Nobody."""
        return cls(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.float32))


class PersonDetector(Protocol):
    """Finds people in images. Holds no memory of the images it has seen."""

    @property
    def name(self) -> str:
        """What the detector is called in results."""
        ...

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds the people of several images.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One entry an image, in the same order.
        """
        ...


@runtime_checkable
class NamedPersonDetector(Protocol):
    """A detector that has to know which image it is shown, such as a file of boxes."""

    @property
    def name(self) -> str:
        """What the detector is called in results."""
        ...

    def detect_named(self, names: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds the people of several images whose file names are known.

        Args:
            names: File name or path of each image.
            images: Each (H, W, 3) uint8 RGB.

        Returns:
            One entry an image, in the same order.
        """
        ...


def detect_people(
    detector: PersonDetector, images: Sequence[NDArray[np.uint8]], names: Sequence[str] | None = None
) -> list[Detections]:
    """Asks a detector, with the names of the images where it wants them and they are known.

    Args:
        detector: Any person detector.
        images: Each (H, W, 3) uint8 RGB.
        names: File name or path of each image, where there are such.

    Returns:
        One entry an image, in the same order.

    Raises:
        ConfigError: The detector is a boxes file and no names are given.
        ValueError: There are not as many names as images.
    """
    if names is not None and len(names) != len(images):
        raise ValueError(f"{len(names)} names for {len(images)} images")
    if names is not None and isinstance(detector, NamedPersonDetector):
        return detector.detect_named(names, images)
    return detector.detect(images)


def check_images(images: Sequence[NDArray[np.uint8]]) -> None:
    """Refuses what is no image.

    Args:
        images: Each (H, W, 3) uint8 RGB with at least one pixel.

    Raises:
        ValueError: One is something else.
    """
    for number, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"image {number} must be a (H, W, 3) uint8 array, not {found}")
        if image.size == 0:
            raise ValueError(f"image {number} has no pixels: its shape is {image.shape}")


def make_detections(
    boxes: ArrayLike, scores: ArrayLike, image_size: tuple[int, int], threshold: float, *, clip: bool = True
) -> Detections:
    """Turns a network's raw boxes into detections.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        image_size: (height, width) of the image in pixels.
        threshold: Lowest score that counts.
        clip: Cut boxes at the edges of the image; what lies outside it altogether is dropped either way.

    Returns:
        Those at or above the threshold that are finite and at least a fifth of a pixel wide and high inside the image.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.asarray(scores, dtype=np.float32).reshape(-1)
    inside = clip_boxes(boxes, image_size)
    keep = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (scores >= threshold)
    keep &= (inside[:, 2:] - inside[:, :2] > 0.2).all(axis=1)
    return Detections((inside if clip else boxes)[keep], np.clip(scores[keep], 0, 1))


def non_maximum_suppression(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], iou_threshold: float, *, candidates: int = 1000
) -> NDArray[np.int64]:
    """Removes boxes that repeat a better scored one.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        iou_threshold: The overlap above which the lower scored box goes.
        candidates: How many of the best boxes are looked at, which bounds memory.

    Returns:
        (M,) int64 indices of those kept, best first.
    """
    order = np.argsort(-scores, kind="stable")[:candidates]
    overlaps = box_iou(boxes[order], boxes[order]) > iou_threshold
    alive = np.ones(len(order), dtype=bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= ~overlaps[rank, rank + 1 :]
    return np.asarray(order[alive], dtype=np.int64)
