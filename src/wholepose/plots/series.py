"""What is plotted: numbers over time, by person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wholepose.angles import ANGLES, joint_angles
from wholepose.errors import ConfigError
from wholepose.formats import PoseFrame

MAX_PEOPLE = 8
"""So many are told apart by colour."""

_GAP_STEPS = 3
"""A line breaks where so many usual steps from frame to frame are left out: not all files have a place for nobody."""
_LEAST_SHARE = 0.1  # of the frames of the person seen most often: false alarms are shorter


@dataclass
class Series:
    """One line: the values of one person.

    Attributes:
        person: The track number; where there are none, the place in the frame.
        x: Seconds, or frame numbers where the frames have no time.
        y: As many values; NaN breaks the line.
    """

    person: int
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)


@dataclass
class Panel:
    """One chart.

    Attributes:
        title: What is shown, with its unit.
        series: A line a person, in the order of the numbers.
        x_title: Unit of time.
        downwards: Values grow downwards, as y does in a picture.
    """

    title: str
    series: list[Series]
    x_title: str
    downwards: bool = False


def collect_panels(
    frames: Iterable[PoseFrame],
    *,
    keypoints: Sequence[str] = (),
    angles: Sequence[str] = (),
    people: Sequence[int] | None = None,
    threshold: float = 0.3,
) -> list[Panel]:
    """Reads frames once and puts their numbers into charts.

    Args:
        frames: Such as ``read_poses_file`` gives.
        keypoints: Names of keypoints; x and y of each get a chart.
        angles: Names of ``wholepose.angles.ANGLES``; each gets a chart.
        people: Track numbers, ``MAX_PEOPLE`` at most; None takes those seen most often, without those seen for a moment
            only.
        threshold: Keypoints that score below this, or 0, are left out, and break the line.

    Raises:
        ConfigError: A keypoint, an angle or a person is not there; the message says which there are. Or there are
            too many people.
    """
    if people is not None and len(people) > MAX_PEOPLE:
        raise ConfigError(f"{len(people)} people cannot be told apart by colour; choose {MAX_PEOPLE} at most")
    for name in angles:
        if name not in ANGLES:
            raise ConfigError(f"unknown angle {name!r}; choose among {', '.join(ANGLES)}")
    titles = [f"{name} {axis} (px)" for name in keypoints for axis in ("x", "y")]
    titles += [f"{name} angle (°)" for name in angles]
    lines: dict[int, list[Series]] = {}  # of each person, one a panel
    seen: Counter[int] = Counter()
    indices: list[int] = []  # of the file's frames
    places: dict[int, list[int]] = {}  # of each person's points, among the frames
    timed = True
    for frame in frames:
        poses = frame.poses
        names = poses.skeleton.keypoint_names
        missing = next((name for name in keypoints if name not in names), None)
        if missing is not None:
            raise ConfigError(f"there is no keypoint {missing!r}; {poses.skeleton.name} has {', '.join(names)}")
        timed = timed and frame.time_s is not None
        time = float(frame.frame_index) if frame.time_s is None else frame.time_s
        numbers = list(range(len(poses))) if poses.track_ids is None else poses.track_ids.tolist()
        found = joint_angles(poses, threshold=threshold) if angles else {}
        known = poses.known(threshold)
        for row, number in enumerate(numbers):
            values = []
            for name in keypoints:
                place = names.index(name)
                values += [float(value) if known[row, place] else float("nan") for value in poses.keypoints[row, place]]
            values += [float(found[name][row]) for name in angles]
            own = lines.setdefault(number, [Series(number) for _ in titles])
            for series, value in zip(own, values, strict=True):
                series.x.append(time)
                series.y.append(value)
            seen[number] += 1
            places.setdefault(number, []).append(len(indices))
        indices.append(frame.frame_index)
    for number, own in lines.items():
        gaps = _gaps(places[number], indices)
        for series in own:
            series.x = np.insert(series.x, gaps, np.take(series.x, gaps)).tolist()
            series.y = np.insert(series.y, gaps, np.nan).tolist()
    often = [number for number, count in seen.most_common(MAX_PEOPLE) if count >= _LEAST_SHARE * max(seen.values())]
    chosen = sorted(often) if people is None else list(people)
    absent = [number for number in chosen if number not in lines]
    if absent:
        there = ", ".join(map(str, sorted(lines))) or "nobody"
        raise ConfigError(f"there is no person {absent[0]}; the file has {there}")
    return [
        Panel(
            title,
            [lines[number][index] for number in chosen],
            "time (s)" if timed else "frame",
            downwards=title.endswith(" y (px)"),
        )
        for index, title in enumerate(titles)
    ]


def _gaps(places: Sequence[int], indices: Sequence[int]) -> NDArray[np.int64]:
    """Before which points of a person there is a gap, (G,) int64.

    Args:
        places: Where each point's frame is among the frames.
        indices: The frames' own numbers.
    """
    usual = np.median(np.diff(indices)) if len(indices) > 1 else 1
    away = np.diff(places) > 1
    left_out = np.diff(np.array(indices)[list(places)]) > _GAP_STEPS * usual
    return np.flatnonzero(away | left_out).astype(np.int64) + 1
