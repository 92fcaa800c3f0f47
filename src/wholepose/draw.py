"""Poses drawn onto pictures, without a window: limbs in the colours of their side, sized by the person's box."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.poses import Poses
from wholepose.skeletons import Skeleton

Color = tuple[int, int, int]

# Line widths and joint radii as a share of the longer side of a person's box, for body, head, and face and hands.
_LINE_SHARES = np.array([0.011, 0.006, 0.0035])
_RADIUS_SHARES = np.array([0.010, 0.006, 0.0035])
_BODY, _HEAD, _FINE = range(3)
_OUTLINE: Color = (25, 25, 30)
_BOX: Color = (255, 255, 255)
_ELLIPSE_POINTS = 24
_SIGMAS_SHOWN = 2.0
_TRAIL_KEYPOINTS = ("nose", "left_wrist", "right_wrist", "left_ankle", "right_ankle")
_HEAD_TOP_NAMES = ("head", "head_top", "nose", "left_eye", "right_eye")
_SHIFT = 4  # OpenCV takes coordinates as integers, here in 1/16 pixel


@dataclass(frozen=True, eq=False)
class _Style:
    """What drawing needs of a skeleton, as arrays."""

    starts: NDArray[np.int64]  # (E,)
    ends: NDArray[np.int64]  # (E,)
    edge_colors: list[Color]
    edge_levels: NDArray[np.int64]  # (E,) _BODY, _HEAD or _FINE
    keypoint_colors: list[Color]
    keypoint_levels: NDArray[np.int64]  # (K,)


@lru_cache(maxsize=64)
def _style(skeleton: Skeleton) -> _Style:
    levels = np.full(skeleton.num_keypoints, _BODY)
    for part, indices in skeleton.parts.items():
        if part == "face" or part.endswith("hand"):
            levels[list(indices)] = _FINE
    for index, name in enumerate(skeleton.keypoint_names):
        if name in ("nose", "head", "head_top") or name.endswith(("_eye", "_ear")):
            levels[index] = _HEAD
    starts = np.array([edge.start for edge in skeleton.edges], dtype=np.int64)
    ends = np.array([edge.end for edge in skeleton.edges], dtype=np.int64)
    return _Style(
        starts=starts,
        ends=ends,
        edge_colors=[edge.color for edge in skeleton.edges],
        edge_levels=np.maximum(levels[starts], levels[ends]),
        keypoint_colors=[(int(red), int(green), int(blue)) for red, green, blue in skeleton.keypoint_colors],
        keypoint_levels=levels,
    )


def draw_poses(
    image: NDArray[np.uint8],
    poses: Poses,
    *,
    threshold: float = 0.3,
    show_boxes: bool = False,
    show_uncertainty: bool = False,
    show_ids: bool = False,
) -> NDArray[np.uint8]:
    """Draws people's keypoints and limbs onto a copy of a picture.

    The left side of a person is green, the right side red to orange, the middle violet; fingers have a colour each.
    Lines and joints grow with the person's box, those of faces and hands are finer. The first person lies on top.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        poses: The people, in pixels of this image; what lies outside it is cut off.
        threshold: Keypoints are drawn where their score is above this, limbs where both ends are.
        show_boxes: Draw each person's box too, with the track number where there is one, and the box's score.
        show_uncertainty: Draw about each keypoint the ellipse of two standard deviations, where the poses have
            covariances.
        show_ids: Write each person's track number above the head, where the poses have track numbers.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: The image is of another shape or dtype.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"draw_poses needs an (H, W, 3) uint8 RGB image, not {found}")
    canvas = np.array(image, order="C")
    if canvas.size == 0:
        return canvas
    for person in reversed(range(len(poses))):
        size = _size_px(poses, person, canvas)
        if show_boxes:
            _draw_box(canvas, poses, person, size)
        if show_uncertainty and poses.covariances is not None:
            _draw_uncertainty(canvas, poses, person, threshold)
        _draw_person(canvas, poses, person, size, threshold)
    if show_ids and poses.track_ids is not None and not show_boxes:  # boxes carry them too
        for person in range(len(poses)):
            _draw_id(canvas, poses, person, threshold)
    return canvas


