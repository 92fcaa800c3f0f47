"""Keypoint annotations as columns of NumPy arrays, read from COCO, Halpe, COCO-WholeBody and MPII files.

Convention:
    Keypoints and boxes are pixels of the stored image, x right and y down, the centre of the first pixel at (0, 0).
    Boxes are xyxy.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from array import array
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data import coco_json, mpii_json
from wholepose.data.problems import Problems, show
from wholepose.errors import AnnotationError
from wholepose.geometry import Protocol
from wholepose.skeletons import COCO17, HALPE136, Skeleton, conversion

MISSING_IMAGES_LIMIT = 0.01
"""Share of an annotation file's images that may be absent before nothing is done with the rest."""


@dataclass(frozen=True, eq=False, repr=False)
class AnnotationSet:
    """The people of one annotation file, N of them on M images, with K keypoints each.

    Attributes:
        path: The annotation file.
        skeleton: The skeleton of ``keypoints``.
        source_skeleton: The skeleton that the file is labelled in.
        category_id: The file's number for people; a results file repeats it.
        image_ids: (M,) int64, distinct.
        image_files: M paths: the folder of images joined with the file's names.
        image_sizes: (M, 2) int64 (height, width) as the file states them.
        person_ids: (N,) int64 annotation ids, distinct.
        image_rows: (N,) int64 row of each person's image in the image columns.
        boxes: (N, 4) float64 xyxy, clipped to the image; without area where nothing of the box is inside.
        file_boxes: (N, 4) float64 xyxy as the file has them.
        keypoints: (N, K, 2) float32.
        visibility: (N, K) float32: 0 not labelled, 1 labelled but hidden, 2 visible; Halpe also uses fractions, as a
            degree of doubt. The keypoint is (0, 0) where it is 0.
        areas: (N,) float64 px^2 as the file has them, NaN where it has none.
        crowds: (N,) bool: the entry is a group that nobody could tell apart.
        counts: (N,) int64, the file's own ``num_keypoints``, in which Halpe and COCO-WholeBody count only 17
            keypoints. Counted from ``visibility`` where the file has none.
        labelled: (K,) bool: the keypoints that the set labels at all. The rest say nothing about anybody.
        scored: (K,) bool: the keypoints that results are scored on: those that the file declares
            (``info.labelled_keypoints``), else all that it has a place for.
        repeated_images: How many entries of the file repeated an image word for word; they are dropped.
        repeated_people: Likewise for people.
        suspects: (N,) bool: the file itself doubts that left and right are right (``suspect_left_right``).
    """

    path: Path
    skeleton: Skeleton
    source_skeleton: Skeleton
    category_id: int
    image_ids: NDArray[np.int64]
    image_files: tuple[Path, ...]
    image_sizes: NDArray[np.int64]
    person_ids: NDArray[np.int64]
    image_rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    file_boxes: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    visibility: NDArray[np.float32]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    counts: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    repeated_images: int
    repeated_people: int
    suspects: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __len__(self) -> int:
        """How many people there are."""
        return len(self.person_ids)

    def __repr__(self) -> str:
        size = f"{len(self)} people on {len(self.image_ids)} images"
        return f"<AnnotationSet {self.path.name}: {size}, {self.skeleton.name}>"

    @property
    def person_image_ids(self) -> NDArray[np.int64]:
        """(N,) int64: the id of each person's image."""
        return self.image_ids[self.image_rows]

    def select(self, people: NDArray[np.bool_] | NDArray[np.integer]) -> AnnotationSet:
        """Keeps some people and every image.

        Args:
            people: (N,) bool mask, or indices in the order wanted.

        Returns:
            A new set.
        """
        chosen = {name: getattr(self, name)[people] for name in _PERSON_COLUMNS}
        return replace(self, **chosen)

    def in_sight(self) -> NDArray[np.bool_]:
        """(N,) bool: people some of whose box is on the image."""
        return np.asarray((self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1))

    def trainable(self) -> NDArray[np.bool_]:
        """(N,) bool: people to train on: not a crowd, with an area, a box on the image and a labelled keypoint."""
        has_area = ~(self.areas <= 0)  # an area that the file leaves out (NaN) is no reason to drop anybody
        return ~self.crowds & has_area & self.in_sight() & (self.visibility > 0).any(axis=1)

    def miscounted(self) -> NDArray[np.bool_]:
        """(N,) bool: people with labelled keypoints whom the file says to have none, and who are thus not scored.

        Only files of COCO's own 17 keypoints are believed in this, see :func:`wholepose.evaluation.selection.select`.
        """
        believed = self.source_skeleton is COCO17
        return np.asarray(~self.crowds & (self.counts == 0) & (self.visibility > 0).any(axis=1) & believed)


