"""OpenPose's folder: one JSON file a frame, BODY_25 with face and hands, as Pose2Sim and Sports2D read it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wholepose.errors import AnnotationError, ConfigError
from wholepose.formats.frame import LARGEST, PoseFrame, poses_of_keypoints
from wholepose.formats.json_files import load_json
from wholepose.formats.writer import PoseWriter
from wholepose.outputs import COORDINATE_DECIMALS, SCORE_DECIMALS, to_json
from wholepose.poses import Poses
from wholepose.skeletons import HALPE136, OPENPOSE_BODY25, OPENPOSE_FACE70, OPENPOSE_HAND21, Skeleton

_ENDING = "_keypoints.json"
_DESKTOPS_OWN = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that desktops put into any folder that somebody looks at."""
_PARTS = (
    ("pose", None, OPENPOSE_BODY25),
    ("face", "face", OPENPOSE_FACE70),
    ("hand_left", "left_hand", OPENPOSE_HAND21),
    ("hand_right", "right_hand", OPENPOSE_HAND21),
)


class OpenPoseWriter(PoseWriter):
    """A folder that appears when all its files are written."""

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        """Makes a hidden folder beside ``path``.

        Raises:
            ConfigError: ``path`` is a file, or a folder that holds something else than such results.
            OSError: The folder cannot be made.
        """
        super().__init__(path, skeleton=skeleton, model=model)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; OpenPose's format is a folder of files")
        self._check_replaceable()
        self._hidden = self.path.absolute().with_name(f".wholepose-{secrets.token_hex(8)}")
        self._hidden.mkdir()
        self._cleanup.callback(shutil.rmtree, self._hidden, ignore_errors=True)

    def _check_replaceable(self) -> None:
        if self.path.is_dir():
            names = [entry.name for entry in self.path.iterdir() if entry.name not in _DESKTOPS_OWN]
            strange = next((name for name in names if not name.endswith(_ENDING)), None)
            if strange is not None:
                raise ConfigError(
                    f"{self.path} already holds {strange!r}; give a new folder, or one of such results to replace"
                )

    def _write(self, frame: PoseFrame) -> None:
        # A video's frames carry its name and their number; a picture's file carries the picture's name.
        stem = Path(frame.image).stem or "frame"
        name = stem if frame.time_s is None else f"{stem}_{frame.frame_index:012d}"
        if frame.time_s is None and (self._hidden / f"{name}{_ENDING}").exists():
            name = f"{stem}_{frame.frame_index:012d}"
        text = to_json(openpose_document(frame.poses))
        (self._hidden / f"{name}{_ENDING}").write_text(text, encoding="ascii", newline="\n")

    def _finish(self) -> None:
        # A folder cannot be renamed over one with files in it: the old one steps aside first.
        self._check_replaceable()
        aside = self._hidden.with_name(f"{self._hidden.name}-old")
        if self.path.is_dir():
            self.path.rename(aside)
        try:
            self._hidden.rename(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.rename(self.path)
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error
        shutil.rmtree(aside, ignore_errors=True)


def openpose_document(poses: Poses) -> dict[str, Any]:
    """``Poses.to_openpose`` with coordinates and scores rounded as files hold them."""
    document = poses.to_openpose()
    for person in document["people"]:
        for field, values in person.items():
            if field.endswith("_2d") and values:
                triples = np.array(values).reshape(-1, 3)
                triples[:, :2] = np.round(triples[:, :2], COORDINATE_DECIMALS)
                triples[:, 2] = np.round(triples[:, 2], SCORE_DECIMALS)
                person[field] = (triples.reshape(-1) + 0.0).tolist()
    return document


def read_openpose(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads a folder of OpenPose's files, or one of them.

    Args:
        path: The folder; the files come in the order of the number before their ending, else of their names.
        skeleton: What to convert to; if None HALPE136 where a file has a face or hands, else BODY_25 as it is.

    Raises:
        AnnotationError: There are no such files, or one is malformed; the message names it.
    """
    try:
        files = sorted(path.glob("*.json"), key=_order) if path.is_dir() else [path]
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    if not files:
        raise AnnotationError(f"{path}: {os.strerror(errno.ENOENT)}: no NAME_000000000000{_ENDING} in this folder")
    numbers = [_number(file) for file in files]
    distinct = None not in numbers and len(set(numbers)) == len(numbers)
    chosen = skeleton or _skeleton_of(files)
    for place, (file, number) in enumerate(zip(files, numbers, strict=True)):
        people = _people(file)
        poses = _poses(people, chosen, file)
        index = number if distinct and number is not None else place
        yield PoseFrame(index, None, poses, image=re.sub(r"(_\d{12})?_keypoints\.json$", "", file.name))


def _skeleton_of(files: list[Path]) -> Skeleton:
    """What the people of all files are: those of the first file with somebody tell."""
    for file in files:
        if people := _people(file):
            fine = any(person.get(f"{field}_keypoints_2d") for person in people for field, part, _ in _PARTS if part)
            return HALPE136 if fine else OPENPOSE_BODY25
    return OPENPOSE_BODY25


def _number(file: Path) -> int | None:
    match = re.search(r"_(\d{1,18})(_keypoints)?\.json$", file.name, re.ASCII)
    return None if match is None else int(match.group(1))


def _order(file: Path) -> tuple[int, str]:
    number = _number(file)
    return (-1 if number is None else number), file.name


def _people(file: Path) -> list[Mapping[str, Any]]:
    document = load_json(file)
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise AnnotationError(f"{file}: not OpenPose's: a list 'people' of objects is needed")
    if any(all(f"{field}_keypoints_2d" not in person for field, *_ in _PARTS) for person in people):
        raise AnnotationError(
            f"{file}: somebody has no 'pose_keypoints_2d'; OpenPose before 1.2 gave its fields other names, and its "
            "files cannot be read"
        )
    return people


def _poses(people: list[Mapping[str, Any]], skeleton: Skeleton, file: Path) -> Poses:
    """The people of one file, all parts put together in one skeleton."""
    keypoints = np.zeros((len(people), skeleton.num_keypoints, 2))
    scores = np.zeros((len(people), skeleton.num_keypoints))
    for field, part, source in _PARTS:
        if part is not None and part not in skeleton.parts:
            continue
        triples = np.stack([_triples(person, field, source, file) for person in people]) if people else None
        if triples is None:
            continue
        target = skeleton if part is None else skeleton.part(part)
        converted = poses_of_keypoints(triples[..., :2], triples[..., 2], source).convert(target)
        columns = np.arange(skeleton.num_keypoints) if part is None else np.array(skeleton.parts[part])
        known = converted.scores > 0
        keypoints[:, columns] = np.where(known[..., None], converted.keypoints, keypoints[:, columns])
        scores[:, columns] = np.where(known, converted.scores, scores[:, columns])
    ids = [person.get("person_id", [-1]) for person in people]
    track_ids = [value[0] if isinstance(value, list) and value else value for value in ids]
    tracked = bool(people) and all(type(value) is int and 0 <= value < 2**63 for value in track_ids)
    numbers = np.array(track_ids, dtype=np.int64) if tracked else None
    return poses_of_keypoints(keypoints, scores, skeleton, track_ids=numbers)


def _triples(person: Mapping[str, Any], field: str, source: Skeleton, file: Path) -> Any:
    values = person.get(f"{field}_keypoints_2d") or [0] * (3 * source.num_keypoints)
    try:
        triples = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        triples = np.zeros(0)
    if triples.shape != (3 * source.num_keypoints,) or not (np.abs(triples) <= LARGEST).all():
        raise AnnotationError(
            f"{file}: '{field}_keypoints_2d' must hold 3 x {source.num_keypoints} numbers, and is {str(values)[:60]}"
        )
    return triples.reshape(-1, 3)
