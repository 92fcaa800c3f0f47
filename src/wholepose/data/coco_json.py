"""Reads the columns of a COCO keypoint document: COCO, Halpe, COCO-WholeBody and their like."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.problems import Problems, integer, number, numbers, show
from wholepose.skeletons import COCO17, COCO_WHOLEBODY133, HALPE26, HALPE136, SKELETONS, Skeleton

_BY_COUNT = {17: COCO17, 26: HALPE26, 133: COCO_WHOLEBODY133, 136: HALPE136}
"""Skeletons that the number of keypoints gives away where a category lists no names."""

POINT_FIELDS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
"""COCO-WholeBody's fields in the order of its 133 keypoints; all other sets have the first alone."""


@dataclass(frozen=True)
class RawAnnotations:
    """What a file says, in its own skeleton: the columns of ``AnnotationSet`` before conversion and clipping.

    Attributes:
        skeleton: The file's skeleton, K keypoints.
        category_id: The file's number for people.
        image_ids: (M,).
        image_names: M file names.
        image_sizes: (M, 2) (height, width); 0 where unknown.
        person_ids: (N,).
        image_rows: (N,) rows of the image columns.
        boxes_xywh: (N, 4).
        keypoints: (N, K, 2).
        visibility: (N, K).
        areas: (N,), NaN where missing.
        crowds: (N,).
        counts: (N,) ``num_keypoints``, -1 where missing.
        labelled: (K,) keypoints that the set labels at all.
        scored: (K,) keypoints that results are scored on.
        repeated_images: Entries dropped because they repeat an image word for word.
        repeated_people: Likewise for people.
        suspects: (N,) entries with ``suspect_left_right``.
    """

    skeleton: Skeleton
    category_id: int
    image_ids: NDArray[np.int64]
    image_names: tuple[str, ...]
    image_sizes: NDArray[np.int64]
    person_ids: NDArray[np.int64]
    image_rows: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
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


def parse(document: Mapping[str, Any], source_skeleton: Skeleton | None, problems: Problems) -> RawAnnotations:
    """Reads a COCO document.

    Args:
        document: The parsed JSON.
        source_skeleton: Its skeleton, or None to find out.
        problems: Where faults are noted.

    Returns:
        The columns.

    Raises:
        AnnotationError: The document has faults.
    """
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for name in ("images", "annotations", "categories"):
        tables[name] = _table(document, name, problems)
    problems.check()
    category_id, names = _category(tables["categories"], tables["annotations"], problems)
    image_rows, image_names, sizes, repeated = _images(tables["images"], problems)
    people, entries, repeated_people = _of_category(tables["annotations"], category_id, problems)
    wholebody = any("face_kpts" in row or "lefthand_kpts" in row for row in people)
    skeleton, order = _skeleton(names, people, wholebody, source_skeleton, problems)
    problems.check()

    person_ids, person_images, boxes, areas, crowds, counts = _people(people, entries, image_rows, problems)
    if wholebody:
        parts = [_valid_points(people, entries, field, size, problems) for field, size in POINT_FIELDS.items()]
        points = np.concatenate(parts, axis=1)
    else:
        points = _points(people, entries, "keypoints", len(order), problems)
    labelled, scored = _labelled(document.get("info"), skeleton, points[..., 2], order, problems)
    problems.check()
    placed = np.zeros((len(people), skeleton.num_keypoints, 3))
    placed[:, order] = points
    return RawAnnotations(
        skeleton=skeleton,
        category_id=category_id,
        image_ids=np.array(list(image_rows), dtype=np.int64),
        image_names=image_names,
        image_sizes=sizes,
        person_ids=person_ids,
        image_rows=person_images,
        boxes_xywh=boxes,
        keypoints=placed[..., :2].astype(np.float32),
        visibility=placed[..., 2].astype(np.float32),
        areas=areas,
        crowds=crowds,
        counts=counts,
        labelled=labelled,
        scored=scored,
        repeated_images=repeated,
        repeated_people=repeated_people,
        suspects=np.array([bool(row.get("suspect_left_right")) for row in people], dtype=np.bool_),
    )


