"""What the query of a request may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import QueryParams

from wholepose.boxes import check_person_boxes
from wholepose.images import printable_path
from wholepose.serving.problems import ApiError

FORMATS = ("json", "coco", "openpose", "png")
MAX_NAME_LENGTH = 200
MAX_IMAGE_ID = (1 << 53) - 1  # what a JSON reader that knows only doubles still tells apart
ONE_PICTURE = ("format", "uncertainty", "boxes", "whole_image", "flip_test", "name", "image_id")
SEVERAL_PICTURES = ("format", "uncertainty", "whole_image", "flip_test")


@dataclass(frozen=True, eq=False)
class Query:
    """What a client asks for.

    Attributes:
        format: One of ``FORMATS``.
        uncertainty: Covariances in the JSON document.
        boxes: (N, 4) float32 xyxy pixels, or None: the detector looks.
        whole_image: One person fills the picture.
        flip_test: Average with the mirrored crops.
        name: The picture's name in the document.
        image_id: The picture's number in COCO results.
    """

    format: str = "json"
    uncertainty: bool = False
    boxes: NDArray[np.float32] | None = None
    whole_image: bool = False
    flip_test: bool = False
    name: str = ""
    image_id: int = 0


def read_query(params: QueryParams, allowed: Sequence[str], *, max_boxes: int, can_detect: bool) -> Query:
    """Reads a request's query.

    Args:
        params: The query.
        allowed: Names of the parameters that the route knows.
        max_boxes: How many boxes there may be.
        can_detect: Whether the server has a detector.

    Returns:
        What it says.

    Raises:
        ApiError: A parameter is unknown, given twice or malformed, or two of them contradict each other.
    """
    names = [name for name, _ in params.multi_items()]
    for name in names:
        if name not in allowed:
            raise _invalid(f"there is no parameter {_shown(name)} here; there are {', '.join(allowed)}")
        if names.count(name) > 1:
            raise _invalid(f"{name} is given {names.count(name)} times")
    formats = FORMATS if allowed is ONE_PICTURE else FORMATS[:-1]
    query = Query(
        format=params.get("format", "json"),
        uncertainty=_flag(params, "uncertainty"),
        boxes=_boxes(params["boxes"], max_boxes) if "boxes" in params else None,
        whole_image=_flag(params, "whole_image"),
        flip_test=_flag(params, "flip_test"),
        name=_name(params.get("name", "")),
        image_id=_image_id(params.get("image_id", "0")),
    )
    if query.format not in formats:
        raise _invalid(f"format must be one of {', '.join(formats)}, not {_shown(query.format)}")
    if query.uncertainty and query.format != "json":
        raise _invalid(f"uncertainty goes with format=json: {query.format} has no place for it")
    if query.boxes is not None and query.whole_image:
        raise _invalid("boxes and whole_image both say who is in the picture; give one of them")
    if "name" in params and query.format != "json":
        raise _invalid(f"name goes with format=json: {query.format} has no place for it")
    if "image_id" in params and query.format != "coco":
        raise _invalid(f"image_id goes with format=coco: {query.format} has no place for it")
    if query.boxes is None and not query.whole_image and not can_detect:
        raise _invalid("this server has no person detector: give boxes, or whole_image=true")
    return query


def _flag(params: QueryParams, name: str) -> bool:
    value = params.get(name, "false")
    if value not in ("true", "false"):
        raise _invalid(f"{name} must be true or false, not {_shown(value)}")
    return value == "true"


def _boxes(text: str, max_boxes: int) -> NDArray[np.float32]:
    """Reads ``x1,y1,x2,y2;x1,y1,x2,y2``; an empty text is nobody."""
    rows = text.split(";") if text else []
    if len(rows) > max_boxes:
        raise _invalid(f"boxes are {len(rows)}; at most {max_boxes} are taken in one request")
    try:
        numbers = [[_number(word) for word in row.split(",")] for row in rows]
        if any(len(row) != 4 for row in numbers):
            raise ValueError
    except ValueError:
        raise _invalid("boxes must be x1,y1,x2,y2 in pixels, several of them separated by ;") from None
    try:
        return check_person_boxes(np.array(numbers, dtype=np.float64).reshape(-1, 4))
    except ValueError as error:
        raise _invalid(f"boxes: {error}") from error


def _number(word: str) -> float:
    if not word.isascii() or "_" in word or word != word.strip():  # which Python takes, and nobody means
        raise ValueError
    return float(word)


def _name(text: str) -> str:
    if len(text) > MAX_NAME_LENGTH:
        raise _invalid(f"name has {len(text)} characters; at most {MAX_NAME_LENGTH} are taken")
    if printable_path(text) != text:  # not isprintable, which knows no emoji newer than Python
        raise _invalid("name holds characters that cannot be printed")
    return text


def _image_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_IMAGE_ID):
        raise _invalid(f"image_id must be a whole number from 0 to {MAX_IMAGE_ID}, not {_shown(text)}")
    return int(text)


def _shown(text: str) -> str:
    """A client's word as an answer may repeat it."""
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")


def _invalid(message: str) -> ApiError:
    return ApiError("invalid_parameter", message)
