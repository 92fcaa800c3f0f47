"""NPZ: everything that poses hold, as arrays at full precision."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from wholepose.errors import AnnotationError
from wholepose.formats.frame import PoseFrame
from wholepose.formats.writer import PoseWriter
from wholepose.outputs import atomic_path
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton, get_skeleton

_NO_TRACK = -1
_NAMES_AT_ONCE = 10_000


class NpzWriter(PoseWriter):
    """Arrays of all frames and all people one after the other; see docs/formats.md.

    Frames go to temporary files, one an array, which are packed at the end: memory does not grow with the video.
    """

    def __init__(self, path: str | os.PathLike[str], *, skeleton: Skeleton, model: str) -> None:
        """Opens temporary files.

        Raises:
            OSError: The folder is missing or may not be written to.
        """
        super().__init__(path, skeleton=skeleton, model=model)
        count = skeleton.num_keypoints
        self._layout: dict[str, tuple[Any, tuple[int, ...]]] = {
            "frame": (np.int64, ()),
            "time_s": (np.float64, ()),
            "size": (np.int64, (2,)),
            "people": (np.int64, ()),
            "keypoints": (np.float32, (count, 2)),
            "scores": (np.float32, (count,)),
            "boxes": (np.float32, (4,)),
            "box_scores": (np.float32, ()),
            "track_ids": (np.int64, ()),
            "covariances": (np.float32, (count, 2, 2)),
            "raw_scores": (np.float32, (count,)),
            "filled": (np.bool_, (count,)),
        }
        self._rows = dict.fromkeys(self._layout, 0)
        self._images: list[str] = []  # a video's frames share one name
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path))
            folder = self.path.absolute().parent
            self._parts: dict[str, IO[bytes]] = {
                name: stack.enter_context(tempfile.TemporaryFile(dir=folder, prefix=".wholepose-"))
                for name in self._layout
            }
            self._cleanup = stack.pop_all()

    def _write(self, frame: PoseFrame) -> None:
        poses = frame.poses
        people = len(poses)
        self._append("frame", [frame.frame_index])
        self._append("time_s", [np.nan if frame.time_s is None else frame.time_s])
        self._images.append(frame.image)
        self._append("size", [frame.size or (0, 0)])
        self._append("people", [people])
        for name in ("keypoints", "scores", "boxes", "box_scores"):
            self._append(name, getattr(poses, name))
        self._append("track_ids", np.full(people, _NO_TRACK) if poses.track_ids is None else poses.track_ids)
        # An optional array is as long as the people up to the last who has it; NaN stands for those who have not.
        for name in ("covariances", "raw_scores"):
            if getattr(poses, name) is not None and people:
                self._pad(name, self._rows["scores"] - people)
                self._append(name, getattr(poses, name))
        if frame.filled is not None and people:
            self._pad("filled", self._rows["scores"] - people)
            self._append("filled", frame.filled)

    def _append(self, name: str, rows: Any) -> None:
        dtype, _ = self._layout[name]
        array = np.ascontiguousarray(np.asarray(rows, dtype=dtype))
        self._parts[name].write(array.tobytes())
        self._rows[name] += len(array)

    def _pad(self, name: str, rows: int) -> None:
        dtype, shape = self._layout[name]
        missing = rows - self._rows[name]
        empty = np.full(shape, False if dtype is np.bool_ else np.nan, dtype=dtype).tobytes()
        for _ in range(missing):
            self._parts[name].write(empty)
        self._rows[name] = rows

    def _finish(self) -> None:
        for name in ("covariances", "raw_scores", "filled"):
            if self._rows[name]:
                self._pad(name, self._rows["scores"])
        with zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
            for name, text in (("skeleton", self._skeleton.name), ("model", self._model)):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.array(text), allow_pickle=False)
            longest = np.dtype(f"<U{max(map(len, self._images), default=1) or 1}")
            with archive.open("image.npy", "w", force_zip64=True) as file:
                _write_header(file, longest, (len(self._images),))
                for start in range(0, len(self._images), _NAMES_AT_ONCE):
                    file.write(np.array(self._images[start : start + _NAMES_AT_ONCE], dtype=longest).tobytes())
            for name, (dtype, shape) in self._layout.items():
                if self._rows[name] or name not in ("covariances", "raw_scores", "filled"):
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        _write_header(file, np.dtype(dtype), (self._rows[name], *shape))
                        self._parts[name].seek(0)
                        shutil.copyfileobj(self._parts[name], file)


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def read_npz(path: Path) -> Iterator[PoseFrame]:
    """Reads a file of ``NpzWriter``.

    Raises:
        AnnotationError: The file cannot be read or is no such file; the message names the array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        skeleton = get_skeleton(str(arrays["skeleton"]))
        people = arrays["people"]
        if (people < 0).any() or people.sum() != len(arrays["keypoints"]):
            raise ValueError(f"'people' adds up to {people.sum()}, and there are {len(arrays['keypoints'])}")
        ends = np.cumsum(people).tolist()
        model = str(arrays["model"])
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise AnnotationError(f"{path}: has no array {error}") from error
    except Exception as error:  # zipfile, zlib and NumPy's reader of headers raise a dozen types
        raise AnnotationError(f"{path}: not poses of wholepose: {error}") from error
    for row, end in enumerate(ends):
        try:
            yield _frame(arrays, row, slice(end - int(people[row]), end), skeleton, model)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise AnnotationError(f"{path}, frame {row}: {error}") from error


def _frame(arrays: dict[str, Any], row: int, rows: slice, skeleton: Skeleton, model: str) -> PoseFrame:
    optional = {}
    for name in ("covariances", "raw_scores"):
        values = arrays[name][rows] if name in arrays else None
        optional[name] = None if values is None or np.isnan(values).any() else values
    track_ids = arrays["track_ids"][rows]
    poses = Poses(
        keypoints=arrays["keypoints"][rows],
        scores=arrays["scores"][rows],
        boxes=arrays["boxes"][rows],
        box_scores=arrays["box_scores"][rows],
        skeleton=skeleton,
        track_ids=None if len(track_ids) and (track_ids == _NO_TRACK).all() else track_ids,
        **optional,
    )
    time_s = float(arrays["time_s"][row])
    height, width = arrays["size"][row].tolist()
    filled = arrays["filled"][rows] if "filled" in arrays else None
    return PoseFrame(
        frame_index=int(arrays["frame"][row]),
        time_s=None if np.isnan(time_s) else time_s,
        poses=poses,
        image=str(arrays["image"][row]),
        size=(height, width) if height and width else None,
        model=model,
        filled=filled if filled is not None and filled.any() else None,
    )