_PERSON_COLUMNS = (
    "person_ids",
    "image_rows",
    "boxes",
    "file_boxes",
    "keypoints",
    "visibility",
    "areas",
    "crowds",
    "counts",
    "suspects",
)


def read_annotations(
    path: str | Path,
    *,
    images: str | Path | None = None,
    skeleton: Skeleton | None = None,
    source_skeleton: Skeleton | None = None,
    protocol: Protocol = "default",
    boxes_only: bool = False,
) -> AnnotationSet:
    """Reads and checks an annotation file.

    Understood are COCO keypoint files in any skeleton that the package knows, Halpe, COCO-WholeBody with its split
    fields (``foot_kpts``, ``face_kpts``, ``lefthand_kpts``, ``righthand_kpts`` and their ``*_valid``), and MPII in the
    list form of the HRNet release. A category that lists other names than a known skeleton's is understood when Halpe
    has every one of them, in any order.

    Args:
        path: The JSON file.
        images: Folder that the file's image names start from; the file's own folder when None.
        skeleton: Convert the keypoints to this one, by exact equivalents only: a keypoint that the file's skeleton
            lacks is not labelled. None keeps the file's skeleton.
        source_skeleton: The file's skeleton, where the file does not say it well enough.
        protocol: How boxes are clipped. ``"mmpose0"`` ends them at the last pixel's index and keeps the width of a box
            that starts outside, as the reference does; the default cuts off what is outside.
        boxes_only: Pass over the keypoints of a COCO document, which then need not be there: nothing is labelled.

    Returns:
        The people, in the file's order.

    Raises:
        AnnotationError: The file is unreadable or malformed; the message lists the first 20 problems with id and field.
    """
    path = Path(path)
    document = load_json(path)
    folder = path.parent if images is None else Path(images)
    problems = Problems(path)
    if isinstance(document, list):
        raw = mpii_json.parse(document, folder, problems)
    elif isinstance(document, dict):
        if boxes_only:
            document, source_skeleton = coco_json.without_keypoints(document), HALPE136
        raw = coco_json.parse(document, source_skeleton, problems)
    else:
        raise AnnotationError(
            f"{path}: holds {show(document)}; expected a COCO document (an object with images, annotations and "
            "categories) or MPII's list of people"
        )
    target = raw.skeleton if skeleton is None else skeleton
    keypoints, visibility, labelled, scored = _convert(raw, target)
    starts, sides = raw.boxes_xywh[:, :2], raw.boxes_xywh[:, 2:]
    file_boxes = np.concatenate([starts, starts + sides], axis=1)
    return AnnotationSet(
        path=path,
        skeleton=target,
        source_skeleton=raw.skeleton,
        category_id=raw.category_id,
        image_ids=raw.image_ids,
        image_files=tuple(folder / name for name in raw.image_names),
        image_sizes=raw.image_sizes,
        person_ids=raw.person_ids,
        image_rows=raw.image_rows,
        boxes=_clip(file_boxes, raw.image_sizes[raw.image_rows], protocol),
        file_boxes=file_boxes,
        keypoints=keypoints,
        visibility=visibility,
        areas=raw.areas,
        crowds=raw.crowds,
        counts=np.where(raw.counts >= 0, raw.counts, (raw.visibility > 0).sum(axis=1)),
        labelled=labelled,
        scored=scored,
        repeated_images=raw.repeated_images,
        repeated_people=raw.repeated_people,
        suspects=raw.suspects,
    )