def without_keypoints(document: Mapping[str, Any]) -> dict[str, Any]:
    """A COCO document as a detector's labels: its people have boxes alone."""
    people = document.get("annotations")
    if not isinstance(people, list):
        return dict(document)
    known = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
    plain = [
        {**{name: value for name, value in row.items() if name in known}, "num_keypoints": 0}
        if isinstance(row, dict)
        else row
        for row in people
    ]
    categories = document.get("categories")
    if isinstance(categories, list):
        categories = [
            {name: value for name, value in each.items() if name not in ("keypoints", "skeleton")}
            if isinstance(each, dict)
            else each
            for each in categories
        ]
    return {**document, "annotations": plain, "categories": categories}


def _table(document: Mapping[str, Any], name: str, problems: Problems) -> list[Mapping[str, Any]]:
    table = document.get(name)
    if not isinstance(table, list):
        wrong = "missing" if name not in document else f"must be a list, not {show(table)}"
        problems.add("document", name, f"{wrong}; a COCO keypoint file has images, annotations and categories")
        return []
    for position, row in enumerate(table):
        if not isinstance(row, dict):
            problems.add(f"{name}[{position}]", "entry", f"must be an object, not {show(row)}")
    return table


def _of_category(
    table: Sequence[Mapping[str, Any]], category_id: int, problems: Problems
) -> tuple[list[Mapping[str, Any]], list[str], int]:
    """The people, what messages call them, and how many more repeated one of them word for word."""
    people, entries, repeated = [], [], 0
    first: dict[object, Mapping[str, Any]] = {}
    for position, row in enumerate(table):
        key = row.get("id")
        entry = f"annotation {position} (id {show(key)})"
        if "category_id" in row and integer(row, "category_id", entry, problems) != category_id:
            continue
        if isinstance(key, int) and first.setdefault(key, row) is not row and first[key] == row:
            repeated += 1
            continue
        people.append(row)
        entries.append(entry)
    return people, entries, repeated


def _category(
    categories: Sequence[Mapping[str, Any]], people: Sequence[Mapping[str, Any]], problems: Problems
) -> tuple[int, tuple[str, ...]]:
    """Id and keypoint names of the category that is labelled with keypoints."""
    if not categories:
        problems.add("document", "categories", "is empty; it must hold the category of people")
        return 0, ()
    named = [row for row in categories if row.get("name") == "person"]
    with_keypoints = [row for row in categories if row.get("keypoints")]
    chosen = next((rows[0] for rows in (named, with_keypoints, categories) if len(rows) == 1), None)
    if chosen is None:
        problems.add("document", "categories", f"has {len(categories)} entries; exactly one must be called 'person'")
        return 0, ()
    category_id = integer(chosen, "id", f"category {show(chosen.get('name'))}", problems)
    names = chosen.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(f"category {show(chosen.get('name'))}", "keypoints", f"must be a list of names, not {show(names)}")
        names = []
    if people and category_id is not None and all(row.get("category_id", category_id) != category_id for row in people):
        problems.add("document", "category_id", f"no annotation is of category {category_id}, 'person'")
    return (0 if category_id is None else category_id), tuple(names)


