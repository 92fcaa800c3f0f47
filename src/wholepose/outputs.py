"""Documents out: JSON, COCO results, and the one way to write a file so that it is whole or absent."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import AnnotationError, ConfigError
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton, get_skeleton

COORDINATE_DECIMALS = 3
"""Pixels are written to a thousandth, far below what a model can tell."""

SCORE_DECIMALS = 5
COVARIANCE_DECIMALS = 4

_LONGEST_SUFFIX = 16  # file names have a limit; no format that goes by its suffix needs more
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to, and puts what was written under its final name once it is complete.

    On leaving without an exception the temporary file is forced to disk and renamed over ``path``, which so holds the
    old file or the new one and never a part. On an exception of any kind it is removed. A process killed outright
    leaves the old file, and a hidden ``.wholepose-*`` file that nothing reads.

    Args:
        path: The final name; its folder must exist.

    Yields:
        A path in the same folder with the same suffix. Nothing is there yet; the caller creates it.

    Raises:
        OSError: The disk is full, the folder is missing or may not be written to, or ``path`` is a folder, a device
            or a pipe; it names ``path``.
    """
    final = Path(path)
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(final))
    if final.exists() and not final.is_file():  # a rename would put a file in the place of /dev/null
        raise OSError(errno.EINVAL, "is a device or a pipe, not a file to write", os.fspath(final))
    suffix = final.suffix if len(final.suffix) <= _LONGEST_SUFFIX else ""
    temporary = final.with_name(f".wholepose-{secrets.token_hex(8)}{suffix}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(final)
    except OSError as error:
        _remove(temporary)
        ours = error.filename is not None and os.fspath(error.filename) == os.fspath(temporary)
        if ours or (error.filename is None and error.errno in _FULL_DISK):
            raise OSError(error.errno, error.strerror, os.fspath(final)) from error
        raise
    except BaseException:
        _remove(temporary)
        raise
    if os.name != "nt":  # Windows cannot open a folder; its rename is already journalled
        _sync(final.parent)


def _sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def to_json(document: object) -> str:
    """A document as compact JSON in ASCII, with a line's end.

    Raises:
        ValueError: A number in it is NaN or infinite, which JSON cannot say.
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], document: object) -> None:
    """Writes a JSON document; the file is whole or absent (see ``atomic_path``).

    Raises:
        OSError: It cannot be written.
        ValueError: A number in the document is NaN or infinite.
    """
    text = to_json(document)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


def poses_document(
    poses: Poses, *, image: str, size: tuple[int, int], model: str, uncertainty: bool = False
) -> dict[str, Any]:
    """What ``wholepose predict`` writes for an image.

    Args:
        poses: The people found.
        image: The image's name, as the reader of the document should find it.
        size: (height, width) of the upright image in pixels.
        model: Name of the model.
        uncertainty: Write the covariances of the keypoints, where there are any.

    Returns:
        ``image``, ``height``, ``width``, ``skeleton``, ``model`` and ``people``, each of whom has ``box`` (x1, y1, x2,
        y2), ``box_score``, ``score``, ``keypoints`` as [x, y, score], and if asked for ``covariances`` as [xx, xy, yy]
        px^2, and ``track_id`` where there are track numbers. Coordinates are rounded to ``COORDINATE_DECIMALS``, scores
        to ``SCORE_DECIMALS``, covariances to ``COVARIANCE_DECIMALS``.
    """
    boxes, keypoints = _rounded(poses.boxes, COORDINATE_DECIMALS), _rounded(poses.keypoints, COORDINATE_DECIMALS)
    box_scores, scores = _rounded(poses.box_scores, SCORE_DECIMALS), _rounded(poses.scores, SCORE_DECIMALS)
    instance_scores = _rounded(poses.instance_scores(), SCORE_DECIMALS)
    people: list[dict[str, Any]] = [
        {
            "box": boxes[person],
            "box_score": box_scores[person],
            "score": instance_scores[person],
            "keypoints": [[*place, score] for place, score in zip(keypoints[person], scores[person], strict=True)],
        }
        for person in range(len(poses))
    ]
    if uncertainty and poses.covariances is not None:
        upper = _rounded(poses.covariances[..., [0, 0, 1], [0, 1, 1]], COVARIANCE_DECIMALS)
        for person, covariances in zip(people, upper, strict=True):
            person["covariances"] = covariances
    if poses.track_ids is not None:
        for person, track_id in zip(people, poses.track_ids.tolist(), strict=True):
            person["track_id"] = track_id
    height, width = size
    return {
        "image": image,
        "height": int(height),
        "width": int(width),
        "skeleton": poses.skeleton.name,
        "model": model,
        "people": people,
    }


def _rounded(array: NDArray[np.floating], decimals: int) -> list[Any]:
    """Nested lists of Python floats that print with no more than so many decimals."""
    rounded: list[Any] = (np.round(array.astype(np.float64), decimals) + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0
    return rounded


def read_poses(path: str | os.PathLike[str]) -> tuple[Poses, dict[str, Any]]:
    """Reads a document of ``poses_document`` back.

    Args:
        path: The JSON file.

    Returns:
        The people, in the file's order, and the document's other fields (``image``, ``height``, ``width``, ``model``
        and ``skeleton``).

    Raises:
        AnnotationError: The file is missing, is not JSON or not such a document; the message names the field.
    """
    document = _read_object(Path(path))
    return poses_of_document(document, os.fspath(path)), {
        key: value for key, value in document.items() if key != "people"
    }


def poses_of_document(document: Mapping[str, Any], where: str) -> Poses:
    """The people of a document that ``poses_document`` made.

    Args:
        document: The JSON object.
        where: What an error is to name: the file, and the line in it if it has many documents.

    Raises:
        AnnotationError: It is not such a document; the message names the field.
    """
    try:
        skeleton = get_skeleton(_field(document, "skeleton", str))
        people = _field(document, "people", list)
        if not all(isinstance(person, dict) for person in people):
            raise ValueError("'people' must hold objects")
        return _read_people(people, skeleton)
    except (ValueError, ConfigError) as error:
        raise AnnotationError(f"{where}: not a document of wholepose predict: {error}") from error


def _read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; NaN and Infinity, which are not JSON, are refused."""
    try:
        document = json.loads(path.read_bytes(), parse_constant=refuse_constant)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise AnnotationError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise AnnotationError(f"{path}: not a document of wholepose predict: a {type(document).__name__} at the top")
    return document


def refuse_constant(word: str) -> None:
    """For ``json.loads(parse_constant=...)``: NaN and Infinity are no JSON.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{word} is no JSON number")


def _field(document: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(document.get(name), kind):
        found = repr(document[name])[:40] if name in document else "missing"
        raise ValueError(f"field {name!r} must be a {kind.__name__}, and is {found}")
    return document[name]


def _read_people(people: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    count = skeleton.num_keypoints
    if not people:
        return Poses.empty(skeleton)
    triples = _numbers(people, "keypoints", (count, 3)).astype(np.float32)
    covariances = None
    if any("covariances" in person for person in people):
        upper = _numbers(people, "covariances", (count, 3)).astype(np.float32)
        covariances = upper[..., [0, 1, 1, 2]].reshape(-1, count, 2, 2)
    track_ids = None
    if any("track_id" in person for person in people):
        track_ids = _numbers(people, "track_id", ()).astype(np.int64)
    return Poses(
        keypoints=triples[..., :2],
        scores=triples[..., 2],
        boxes=_numbers(people, "box", (4,)).astype(np.float32),
        box_scores=_numbers(people, "box_score", ()).astype(np.float32),
        skeleton=skeleton,
        covariances=covariances,
        track_ids=track_ids,
    )


def _numbers(people: Sequence[Mapping[str, Any]], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(N, *shape) float64 of one field of every person, within what float32 holds."""
    arrays = []
    for index, person in enumerate(people):
        try:
            array = np.array(person.get(name, np.nan), dtype=np.float64)
        except (ValueError, TypeError, OverflowError):  # ragged lists, words, nulls
            array = np.array(np.nan)
        if array.shape != shape or not (np.abs(array) <= np.finfo(np.float32).max).all():  # nor NaN
            wanted = "a number" if shape == () else "numbers of shape " + " x ".join(map(str, shape))
            raise ValueError(f"person {index}: field {name!r} must be {wanted}")
        arrays.append(array)
    return np.stack(arrays)


def write_coco_results(path: str | os.PathLike[str], results: Iterable[Mapping[str, Any]]) -> None:
    """Writes COCO keypoint results, one JSON list; the file is whole or absent (see ``atomic_path``).

    Args:
        path: The file to write.
        results: What ``Poses.to_coco`` gives, of all images one after the other. Numbers are rounded: coordinates to
            ``COORDINATE_DECIMALS``, scores to ``SCORE_DECIMALS``.

    Raises:
        OSError: It cannot be written.
        ValueError: A number is NaN or infinite.
    """
    write_json(path, [rounded_coco_result(result) for result in results])


def rounded_coco_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``Poses.to_coco`` with coordinates and scores rounded as files hold them."""
    triples = np.reshape(np.asarray(result["keypoints"], dtype=np.float64), (-1, 3))
    triples = np.column_stack([np.round(triples[:, :2], COORDINATE_DECIMALS), np.round(triples[:, 2], SCORE_DECIMALS)])
    return {
        **result,
        "keypoints": (triples.reshape(-1) + 0.0).tolist(),
        "score": round(float(result["score"]), SCORE_DECIMALS),
        "bbox": _rounded(np.asarray(result["bbox"], dtype=np.float64), COORDINATE_DECIMALS),
    }