def missing_images(annotations: AnnotationSet) -> NDArray[np.int64]:
    """Rows of the images that are not on the disk: (missing,) int64."""
    files = enumerate(annotations.image_files)
    # Unlike Path.is_file, this answers for names that are too long for the disk, such as a picture as a data: URI.
    return np.array([row for row, file in files if not os.path.isfile(file)], dtype=np.int64)  # noqa: PTH113


def without_missing_images(annotations: AnnotationSet, limit: float = MISSING_IMAGES_LIMIT) -> AnnotationSet:
    """Leaves out the people of images that are not on the disk.

    Args:
        annotations: What to look through.
        limit: The share of images that may be missing.

    Returns:
        The same set, without those people.

    Raises:
        AnnotationError: More than that share is missing; the message lists the first 20 of them.
    """
    rows = missing_images(annotations)
    total = len(annotations.image_files)
    if len(rows) > limit * total:
        listed = [str(annotations.image_files[row]) for row in rows[:20]]
        more = [f"... and {len(rows) - len(listed)} more"] if len(rows) > len(listed) else []
        title = (
            f"{annotations.path}: {len(rows)} of {total} images are missing (at most {limit:.0%} may be); "
            "name the folder that its file names start from, or fetch the rest:"
        )
        raise AnnotationError("\n  ".join([title, *listed, *more]))
    return annotations.select(~np.isin(annotations.image_rows, rows)) if len(rows) else annotations


def load_json(path: Path) -> Any:
    """Reads a JSON document; lists of keypoints come as packed arrays.

    Raises:
        AnnotationError: The file cannot be read or is not JSON.
    """
    # Garbage collection looks again and again at the millions of lists that a large file makes; none is garbage.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return json.load(stream, object_hook=_compact)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        end = " (the file may be cut short)" if error.pos >= len(error.doc.rstrip()) - 1 else ""
        raise AnnotationError(f"{path}: is not JSON: {error}{end}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, absurd numbers, brackets without end
        raise AnnotationError(f"{path}: is not JSON: {error}") from error
    finally:
        if collecting:
            gc.enable()


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    """Packs the long lists of numbers as they come, to an eighth of their memory, and drops outlines, unused here."""
    row.pop("segmentation", None)
    for field in coco_json.POINT_FIELDS:
        values = row.get(field)
        if values and isinstance(values, list):
            with contextlib.suppress(TypeError, OverflowError):  # not numbers: the checks say where
                row[field] = array("d", values)
    return row


def _convert(
    raw: coco_json.RawAnnotations, target: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Keypoints, visibility, labelled and scored masks of the target skeleton, by exact equivalents only."""
    keypoints, visibility, labelled, scored = raw.keypoints, raw.visibility, raw.labelled, raw.scored
    if target.name != raw.skeleton.name:
        table = conversion(raw.skeleton, target, exact=True)
        keypoints = table.apply_to_keypoints(keypoints).astype(np.float32)
        visibility = table.apply_to_scores(visibility).astype(np.float32)
        labelled, scored = (table.apply_to_scores(mask.astype(np.float32)) > 0 for mask in (labelled, scored))
    visibility = np.where(labelled, visibility, np.float32(0))
    return np.where(visibility[..., None] > 0, keypoints, np.float32(0)), visibility, labelled, scored


def _clip(boxes: NDArray[np.float64], sizes: NDArray[np.int64], protocol: Protocol) -> NDArray[np.float64]:
    """Clips (N, 4) boxes to images of (N, 2) sizes; a size of 0 is not known."""
    limits = np.where(sizes > 0, sizes, np.inf)[:, ::-1]  # (N, 2) as (width, height)
    if protocol == "mmpose0":
        start = np.maximum(boxes[:, :2], 0)
        end = np.minimum(start + (boxes[:, 2:] - boxes[:, :2]), limits - 1)
        return np.concatenate([start, end], axis=1)
    return np.clip(boxes, 0, np.concatenate([limits, limits], axis=1))
