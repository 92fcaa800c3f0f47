"""TRC: the marker file of biomechanics, one for each person, as OpenSim, Pose2Sim and Sports2D read it."""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import AnnotationError, ConfigError
from wholepose.formats.frame import LARGEST, PoseFrame, poses_of_keypoints, skeleton_of_names
from wholepose.formats.writer import PoseWriter
from wholepose.outputs import atomic_path
from wholepose.skeletons import Skeleton

_HEADER = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame")
_HEADER_LINES = 5
_USUAL_RATE = 30.0


class TrcWriter(PoseWriter):
    """One file a person: ``clip.trc`` becomes ``clip_person0.trc``, ``clip_person1.trc`` and so on, by track number.

    A file runs from the first frame to the last in which its person was seen, a row for each frame written and blanks
    where the person or a keypoint was not seen. Without a scale the coordinates are pixels of the picture; with one
    they are metres, and y points up from the lower edge of the frame, as OpenSim expects.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        skeleton: Skeleton,
        model: str,
        metres_per_pixel: float | None = None,
        threshold: float = 0.3,
    ) -> None:
        """Opens a temporary file.

        Args:
            path: The name to which the people's numbers are added.
            skeleton: Its keypoints are the markers.
            model: Not written: the format has no place for it.
            metres_per_pixel: Scale of the picture; None keeps pixels.
            threshold: A keypoint that scores below this is left blank.

        Raises:
            ConfigError: The scale is not a positive number.
            OSError: The folder is missing or may not be written to.
        """
        super().__init__(path, skeleton=skeleton, model=model)
        if metres_per_pixel is not None and not (math.isfinite(metres_per_pixel) and metres_per_pixel > 0):
            raise ConfigError(f"metres_per_pixel must be a positive number, not {metres_per_pixel}")
        self._scale = metres_per_pixel
        self._threshold = threshold
        self._record = np.dtype(
            [
                ("frame", "<i8"),
                ("track", "<i8"),
                ("xy", "<f4", (skeleton.num_keypoints, 2)),
            ]
        )
        self._frames, self._times = array("q"), array("d")  # of all frames, also of those without people
        folder = self.path.absolute().parent
        self._file = self._cleanup.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - closed at the end

    def _write(self, frame: PoseFrame) -> None:
        poses = frame.poses
        if poses.track_ids is None and len(poses) > 1:
            raise ConfigError(
                f"{frame.image or self.path}: TRC holds one person a file, and nothing tells who is who of these "
                f"{len(poses)}: track people, or keep one a picture (--max-people 1)"
            )
        if poses.track_ids is not None and len(np.unique(poses.track_ids)) < len(poses):
            raise ConfigError(f"{frame.image or self.path}: a track number comes twice in frame {frame.frame_index}")
        if self._scale is not None and len(poses) and not (frame.size and frame.size[0]):
            raise ConfigError(
                f"{frame.image or self.path}: metres need the height of the frame, to let y point up, and frame "
                f"{frame.frame_index} comes without"
            )
        self._frames.append(frame.frame_index)
        self._times.append(math.nan if frame.time_s is None else frame.time_s)
        records = np.zeros(len(poses), dtype=self._record)
        records["frame"] = frame.frame_index
        records["track"] = 0 if poses.track_ids is None else poses.track_ids
        places = poses.keypoints.astype(np.float64)
        if self._scale is not None and frame.size is not None:
            places = np.stack([places[..., 0], frame.size[0] - 1 - places[..., 1]], axis=-1) * self._scale
        records["xy"] = np.where(poses.known(self._threshold)[..., None], places, np.nan)
        self._file.write(records.tobytes())

    def _finish(self) -> None:
        written: set[Path] = set()
        self._file.flush()
        if size := os.fstat(self._file.fileno()).st_size:
            records = np.memmap(self._file, dtype=self._record, mode="r", shape=(size // self._record.itemsize,))
            tracks = np.array(records["track"])
            clock = _Clock(np.array(self._frames), np.array(self._times))
            with contextlib.ExitStack() as stack:  # all files or none
                for track_id in np.unique(tracks).tolist():
                    final = self.path.with_name(f"{self.path.stem}_person{track_id}{self.path.suffix}")
                    temporary = stack.enter_context(atomic_path(final))
                    with temporary.open("w", encoding="utf-8", newline="") as file:
                        self._write_person(file, final.name, records, np.flatnonzero(tracks == track_id), clock)
                    written.add(final)
        for old in set(_people_files(self.path)) - written:  # of an earlier run: they would be read as people of this
            old.unlink()

    def _write_person(self, file: TextIO, name: str, records: Any, chosen: NDArray[np.int64], clock: _Clock) -> None:
        seen = dict(zip(records["frame"][chosen].tolist(), chosen.tolist(), strict=True))
        frames, times = clock.rows(min(seen), max(seen))
        names = self._skeleton.keypoint_names
        rate, units = f"{clock.rate:.6g}", "px" if self._scale is None else "m"
        header = [rate, rate, len(frames), len(names), units, rate, int(frames[0]) + 1, len(frames)]
        lines = [
            f"PathFileType\t4\t(X/Y/Z)\t{name}",
            "\t".join((*_HEADER, "OrigNumFrames")),
            "\t".join(map(str, header)),
            "\t".join(["Frame#", "Time", *(f"{keypoint}\t\t" for keypoint in names)]),
            "\t\t" + "\t".join(f"X{marker}\tY{marker}\tZ{marker}" for marker in range(1, len(names) + 1)),
            "",
        ]
        file.write("".join(f"{line}\n" for line in lines))
        decimals = 3 if self._scale is None else 6
        for frame, time_s in zip(frames.tolist(), times.tolist(), strict=True):
            cells = ["\t\t"] * len(names)
            if frame in seen:
                cells = [
                    "\t\t" if math.isnan(x) else f"{x:.{decimals}f}\t{y:.{decimals}f}\t{0:.{decimals}f}"
                    for x, y in records[seen[frame]]["xy"].tolist()
                ]
            file.write("\t".join([str(frame + 1), f"{time_s:.6f}", *cells]) + "\n")


class _Clock:
    """When frames were.

    Args:
        frames: (F,) int64, the frames written, rising.
        times: (F,) float64 seconds; where one is not known, all are made up, 30 frames a second.
    """

    def __init__(self, frames: NDArray[np.int64], times: NDArray[np.float64]) -> None:
        self._frames = frames
        timed = bool(np.isfinite(times).all())
        self._times = times if timed else (frames - frames[0]) / _USUAL_RATE
        self._step = int(np.diff(frames).min()) if len(frames) > 1 else 1

    @property
    def rate(self) -> float:
        """Rows a second, in the mean over the video; 30 where that cannot be told."""
        took_s = float(self._times[-1] - self._times[0])
        return float(self._frames[-1] - self._frames[0]) / self._step / took_s if took_s > 0 else _USUAL_RATE

    def rows(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Frames (R,) and times (R,) from one frame written to another.

        Where frames were left out of the usual step, as by a file that knows nothing of frames without people, they
        are put in between.
        """
        written = self._frames[(self._frames >= first) & (self._frames <= last)]
        between = [
            np.arange(start, end, self._step if (end - start) % self._step == 0 else end - start)
            for start, end in pairwise(written.tolist())
        ]
        frames = np.concatenate([*between, written[-1:]])
        return frames, np.interp(frames, self._frames, self._times)