def _skeleton(
    names: tuple[str, ...],
    people: Sequence[Mapping[str, Any]],
    wholebody: bool,
    given: Skeleton | None,
    problems: Problems,
) -> tuple[Skeleton, NDArray[np.int64]]:
    """The file's skeleton, and where in it each of the file's keypoints belongs."""
    count = len(names)
    if not count:
        lists = (row["keypoints"] for row in people if isinstance(row.get("keypoints"), (list, array)))
        count = len(next(lists, ())) // 3
    if given is not None:
        skeleton: Skeleton | None = given
    elif wholebody:
        skeleton = COCO_WHOLEBODY133
    elif names:
        skeleton = next((known for known in SKELETONS.values() if known.keypoint_names == names), None)
        unknown = [name for name in names if name not in HALPE136.keypoint_names]
        if skeleton is None and not unknown and len(set(names)) == count:
            return HALPE136, np.array([HALPE136.index(name) for name in names], dtype=np.int64)
        if skeleton is None:
            problems.add(
                "category 'person'",
                "keypoints",
                f"{count} names that are no known skeleton's ({', '.join(SKELETONS)}); "
                f"not known to Halpe either: {', '.join(map(repr, unknown[:3])) or 'none, but one is repeated'}",
            )
    else:
        # A file without people or names says nothing; the training skeleton holds no people as well as any other.
        skeleton = _BY_COUNT.get(count, None if people else HALPE136)
        if skeleton is None:
            problems.add(
                "category 'person'",
                "keypoints",
                f"lists no names, and no known skeleton has {count} keypoints (only {', '.join(map(str, _BY_COUNT))})",
            )
    if skeleton is None:
        return HALPE136, np.arange(0)
    return skeleton, np.arange(skeleton.num_keypoints)


def _images(
    table: Sequence[Mapping[str, Any]], problems: Problems
) -> tuple[dict[int, int], tuple[str, ...], NDArray[np.int64], int]:
    """Row of each image id, names, sizes, and how many entries were repetitions."""
    rows: dict[int, int] = {}
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    repeated = 0
    for position, row in enumerate(table):
        entry = f"image {position} (id {show(row.get('id'))})"
        image_id = integer(row, "id", entry, problems)
        name = row.get("file_name")
        if not isinstance(name, str) or not name or "\0" in name:
            problems.add(entry, "file_name", f"must be a name, not {show(name)}" if "file_name" in row else "missing")
            name = ""
        height = integer(row, "height", entry, problems, minimum=1)
        width = integer(row, "width", entry, problems, minimum=1)
        if image_id is None or height is None or width is None:
            continue
        if image_id not in rows:
            rows[image_id] = len(names)
            names.append(name)
            sizes.append((height, width))
        elif (names[rows[image_id]], sizes[rows[image_id]]) == (name, (height, width)):
            repeated += 1  # the Halpe training file repeats whole entries; they say nothing new
        else:
            problems.add(entry, "id", f"also belongs to {names[rows[image_id]]!r}, another image")
    return rows, tuple(names), np.array(sizes, dtype=np.int64).reshape(-1, 2), repeated


def _people(
    people: Sequence[Mapping[str, Any]], entries: Sequence[str], image_rows: Mapping[int, int], problems: Problems
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.int64],
]:
    """Ids, image rows, boxes, areas, crowd flags and keypoint counts."""
    size = len(people)
    ids, images = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    boxes, areas = np.zeros((size, 4)), np.full(size, np.nan)
    crowds, counts = np.zeros(size, dtype=np.bool_), np.full(size, -1, dtype=np.int64)
    seen: dict[int, int] = {}
    for index, (row, entry) in enumerate(zip(people, entries, strict=True)):
        person_id = integer(row, "id", entry, problems)
        if person_id is not None:
            first = seen.setdefault(person_id, index)
            if first != index:
                problems.add(entry, "id", f"also belongs to {entries[first]}; ids must differ")
            ids[index] = person_id
        image_id = integer(row, "image_id", entry, problems)
        if image_id is not None and image_id not in image_rows:
            problems.add(entry, "image_id", f"no image has the id {image_id}")
        elif image_id is not None:
            images[index] = image_rows[image_id]
        box = numbers(row, "bbox", 4, entry, problems)
        if box is not None:
            if box[2] < 0 or box[3] < 0:
                problems.add(entry, "bbox", f"width and height must not be negative: {show(box)} (x, y, width, height)")
            boxes[index] = box
        if row.get("area") is not None:
            area = number(row, "area", entry, problems, minimum=0)
            areas[index] = np.nan if area is None else area
        if isinstance(row.get("iscrowd"), bool):  # as COCO Annotator writes it
            crowds[index] = row["iscrowd"]
        elif row.get("iscrowd") is not None:
            crowds[index] = bool(integer(row, "iscrowd", entry, problems, minimum=0))
        if row.get("num_keypoints") is not None:
            count = integer(row, "num_keypoints", entry, problems, minimum=0)
            counts[index] = -1 if count is None else count
    return ids, images, boxes, areas, crowds, counts