class Trails:
    """Draws the paths that hands, feet and nose took, for people with track numbers.

    Args:
        frames: For how many frames a path stays.
        threshold: Places that score above this are on the path; where one is missing it has a gap.
        keypoint_names: Whose paths; None takes wrists, ankles and the nose. Names a skeleton lacks are passed over.

    Raises:
        ValueError: ``frames`` is below 1.
    """

    def __init__(self, frames: int, *, threshold: float = 0.3, keypoint_names: tuple[str, ...] | None = None) -> None:
        if frames < 1:
            raise ValueError(f"trails need at least 1 frame, not {frames}")
        self._threshold = threshold
        self._names = _TRAIL_KEYPOINTS if keypoint_names is None else keypoint_names
        self._seen: deque[Poses] = deque(maxlen=frames + 1)

    def draw(self, image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        """Draws the paths up to a frame onto a copy of it.

        Args:
            image: (H, W, 3) uint8 RGB; it is not changed.
            poses: The people of this frame, the next one after that of the last call.

        Returns:
            (H, W, 3) uint8 RGB, a new array.
        """
        self._seen.append(poses)
        canvas = np.array(image, order="C")
        if poses.track_ids is None or canvas.size == 0:
            return canvas
        indices = [poses.skeleton.index(name) for name in self._names if name in poses.skeleton.keypoint_names]
        colors = _style(poses.skeleton).keypoint_colors
        for person, track_id in enumerate(poses.track_ids.tolist()):
            width = max(1, round(_size_px(poses, person, canvas) * _LINE_SHARES[_HEAD]))
            places = self._places(track_id, indices)  # (T, P, 2)
            for column, index in enumerate(indices):
                path = places[:, column]
                step_known = np.isfinite(path[:-1] + path[1:]).all(axis=1)
                for step in np.flatnonzero(step_known).tolist():
                    _draw_path(canvas, path[step : step + 2], colors[index], width)
        return canvas

    def _places(self, track_id: int, indices: list[int]) -> NDArray[np.float64]:
        """Where a person's keypoints were in the frames remembered, (T, P, 2); NaN where they were not seen."""
        places = np.full((len(self._seen), len(indices), 2), np.nan)
        for row, poses in enumerate(self._seen):
            if poses.track_ids is None:
                continue
            for person in np.flatnonzero(poses.track_ids == track_id).tolist():
                shown = poses.scores[person, indices] > self._threshold
                places[row, shown] = poses.keypoints[person, indices][shown]
        return places


def _size_px(poses: Poses, person: int, canvas: NDArray[np.uint8]) -> float:
    """The longer side of a person's box, within what the canvas has room for."""
    box = poses.boxes[person].astype(np.float64)
    return float(np.clip(np.abs(box[2:] - box[:2]).max(), 1, np.hypot(*canvas.shape[:2])))


def _draw_person(canvas: NDArray[np.uint8], poses: Poses, person: int, size: float, threshold: float) -> None:
    style = _style(poses.skeleton)
    places = poses.keypoints[person].astype(np.float64)
    shown = poses.scores[person] > threshold
    widths = np.maximum(1, np.rint(_LINE_SHARES * size)).astype(np.int64)
    radii = np.maximum([1.0, 0.8, 0.6], _RADIUS_SHARES * size)
    outline = int(widths[_BODY] + 2) // 4  # none about lines of one pixel

    starts, ends, visible = _clip_segments(
        places[style.starts], places[style.ends], canvas.shape, 4.0 * int(widths[_BODY])
    )
    edges = np.flatnonzero(visible & shown[style.starts] & shown[style.ends])
    reach = radii[_BODY] + outline
    joints = np.flatnonzero(
        shown & ((places > -reach) & (places < np.array([canvas.shape[1], canvas.shape[0]]) + reach)).all(axis=1)
    )
    fixed_starts, fixed_ends = _fixed_point(starts), _fixed_point(ends)
    centers = dict(zip(joints.tolist(), _fixed_point(places[joints]), strict=True))

    # The body first, outlined as a whole, and what is fine on top of it.
    for levels in ((_BODY, _HEAD), (_FINE,)):
        lines = edges[np.isin(style.edge_levels[edges], levels)]
        discs = joints[np.isin(style.keypoint_levels[joints], levels)]
        for extra in (outline, 0) if outline and _BODY in levels else (0,):
            for edge in lines:
                color = _OUTLINE if extra else style.edge_colors[edge]
                width = int(widths[style.edge_levels[edge]]) + 2 * extra
                _line(canvas, fixed_starts[edge], fixed_ends[edge], color, width)
            for joint in discs:
                color = _OUTLINE if extra else style.keypoint_colors[joint]
                _disc(canvas, centers[joint], radii[style.keypoint_levels[joint]] + extra, color)


def _draw_uncertainty(canvas: NDArray[np.uint8], poses: Poses, person: int, threshold: float) -> None:
    assert poses.covariances is not None
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS + 1)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    values, vectors = np.linalg.eigh(poses.covariances[person].astype(np.float64))
    radii = _SIGMAS_SHOWN * np.sqrt(np.clip(values, 0, None))
    colors = _style(poses.skeleton).keypoint_colors
    for keypoint in np.flatnonzero(poses.scores[person] > threshold):
        ring = poses.keypoints[person, keypoint] + ((vectors[keypoint] * radii[keypoint]) @ circle).T
        _draw_path(canvas, ring, colors[keypoint])


