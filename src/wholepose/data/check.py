"""What an annotation file holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet, missing_images
from wholepose.data.augment import LABELLED_VISIBILITY
from wholepose.errors import ImageError
from wholepose.images import read_header
from wholepose.skeletons import Skeleton

VISIBILITY_CLASSES = (
    "0 not labelled",
    f"(0, {LABELLED_VISIBILITY}) too unsure to train on",
    f"[{LABELLED_VISIBILITY}, 1) fraction",
    "1 hidden",
    "(1, 2) fraction",
    "2 visible",
    "above 2",
)

# Lines from the person's right to the left that a body cannot turn against each other by much, first and second end.
_RIGHT_TO_LEFT = {
    "shoulders": ("right_shoulder", "left_shoulder"),
    "hips": ("right_hip", "left_hip"),
    "eyes": ("right_eye", "left_eye"),
    "ears": ("right_ear", "left_ear"),
    "outer eye corners": ("face-36", "face-45"),
}
_SAME_WAY = (("shoulders", "hips"), ("eyes", "ears"), ("outer eye corners", "eyes"))
_OPPOSITE_COSINE = -0.5
_OUTSIDE_PX = 1.0


@dataclass(frozen=True)
class DataReport:
    """What ``check_annotations`` found.

    Attributes:
        path: The annotation file.
        skeleton: Name of the skeleton it is labelled in.
        images: Distinct images.
        images_with_people: Those that somebody is annotated on.
        people: Annotated people.
        crowds: Groups among them.
        without_keypoints: People without any labelled keypoint.
        trainable: People who can be trained on.
        labelled_keypoints: How many of the skeleton's keypoints the set labels at all.
        mean_labelled: Mean number of labelled keypoints of a trainable person.
        visibility: How many keypoints of all people have a visibility in each class.
        repeated_images: Image entries that repeat another word for word.
        repeated_people: Person entries that repeat another word for word.
        shared_files: Files that several image ids point to.
        miscounted: People with labelled keypoints beside a ``num_keypoints`` of 0, whom an evaluation leaves out.
        repeated_boxes: People with the same box on the same image as an earlier one.
        boxes_outside: People whose box lies outside the image altogether.
        keypoints_outside: Labelled keypoints more than a pixel outside the image.
        suspect_left_right: People whose left and right look exchanged, by the file's own word or by lines that point
            opposite ways (shoulders and hips, eyes and ears).
        missing_images: Images that are not on the disk.
        wrong_images: Images that cannot be read or have another size.
        problems: What must be mended before training, a line each; the rest of the report is for looking at.
    """

    path: str
    skeleton: str
    images: int
    images_with_people: int
    people: int
    crowds: int
    without_keypoints: int
    trainable: int
    labelled_keypoints: int
    mean_labelled: float
    visibility: Mapping[str, int]
    repeated_images: int
    repeated_people: int
    shared_files: int
    miscounted: int
    repeated_boxes: int
    boxes_outside: int
    keypoints_outside: int
    suspect_left_right: int
    missing_images: int
    wrong_images: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as a table, a line each."""
        rows = {
            "file": f"{self.path} ({self.skeleton})",
            "images": f"{self.images}, {self.images_with_people} with people",
            "people": f"{self.people}, of them {self.trainable} to train on, {self.crowds} crowds, "
            f"{self.without_keypoints} without keypoints",
            "keypoints": f"{self.labelled_keypoints} kinds labelled, {self.mean_labelled:.1f} a trainable person",
            **{f"  visibility {name}": str(count) for name, count in self.visibility.items() if count},
            "repeated entries": f"{self.repeated_images} images, {self.repeated_people} people (read once)",
            "files with several ids": str(self.shared_files),
            "labelled, but num_keypoints is 0": str(self.miscounted),
            "repeated boxes": str(self.repeated_boxes),
            "outside the picture": f"{self.boxes_outside} boxes, {self.keypoints_outside} keypoints",
            "suspicious left/right": str(self.suspect_left_right),
            "missing images": str(self.missing_images),
            "unreadable or resized": str(self.wrong_images),
        }
        return [f"{name:<50} {text}" for name, text in rows.items()]