def _people_files(path: Path) -> list[Path]:
    """The files of all people under the name that ``TrcWriter`` was given."""
    pattern = re.compile(re.escape(path.stem) + r"_person(\d{1,18})" + re.escape(path.suffix), re.ASCII)
    return [file for file in path.parent.glob("*") if pattern.fullmatch(file.name)] if path.parent.is_dir() else []


def read_trc(path: Path, skeleton: Skeleton | None = None) -> Iterator[PoseFrame]:
    """Reads TRC files in pixels.

    Args:
        path: A file, or the name that ``TrcWriter`` was given: then all its people's files, put together.
        skeleton: What the markers are; by their names if None.

    Raises:
        AnnotationError: A file cannot be read, is malformed, or is not in pixels.
    """
    files = [path]
    if not path.exists():
        files = _people_files(path)
        if not files:
            raise AnnotationError(f"{path}: there is no such file, and no {path.stem}_personN{path.suffix} either")
    frames: dict[int, list[tuple[int, float, NDArray[np.float64]]]] = {}
    for number, file in enumerate(sorted(files)):
        match = re.search(r"_person(\d{1,18})$", file.stem, re.ASCII)
        track_id = int(match.group(1)) if match else number
        skeleton, rows = _read_file(file, skeleton)
        for frame_index, time_s, places in rows:
            frames.setdefault(frame_index, []).append((track_id, time_s, places))
    for frame_index in sorted(frames):
        people = sorted(frames[frame_index], key=lambda person: person[0])
        people = [person for person in people if not np.isnan(person[2]).all()]
        if skeleton is None:  # never: there is a file, and each has one
            return
        places = np.stack([person[2] for person in people]) if people else np.zeros((0, skeleton.num_keypoints, 2))
        blank: NDArray[np.bool_] = np.asarray(np.isnan(places).any(axis=2))
        keypoints = np.where(blank[..., None], 0.0, places)
        track_ids = np.array([person[0] for person in people], dtype=np.int64)
        poses = poses_of_keypoints(keypoints, 1.0 - blank, skeleton, track_ids=track_ids)
        yield PoseFrame(frame_index, frames[frame_index][0][1], poses)


def _read_file(file: Path, skeleton: Skeleton | None) -> tuple[Skeleton, list[tuple[int, float, NDArray[np.float64]]]]:
    """Frame indices, times and (K, 2) places, NaN where blank."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file}: not text: {error}") from error
    if len(lines) < _HEADER_LINES or not lines[0].startswith("PathFileType"):
        raise AnnotationError(
            f"{file}: not TRC: it must start with 'PathFileType' and have {_HEADER_LINES} header lines"
        )
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    if header.get("Units") != "px":
        raise AnnotationError(f"{file}: in units of {header.get('Units')!r}; only pixels, 'px', can be read as poses")
    names = tuple(name for name in lines[3].split("\t")[2:] if name)
    known = skeleton or skeleton_of_names(names)
    if known is None or names != known.keypoint_names:
        raise AnnotationError(f"{file}: markers {', '.join(names)[:120]} are not the keypoints of a known skeleton")
    rows = []
    for number, line in enumerate(lines[_HEADER_LINES:], start=_HEADER_LINES + 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        cells += [""] * (2 + 3 * len(names) - len(cells))
        try:
            values = np.array([float(cell) if cell else np.nan for cell in cells[2 : 2 + 3 * len(names)]])
            row = int(cells[0]) - 1, float(cells[1]), values.reshape(-1, 3)[:, :2]
            if not math.isfinite(row[1]) or row[0] < 0 or (np.abs(values) > LARGEST).any():
                raise ValueError("a number is out of range")
        except ValueError as error:
            raise AnnotationError(f"{file}, line {number}: {error}") from error
        rows.append(row)
    return known, rows