def _points(
    people: Sequence[Mapping[str, Any]], entries: Sequence[str], field: str, count: int, problems: Problems
) -> NDArray[np.float64]:
    """(N, count, 3) of x, y and visibility; zeros where nothing is labelled."""
    nobody = [0] * (3 * count)
    rows = []
    for row, entry in zip(people, entries, strict=True):
        values = row.get(field)
        if values is None and _needs_no_keypoints(row):
            values = nobody
        elif not isinstance(values, (list, array)) or len(values) != len(nobody):
            numbers(row, field, len(nobody), entry, problems)
            values = nobody
        rows.append(values)
    if not rows or not count:
        return np.zeros((len(rows), count, 3))
    try:
        table = np.array(rows)
    except (ValueError, OverflowError):  # a list among the numbers
        table = np.array(None)
    if table.dtype.kind not in "iuf" or not (np.abs(table) <= 1e15).all():
        cleaned = [
            numbers({field: values}, field, len(nobody), entry, problems) or nobody
            for values, entry in zip(rows, entries, strict=True)
        ]
        table = np.array(cleaned, dtype=np.float64)
    points = table.astype(np.float64, copy=False).reshape(len(rows), count, 3)
    for index, keypoint in np.argwhere(points[..., 2] < 0):
        value = points[index, keypoint, 2]
        problems.add(entries[index], f"{field}[{3 * keypoint + 2}]", f"visibility must not be negative: {value:g}")
    return points


def _needs_no_keypoints(row: Mapping[str, Any]) -> bool:
    """Whether an entry is a crowd, or a person with a box or an outline alone."""
    if row.get("iscrowd") or row.get("num_keypoints") == 0:
        return True
    return not any(name in row for name in ("num_keypoints", *POINT_FIELDS))


def _valid_points(
    people: Sequence[Mapping[str, Any]], entries: Sequence[str], field: str, count: int, problems: Problems
) -> NDArray[np.float64]:
    """A field of COCO-WholeBody; a part that its ``*_valid`` flag calls unclear is not labelled.

    The set's own fractions of visibility are no doubts: by its format every keypoint above 0 is reliable.
    """
    points = _points(people, entries, field, count, problems)
    flag = field.replace("_kpts", "_valid")
    if flag != field:
        unclear = np.array([row.get(flag, True) is False for row in people], dtype=np.bool_)
        points[unclear] = 0
    visibility = points[..., 2]
    visibility[(visibility > 0) & (visibility < 1)] = 1
    return points


def _labelled(
    info: object, skeleton: Skeleton, visibility: NDArray[np.float64], order: NDArray[np.int64], problems: Problems
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(K,) keypoints that the set labels, and (K,) those that results are scored on.

    Both are what the set declares. Where it declares nothing, it labels what at least one person has, and is scored on
    all that it has a place for, as the COCO evaluation does.
    """
    labelled = np.zeros(skeleton.num_keypoints, dtype=np.bool_)
    scored = np.zeros(skeleton.num_keypoints, dtype=np.bool_)
    declared = info.get("labelled_keypoints") if isinstance(info, dict) else None
    if declared is None:
        labelled[order] = (visibility > 0).any(axis=0)
        scored[order] = True
    elif not isinstance(declared, list) or not all(
        isinstance(index, int) and 0 <= index < len(order) for index in declared
    ):
        wrong = f"must list keypoint indices below {len(order)}, not {show(declared)}"
        problems.add("info", "labelled_keypoints", wrong)
    else:
        labelled[order[np.array(declared, dtype=np.int64)]] = True
        scored = labelled
    return labelled, scored