def _draw_box(canvas: NDArray[np.uint8], poses: Poses, person: int, size: float) -> None:
    x1, y1, x2, y2 = (float(side) for side in poses.boxes[person])
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]])
    width = max(1, round(size * _LINE_SHARES[_FINE]))
    _draw_path(canvas, corners, _BOX, width)
    label = f"{poses.box_scores[person]:.2f}"
    if poses.track_ids is not None:
        label = f"#{poses.track_ids[person]} {label}"
    _draw_label(canvas, label, x1, y1, size)


def _draw_id(canvas: NDArray[np.uint8], poses: Poses, person: int, threshold: float) -> None:
    """Writes a track number above the head, or above the box where no head is seen."""
    assert poses.track_ids is not None
    x1, y1, x2, y2 = (float(side) for side in poses.boxes[person])
    size = float(np.clip(max(abs(x2 - x1), abs(y2 - y1)), 1, np.hypot(*canvas.shape[:2])))
    names = [name for name in _HEAD_TOP_NAMES if name in poses.skeleton.keypoint_names]
    heads = [poses.skeleton.index(name) for name in names]
    seen = [index for index in heads if poses.scores[person, index] > threshold]
    if seen:
        x1, y1 = (float(value) for value in poses.keypoints[person, seen][poses.keypoints[person, seen][:, 1].argmin()])
        y1 -= 0.03 * size
    _draw_label(canvas, f"#{poses.track_ids[person]}", x1, y1, size)


def _draw_label(canvas: NDArray[np.uint8], label: str, x: float, y: float, size: float) -> None:
    """Writes above a place where there is room, inside the picture in any case."""
    scale = float(np.clip(size / 600, 0.35, 1.5))
    (text_width, text_height), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = round(np.clip(x, 0, max(canvas.shape[1] - text_width, 0)))
    baseline = round(np.clip(y - below - 1, text_height + 1, max(canvas.shape[0] - below, text_height + 1)))
    top_left, bottom_right = (left, baseline - text_height - 2), (left + text_width, baseline + below)
    cv2.rectangle(canvas, top_left, bottom_right, _OUTLINE, cv2.FILLED)
    cv2.putText(canvas, label, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _BOX, 1, cv2.LINE_AA)


def _draw_path(canvas: NDArray[np.uint8], points: NDArray[np.float64], color: Color, width: int = 1) -> None:
    """A line through (M, 2) points."""
    starts, ends, visible = _clip_segments(points[:-1], points[1:], canvas.shape, 4 * width)
    for start, end in zip(_fixed_point(starts[visible]), _fixed_point(ends[visible]), strict=True):
        _line(canvas, start, end, color, width)


def _clip_segments(
    starts: NDArray[np.float64], ends: NDArray[np.float64], shape: tuple[int, ...], margin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Shortens segments (E, 2) to what lies in the picture or within a margin of it (after Liang and Barsky).

    OpenCV's integers overflow, and it crashes or draws nonsense, where a keypoint lies far away.
    """
    low, high = np.array([-margin, -margin]), np.array([shape[1] + margin, shape[0] + margin])
    step = ends - starts
    still = step == 0
    safe = np.where(still, 1.0, step)
    at_low, at_high = (low - starts) / safe, (high - starts) / safe
    enter = np.where(still, 0.0, np.minimum(at_low, at_high)).max(axis=1, initial=0.0)
    leave = np.where(still, 1.0, np.maximum(at_low, at_high)).min(axis=1, initial=1.0)
    visible = (enter <= leave) & (~still | ((starts >= low) & (starts <= high))).all(axis=1)
    enter, leave = np.where(visible, enter, 0.0)[:, None], np.where(visible, leave, 0.0)[:, None]
    clipped_starts = np.clip(starts + enter * step, low, high)
    clipped_ends = np.clip(starts + leave * step, low, high)
    return clipped_starts, clipped_ends, visible


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(points * (1 << _SHIFT)).astype(np.int64)


def _line(
    canvas: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], color: Color, width: int
) -> None:
    a, b = (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))
    cv2.line(canvas, a, b, color, width, cv2.LINE_AA, _SHIFT)


def _disc(canvas: NDArray[np.uint8], center: NDArray[np.int64], radius: float, color: Color) -> None:
    cv2.circle(
        canvas, (int(center[0]), int(center[1])), round(radius * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT
    )