def check_annotations(annotations: AnnotationSet) -> DataReport:
    """Counts and examines a set; reads its pictures' files through, but does not look at pixels.

    Args:
        annotations: The set, which reading has already found well formed.

    Returns:
        The report.
    """
    missing = missing_images(annotations)
    wrong = _wrong_images(annotations, set(missing.tolist()))
    problems = [f"{annotations.image_files[row]}: missing" for row in missing] + wrong
    outside = ~annotations.in_sight()
    has_box = np.asarray((annotations.file_boxes[:, 2:] > annotations.file_boxes[:, :2]).all(axis=1))
    for row in np.flatnonzero(outside & ~annotations.crowds & (annotations.visibility > 0).any(axis=1)):
        box = annotations.file_boxes[row].round(1).tolist()
        why = "is outside the image" if has_box[row] else "has no area"
        problems.append(f"annotation id {annotations.person_ids[row]}: labelled, but its box {box} {why}")
    trainable = annotations.trainable()
    if not trainable.any():
        problems.append(f"{annotations.path}: nobody can be trained on: no person with an area and a labelled keypoint")
    labelled = annotations.visibility > 0
    files = annotations.image_files
    return DataReport(
        path=str(annotations.path),
        skeleton=annotations.source_skeleton.name,
        images=len(files),
        images_with_people=len(np.unique(annotations.image_rows)),
        people=len(annotations),
        crowds=int(annotations.crowds.sum()),
        without_keypoints=int((~labelled.any(axis=1)).sum()),
        trainable=int(trainable.sum()),
        labelled_keypoints=int(annotations.labelled.sum()),
        mean_labelled=float(labelled[trainable].sum(axis=1).mean()) if trainable.any() else 0.0,
        visibility=_visibility_histogram(annotations.visibility),
        repeated_images=annotations.repeated_images,
        repeated_people=annotations.repeated_people,
        shared_files=len(files) - len(set(files)),
        miscounted=int(annotations.miscounted().sum()),
        repeated_boxes=_repeated_boxes(annotations),
        boxes_outside=int((outside & has_box).sum()),
        keypoints_outside=int((labelled & _outside(annotations)).sum()),
        suspect_left_right=int(suspect_left_right(annotations).sum()),
        missing_images=len(missing),
        wrong_images=len(wrong),
        problems=tuple(problems),
    )


def suspect_left_right(annotations: AnnotationSet) -> NDArray[np.bool_]:
    """(N,) people whose left and right look exchanged somewhere.

    That is what the file itself says, and people two of whose lines from right to left point opposite ways: shoulders
    and hips, eyes and ears, outer eye corners and eyes. A twisted body can do so rightly.
    """
    suspect = np.array(annotations.suspects)
    for first, second in _SAME_WAY:
        a, b = _line(annotations, first), _line(annotations, second)
        length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        # A line that is not labelled has length 0; one of a few pixels says little about its direction.
        clear = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)) > 3
        suspect |= clear & ((a * b).sum(axis=1) < _OPPOSITE_COSINE * length)
    return suspect


def _line(annotations: AnnotationSet, name: str) -> NDArray[np.float64]:
    """(N, 2) from the first end of a line to the second, (0, 0) where one is not labelled or not known."""
    ends = _RIGHT_TO_LEFT[name]
    skeleton: Skeleton = annotations.skeleton
    if not set(ends) <= set(skeleton.keypoint_names):
        return np.zeros((len(annotations), 2))
    start, end = (skeleton.index(keypoint) for keypoint in ends)
    known = (annotations.visibility[:, start] > 0) & (annotations.visibility[:, end] > 0)
    difference = annotations.keypoints[:, end].astype(np.float64) - annotations.keypoints[:, start]
    return np.asarray(difference * known[:, None])


def _visibility_histogram(visibility: NDArray[np.float32]) -> dict[str, int]:
    low = visibility < np.float32(LABELLED_VISIBILITY)
    classes = (
        visibility == 0,
        (visibility > 0) & low,
        ~low & (visibility < 1),
        visibility == 1,
        (visibility > 1) & (visibility < 2),
        visibility == 2,
        visibility > 2,
    )
    return {name: int(members.sum()) for name, members in zip(VISIBILITY_CLASSES, classes, strict=True)}


def _repeated_boxes(annotations: AnnotationSet) -> int:
    keys = np.column_stack([annotations.image_rows, annotations.file_boxes])
    return len(keys) - len(np.unique(keys, axis=0))


def _outside(annotations: AnnotationSet) -> NDArray[np.bool_]:
    """(N, K) keypoints more than a pixel outside their image."""
    sizes = annotations.image_sizes[annotations.image_rows]
    limits = np.where(sizes > 0, sizes, np.inf)[:, None, ::-1]  # (N, 1, 2) as (width, height)
    points = annotations.keypoints
    return np.asarray(((points < -_OUTSIDE_PX) | (points > limits - 1 + _OUTSIDE_PX)).any(axis=2))


def _wrong_images(annotations: AnnotationSet, missing: set[int]) -> list[str]:
    lines = []
    for row, path in enumerate(annotations.image_files):
        if row in missing:
            continue
        stated = (int(annotations.image_sizes[row, 0]), int(annotations.image_sizes[row, 1]))
        try:
            header = read_header(path)
        except ImageError as error:
            lines.append(str(error))
            continue
        if stated not in (header.size, header.stored_size, (0, 0)):
            found = f"{header.size[0]} high and {header.size[1]} wide"
            lines.append(f"{path}: is {found}, annotated as {stated[0]} and {stated[1]}")
    return lines
