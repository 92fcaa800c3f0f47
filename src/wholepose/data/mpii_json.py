"""Reads MPII's annotations in the list form that the HRNet release made of the original MATLAB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wholepose.data.coco_json import RawAnnotations
from wholepose.data.problems import Problems, number, numbers, show
from wholepose.skeletons import MPII16

_PERSON_HEIGHT_PX = 200.0
"""``scale`` is the person's height in units of this many pixels."""


def parse(document: Sequence[object], folder: Path, problems: Problems) -> RawAnnotations:
    """Reads MPII's list of people.

    The file has neither ids, boxes nor image sizes. Ids count from 1 in the file's order; the box is the square of the
    person's stated height about the stated centre, moved down by 15 pixels a scale unit as the HRNet release does; the
    sizes come from the headers of the pictures that are there. Coordinates lose MATLAB's offset of 1.

    Args:
        document: The parsed JSON: ``image``, ``center``, ``scale``, ``joints`` and ``joints_vis`` a person.
        folder: Where the pictures are.
        problems: Where faults are noted.

    Returns:
        The columns; an image that is not there or unreadable has size (0, 0).

    Raises:
        AnnotationError: The list has faults.
    """
    count = MPII16.num_keypoints
    size = len(document)
    rows: dict[str, int] = {}
    image_rows = np.zeros(size, dtype=np.int64)
    boxes = np.zeros((size, 4))
    points = np.zeros((size, count, 3), dtype=np.float32)
    for index, person in enumerate(document):
        if not isinstance(person, dict):
            problems.add(f"person {index}", "entry", f"must be an object, not {show(person)}")
            continue
        name = person.get("image")
        if not isinstance(name, str) or not name or "\0" in name:
            problems.add(f"person {index}", "image", f"must be a file name, not {show(name)}")
            continue
        entry = f"person {index} ({name})"
        image_rows[index] = rows.setdefault(name, len(rows))
        scale = number(person, "scale", entry, problems, minimum=0)
        center = numbers(person, "center", 2, entry, problems)
        points[index] = _points(person, count, entry, problems)
        if center is not None and scale is not None:
            half = scale * _PERSON_HEIGHT_PX / 2
            boxes[index] = (center[0] - 1 - half, center[1] + 15 * scale - 1 - half, 2 * half, 2 * half)
    problems.check()
    return RawAnnotations(
        skeleton=MPII16,
        category_id=1,
        image_ids=np.arange(1, len(rows) + 1, dtype=np.int64),
        image_names=tuple(rows),
        image_sizes=np.array([_image_size(folder / name) for name in rows], dtype=np.int64).reshape(-1, 2),
        person_ids=np.arange(1, size + 1, dtype=np.int64),
        image_rows=image_rows,
        boxes_xywh=boxes,
        keypoints=points[..., :2],
        visibility=points[..., 2],
        areas=np.full(size, np.nan),
        crowds=np.zeros(size, dtype=np.bool_),
        counts=np.full(size, -1, dtype=np.int64),
        labelled=np.ones(count, dtype=np.bool_),
        scored=np.ones(count, dtype=np.bool_),
        repeated_images=0,
        repeated_people=0,
        suspects=np.zeros(size, dtype=np.bool_),
    )


def _points(person: Mapping[str, Any], count: int, entry: str, problems: Problems) -> np.ndarray[Any, Any]:
    """(count, 3) of x, y and visibility."""
    points = np.zeros((count, 3), dtype=np.float32)
    joints = person.get("joints")
    visible = numbers(person, "joints_vis", count, entry, problems)
    if not isinstance(joints, list) or len(joints) != count:
        problems.add(entry, "joints", f"must be a list of {count} points, not {show(joints)}")
        return points
    for position, joint in enumerate(joints):
        point = numbers({"joints": joint}, "joints", 2, f"{entry} joint {position}", problems)
        if point is not None and visible is not None and visible[position] > 0:
            points[position] = (point[0] - 1, point[1] - 1, 2)
    return points


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width) from a picture's header; (0, 0) where there is none to read."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0, 0
