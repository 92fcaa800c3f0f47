"""People's boxes from a file: COCO detection results (JSON) or a table (CSV).

JSON is a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, as detectors write it
for the COCO evaluation. Only category 1 (person) counts; a row without ``category_id`` is a person and one without
``score`` has score 1. Which image a row belongs to follows, in this order, from

1. its ``"file_name"``, where it has one;
2. its ``"image_id"`` looked up in an annotation file, where one is given: any JSON with the COCO ``"images"`` list;
3. its ``"image_id"`` taken for the file name: text as it is, a number for the file whose stem is that number with or
   without leading zeros, as COCO names its photos (``000000000785.jpg`` or ``COCO_val2014_000000000785.jpg``).

A CSV has the header ``file,x1,y1,x2,y2`` and, if wanted, ``score``: one row a person, corners in pixels.

Images are found by their path as far as both sides give it: a row for ``a/photo.jpg`` holds for ``/data/a/photo.jpg``
and for ``photo.jpg``, but not for ``/data/b/photo.jpg``. Of several that fit, those with most folders in common count:
where there is a ``photo.jpg`` and an ``a/photo.jpg``, ``/data/a/photo.jpg`` is the second.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.detectors.base import Detections
from wholepose.errors import AnnotationError, ConfigError

PERSON_CATEGORY = 1
"""Category of people in COCO files."""

_Row = tuple[str | int | None, tuple[float, float, float, float], float]
_Person = tuple[tuple[float, float, float, float], float]


class BoxesFileDetector:
    """Answers with the boxes that a file lists for an image; an image without rows shows nobody.

    Rows for images that ``images`` does not hold are left out, with a warning that counts them.

    Args:
        path: The ``.json`` or ``.csv`` file.
        images: A COCO annotation or image-info JSON that says which ``image_id`` is which file.
        threshold: Lowest score that counts.

    Raises:
        AnnotationError: A file cannot be read or is malformed, and the message names file, row and field; or no row is
            for an image of ``images``.
    """

    def __init__(self, path: str | Path, *, images: str | Path | None = None, threshold: float = 0.0) -> None:
        self.path = Path(path)
        self.name = self.path.name
        image_names = None if images is None else read_image_names(Path(images))
        if self.path.suffix.lower() == ".csv":
            rows = list(_csv_rows(self.path))
        else:
            rows = list(_json_rows(self.path, image_names))
        # Images without boxes are keys too, or they would be taken for others of their name.
        self._people: dict[str | int, list[_Person]] = {_normal(name): [] for name in (image_names or {}).values()}
        strangers = 0
        for key, box, score in rows:
            if key is None:
                strangers += 1
                continue
            people = self._people.setdefault(key, [])
            if score >= threshold:
                people.append((box, score))
        if strangers and strangers == len(rows):
            raise AnnotationError(
                f"{self.path}: none of its {len(rows)} boxes is on an image of {images}: do they belong together?"
            )
        if strangers:
            warnings.warn(
                f"{self.path}: {strangers} of {len(rows)} boxes are on images that {images} does not hold, and are "
                "left out",
                stacklevel=2,
            )
        self._keys_by_file: dict[str, list[str]] = defaultdict(list)
        for key in self._people:
            if isinstance(key, str):
                self._keys_by_file[key.rsplit("/", 1)[-1]].append(key)

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Cannot tell images apart without their names.

        Args:
            images: Each (H, W, 3) uint8 RGB.

        Returns:
            An empty list where there is no image.

        Raises:
            ConfigError: There are images.
        """
        if len(images):
            raise ConfigError(
                f"{self.path}: a file of boxes needs the names of the images: predict from files, "
                "pass names to detect_named(), or pass boxes as an array"
            )
        return []

    def detect_named(self, names: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Looks up the boxes of images by their file names.

        Args:
            names: File name or path of each image.
            images: Each (H, W, 3) uint8 RGB; boxes are not clipped to them.

        Returns:
            One entry an image, in the same order.

        Raises:
            ValueError: There are not as many names as images.
            AnnotationError: Rows of several images fit a name.
        """
        if len(names) != len(images):
            raise ValueError(f"{len(names)} names for {len(images)} images")
        return [self._lookup(name) for name in names]

    def _lookup(self, name: str) -> Detections:
        folders, _, file = _normal(name).rpartition("/")
        stem = Path(file).stem
        path = folders.split("/") if folders else []
        shorter: list[str] = []
        longer: list[str] = []
        for key in dict.fromkeys([*self._keys_by_file.get(file, ()), *self._keys_by_file.get(stem, ())]):
            above = key.split("/")[:-1]
            common = min(len(above), len(path))
            if above[len(above) - common :] == path[len(path) - common :]:
                (longer if len(above) > len(path) else shorter).append(key)
        most = max((key.count("/") for key in shorter), default=0)
        nearest: list[str | int] = [key for key in shorter if key.count("/") == most]
        number = re.fullmatch(r"(?:COCO_[a-z0-9]+_)?([0-9]{1,18})", stem)
        if number and int(number.group(1)) in self._people and not most:
            nearest.append(int(number.group(1)))
        if len(longer) + bool(nearest) > 1:
            raise AnnotationError(
                f"{self.path}: {name!r} could be any of {sorted(map(str, [*nearest, *longer]))[:4]}: "
                "give more of the image's path"
            )
        people: list[_Person] = []
        for match in [*nearest, *longer]:
            people.extend(self._people[match])
        if not people:
            return Detections.empty()
        boxes, scores = zip(*people, strict=True)
        return Detections(np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32))


def _normal(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: is not JSON: {error}") from error


def read_image_names(path: Path) -> dict[int | str, str]:
    """Reads which image id is which file from the ``"images"`` list of a COCO JSON.

    Args:
        path: An annotation or image-info file, or a bare list of image entries.

    Returns:
        File names by image id.

    Raises:
        AnnotationError: The file cannot be read or is malformed; the message names the entry and the field.
    """
    document = _read_json(path)
    images = document.get("images") if isinstance(document, Mapping) else document
    if not isinstance(images, list):
        raise AnnotationError(f"{path}: has no list 'images' of COCO image entries")
    names: dict[int | str, str] = {}
    for number, entry in enumerate(images):
        if not isinstance(entry, Mapping):
            raise AnnotationError(f"{path}: images[{number}] is not an object but {_short(entry)}")
        image_id, name = _whole(entry.get("id")), entry.get("file_name")
        if isinstance(image_id, bool) or not isinstance(image_id, (int, str)):
            raise AnnotationError(
                f"{path}: images[{number}], field 'id': a number or text is needed, not {_short(image_id)}"
            )
        if not isinstance(name, str) or not name:
            raise AnnotationError(f"{path}: images[{number}], field 'file_name': text is needed, not {_short(name)}")
        names[image_id] = name
    return names


def _json_rows(path: Path, image_names: Mapping[int | str, str] | None) -> Iterator[_Row]:
    document = _read_json(path)
    if not isinstance(document, list):
        raise AnnotationError(
            f"{path}: COCO detection results are a list of rows, not {type(document).__name__}; "
            "a ground-truth file is not a boxes file"
        )
    for number, row in enumerate(document):
        where = f"{path}: row {number}"
        if not isinstance(row, Mapping):
            raise AnnotationError(f"{where} is not an object but {_short(row)}")
        category = _whole(row.get("category_id", PERSON_CATEGORY))
        if isinstance(category, bool) or not isinstance(category, int):
            raise AnnotationError(f"{where}, field 'category_id': a whole number is needed, not {_short(category)}")
        if category != PERSON_CATEGORY:
            continue
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise AnnotationError(
                f"{where}, field 'bbox': four numbers x, y, width, height are needed, not {_short(box)}"
            )
        x, y, width, height = (_number(value, where, "bbox") for value in box)
        if width <= 0 or height <= 0:
            raise AnnotationError(f"{where}, field 'bbox': width and height must be above 0, not {_short(box)}")
        score = _score(row.get("score", 1.0), where)
        yield _json_key(row, where, image_names), (x, y, x + width, y + height), score


def _json_key(row: Mapping[str, Any], where: str, image_names: Mapping[int | str, str] | None) -> str | int | None:
    """What a row's image is called; None where the annotation file does not hold it."""
    name = row.get("file_name")
    if name is not None:
        if not isinstance(name, str) or not _normal(name):
            raise AnnotationError(f"{where}, field 'file_name': text is needed, not {_short(name)}")
        return _normal(name)
    image_id = _whole(row.get("image_id"))
    if isinstance(image_id, bool) or not isinstance(image_id, (int, str)) or image_id == "":
        raise AnnotationError(f"{where}, field 'image_id': a number or text is needed, not {_short(image_id)}")
    if image_names is not None:
        return _normal(image_names[image_id]) if image_id in image_names else None
    if isinstance(image_id, str):
        return int(image_id) if image_id.isascii() and image_id.isdigit() and len(image_id) < 19 else _normal(image_id)
    return image_id


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        wanted = ["file", "x1", "y1", "x2", "y2"]
        if header not in (wanted, [*wanted, "score"]):
            raise AnnotationError(
                f"{path}: the first line must be 'file,x1,y1,x2,y2' or that with ',score', not {header}"
            )
        for cells in reader:
            if not cells:
                continue
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(header):
                raise AnnotationError(f"{where}: {len(header)} fields are needed, not {len(cells)}")
            name = _normal(cells[0].strip())
            if not name:
                raise AnnotationError(f"{where}, field 'file': is empty")
            x1, y1, x2, y2 = (_number(cell, where, field) for cell, field in zip(cells[1:5], wanted[1:], strict=True))
            if x2 <= x1 or y2 <= y1:
                raise AnnotationError(f"{where}: x2 must be above x1 and y2 above y1, not {cells[1:5]}")
            yield name, (x1, y1, x2, y2), _score(cells[5], where) if len(cells) > 5 else 1.0
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: is not CSV: {error}") from error


def _whole(value: Any) -> Any:
    """A number such as 1.0, as pandas writes ids, as a whole one; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any, where: str, field: str) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    # Boxes end up as float32, where 1e39 would be infinite.
    if not abs(number) <= 1e9:
        raise AnnotationError(f"{where}, field {field!r}: a number of at most 1e9 is needed, not {_short(value)}")
    return number


def _score(value: Any, where: str) -> float:
    score = _number(value, where, "score")
    if not 0 <= score <= 1 + 1e-6:
        raise AnnotationError(f"{where}, field 'score': must be between 0 and 1, not {_short(value)}")
    return min(score, 1.0)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
