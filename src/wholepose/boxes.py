"""Boxes of people that a caller gives: what is let in, and the box of a whole picture.

Convention:
    Boxes are in pixels of the image: the centre of its top-left pixel is (0, 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wholepose.geometry import check_boxes
from wholepose.images import check_image

MAX_BOX_COORDINATE_PX = 1e6
"""Boxes may reach beyond the image, but not beyond this: float32 then no longer tells a tenth of a pixel."""


def whole_image_box(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The box that holds all of an (H, W, 3) image, for portraits and pictures cropped to one person: (1, 4) xyxy."""
    height, width = check_image(image).shape[:2]
    return np.array([[0.0, 0.0, width, height]])


def check_person_boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    """Validates boxes as ``PoseEstimator.predict`` does.

    Args:
        boxes: (N, 4) xyxy pixels, a list or an array of any real dtype; empty is nobody.

    Returns:
        (N, 4) float32 copy. Crops are cut by this very box, so that the box a result reports gives the same again.

    Raises:
        ValueError: The shape is wrong, or a box (the message names the row) is not finite, reversed, without area or
            beyond ``MAX_BOX_COORDINATE_PX``.
    """
    checked = check_boxes(boxes)
    far = (np.abs(checked) > MAX_BOX_COORDINATE_PX).any(axis=1)
    if far.any():
        raise ValueError(
            f"box {int(np.flatnonzero(far)[0])} reaches beyond {MAX_BOX_COORDINATE_PX:.0f} pixels: "
            f"{checked[far][0].tolist()}"
        )
    rounded = checked.astype(np.float32)
    check_boxes(rounded)  # a box far away and less than a rounding step wide
    return rounded


def check_box_scores(scores: ArrayLike | None, people: int) -> NDArray[np.float32]:
    """Validates the scores of boxes as ``PoseEstimator.predict`` does.

    Args:
        scores: (N,) of any real dtype, or None.
        people: N, the number of boxes.

    Returns:
        (N,) float32 copy; ones where none are given.

    Raises:
        ValueError: The shape is wrong, or a score is not finite.
    """
    checked = np.ones(people, np.float32) if scores is None else np.array(scores, dtype=np.float32)
    if checked.shape != (people,):
        raise ValueError(f"box_scores must have shape ({people},), one for each box, not {checked.shape}")
    if not np.isfinite(checked).all():
        raise ValueError(f"box_scores must be finite, not {checked.tolist()}")
    return checked
