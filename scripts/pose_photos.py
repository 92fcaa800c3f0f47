"""What scripts/train_pose.py learns from: labelled photos and drawn crops, in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detector_scenes import run_length_mask
from told_keypoints import combined, read_told

from wholepose.evaluation.holdout import holdout_ids, split_photos
from wholepose.geometry import xywh_to_xyxy
from wholepose.skeletons import HALPE136

LONGEST_PX = 420  # photos are kept so that a person's box is at most this high
PHOTO_SETS = ("lspet", "lsp", "coco", "studio", "face68", "hand21")
WHOLE_SETS = ("lspet", "lsp", "coco", "studio", "street", "web")
"""Of photos of whole people."""
DRAWN = ("body", "face", "left_hand", "right_hand")
ZOOMED = {f"zoomed_{part}": part for part in DRAWN[1:]}
"""Sets of parts of drawn people who are seen whole: what a second look at them sees."""
HANDS = {f"seen_{part}": part for part in DRAWN[2:]}
"""Sets of hands of people in photos, of which all is known because another network told it."""
SMALLEST_ZOOMED_PX = 14
LOWER = [*range(11, 17), *range(19, 26)]  # hips, legs, feet
NOT_SHOWN = {"face68": [7, 8, *LOWER], "hand21": [*LOWER, *HALPE136.parts["right_hand"]]}
"""Keypoints that are in no photo of a set: faces with shoulders at most, one left hand each."""
FACE = HALPE136.parts["face"][0]
WITHIN_FACES = {0: [FACE + 30], 1: [*range(FACE + 42, FACE + 48)], 2: [*range(FACE + 36, FACE + 42)]}
"""Nose and eyes of the body by the points of the face they are the mean of."""
SMALLEST_DRAWN_PX = 90
"""A person of a drawn scene must be this high, or this wide, to be learnt from."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A person in a photo: keypoints (136, 2) and box (4,) xyxy in its pixels, labelled (136,) bool."""

    photo: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray
    box: np.ndarray


@dataclass(eq=False)
class Material:
    """All there is to learn from.

    Attributes:
        people: By set.
        held_out: People of LSP that nothing is learnt from.
        backgrounds: Pictures without people.
        figures: People cut out, (H, W, 4) uint8 RGBA, to stand beside and before others.
    """

    people: dict[str, list[Labelled]] = field(default_factory=dict)
    held_out: list[Labelled] = field(default_factory=list)
    backgrounds: list[np.ndarray] = field(default_factory=list)
    figures: list[np.ndarray] = field(default_factory=list)


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def shrunk(picture: np.ndarray, factor: float) -> np.ndarray:
    """The picture (H, W, C) uint8 with sides `factor` times as long; from 1 on, as it is."""
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else picture


def read_photos(folder: Path, told: dict[int, np.ndarray]) -> tuple[list[Labelled], list[Labelled]]:
    """People of a set of labelled photos, and those of them that are held out, of whom nothing told is taken."""
    document = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    if document["categories"][0]["keypoints"] != list(HALPE136.keypoint_names):
        raise SystemExit(f"{folder}: lists other keypoints than Halpe's 136")
    held_out = holdout_ids([image["id"] for image in document["images"]]) if folder.name == "lsp" else frozenset()
    files = {image["id"]: image["file_name"] for image in document["images"]}
    rows: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for row in document["annotations"]:
        keypoints = np.array(row.get("keypoints", []), dtype=np.float32).reshape(-1, 3)
        x, y, width, height = row["bbox"]
        if row.get("iscrowd") or row.get("suspect_left_right") or min(width, height) < 8:
            continue
        if len(keypoints) and keypoints[:, 2].any():
            box = np.array([x, y, x + width, y + height])
            place, labelled = keypoints[:, :2], keypoints[:, 2] > 0
            if row["id"] in told and row["image_id"] not in held_out:
                place, labelled = combined(place, labelled, told[row["id"]], box)
            rows.setdefault(row["image_id"], []).append((place, labelled, box))
    kept, left = [], []
    for image_id, people in rows.items():
        photo = read_rgb(folder / files[image_id])
        factor = min(1.0, LONGEST_PX / max((box[2:] - box[:2]).max() for *_, box in people))
        photo = shrunk(photo, factor)
        for place, labelled, box in people:
            person = Labelled(photo, place * factor, labelled, box * factor)
            (left if image_id in held_out else kept).append(person)
    for person in kept if folder.name in NOT_SHOWN else ():
        person.keypoints[NOT_SHOWN[folder.name]], person.labelled[NOT_SHOWN[folder.name]] = np.inf, True
    for person in kept if folder.name == "face68" else ():
        for keypoint, points in WITHIN_FACES.items():
            person.keypoints[keypoint], person.labelled[keypoint] = person.keypoints[points].mean(0), True
    return kept, left


def read_drawn(crops: list[Path], scenes: list[Path]) -> dict[str, list[Labelled]]:
    """All drawn people by what was framed; those in company are "scenes", parts of those seen whole are ZOOMED."""
    people: dict[str, list[Labelled]] = {kind: [] for kind in (*DRAWN, "scenes", *ZOOMED)}
    for kind, person, visibility in itertools.chain(_crops(crops), _scenes(scenes)):
        people[kind].append(person)
        if kind in ("body", "scenes"):
            _add_parts(people, person, visibility)
    return people


def _crops(folders: list[Path]) -> Iterator[tuple[str, Labelled, np.ndarray]]:
    """What was framed, who, and their visibility (136,), of all that scripts/draw_pose_crops.py has drawn."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.npz"))):
        shard = np.load(path, allow_pickle=False)
        for kind in (kind for kind in DRAWN if f"{kind}_image" in shard):
            columns = (shard[f"{kind}_{name}"] for name in ("image", "keypoints", "visibility", "box"))
            for image, keypoints, visibility, box in zip(*columns, strict=True):
                yield kind, Labelled(image, keypoints, visibility > 0, box), visibility


def _scenes(folders: list[Path]) -> Iterator[tuple[str, Labelled, np.ndarray]]:
    """The same of those large enough and seen enough in what scripts/draw_detector_scenes.py has drawn."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.npz"))):
        shard = np.load(path, allow_pickle=False)
        if "keypoints" not in shard:
            continue
        images = shard["image"]
        columns = (shard[name] for name in ("of", "keypoints", "visibility", "boxes"))
        for number, keypoints, visibility, box in zip(*columns, strict=True):
            seen = (visibility[list(HALPE136.parts["body"])] == 2).mean()
            if seen > 0.3 and (box[2:] - box[:2]).max() >= SMALLEST_DRAWN_PX:
                yield "scenes", Labelled(images[number], keypoints, visibility > 0, box), visibility


def _add_parts(people: dict[str, list[Labelled]], person: Labelled, visibility: np.ndarray) -> None:
    """Adds the person to the set of each part that is seen and not too small."""
    for name, part in ZOOMED.items():
        points = list(HALPE136.parts[part])
        if (visibility[points] == 2).mean() > 0.6 and _is_large(person, points):
            people[name].append(person)


def _is_large(person: Labelled, points: list[int]) -> bool:
    """Whether all of a part is known, and it is large enough to look at it alone."""
    place = person.keypoints[points]
    return bool(person.labelled[points].all() and np.ptp(place, axis=0).max() >= SMALLEST_ZOOMED_PX)


def read_unlabelled(folder: Path, told: dict[int, np.ndarray]) -> tuple[list[np.ndarray], list[Labelled]]:
    """People of photos with boxes alone, with what is told of them; those with masks are cut out too, 256 px tall."""
    document = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in document["images"]}
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in document["annotations"]:
        rows.setdefault(row["image_id"], []).append(row)
    figures, people = [], []
    for image_id, somebody in rows.items():
        photo = read_rgb(folder / files[image_id])
        factor = min(1.0, LONGEST_PX / max(max(row["bbox"][2:]) for row in somebody))
        smaller = shrunk(photo, factor)
        for row in somebody:
            box = xywh_to_xyxy(np.array(row["bbox"]))
            if "segmentation" in row:
                x1, y1, x2, y2 = box.round().astype(int)
                whole = np.dstack([photo, run_length_mask(row["segmentation"])])[y1:y2, x1:x2]
                figures.append(shrunk(whole, 256 / (y2 - y1)))
            place, labelled = np.zeros((136, 2), np.float32), np.zeros(136, bool)
            if row["id"] in told:
                place, labelled = combined(place, labelled, told[row["id"]], box)
            people.append(Labelled(smaller, place * factor, labelled, box * factor))
    return figures, people


def known_hands(people: dict[str, list[Labelled]]) -> dict[str, list[Labelled]]:
    """The sets HANDS of people in photos: of those all of whose hand is known and large enough."""
    somebody = [person for name in WHOLE_SETS for person in people.get(name, [])]
    return {
        name: [person for person in somebody if _is_large(person, list(HALPE136.parts[part]))]
        for name, part in HANDS.items()
    }


def read_material(
    stage: str,
    data: Path | None,
    crops: list[Path],
    scenes: list[Path],
    told: Path | None = None,
    web: Path | None = None,
) -> Material:
    """Everything of a stage, keypoints that were told too; the clean one reads no photo at all."""
    if stage == "clean":
        return Material(read_drawn(crops, []), backgrounds=clouds())
    assert data is not None
    material = Material(read_drawn(crops, scenes))
    of_sets = read_told(told) if told else {}
    for name in PHOTO_SETS:
        material.people[name], left = read_photos(data / name, of_sets.get(name, {}))
        material.held_out += left
    material.figures, material.people["street"] = read_unlabelled(data / "street", of_sets.get("street", {}))
    if web:
        people = read_unlabelled(web, of_sets.get("web", {}))[1]
        material.people["web"] = [person for person in people if person.labelled.any()]  # others may be drawings
    material.people |= known_hands(material.people)
    for file in split_photos(data / "negatives" / "train.json")[0][::3]:
        material.backgrounds.append(cv2.resize(read_rgb(file), (256, 256), interpolation=cv2.INTER_AREA))
    return material


def clouds() -> list[np.ndarray]:
    """Backgrounds that no photo went into."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 40, (300, 2)).tolist()
    small = (rng.uniform(0, 255, (*size, 3)).astype(np.uint8) for size in sizes)
    return [cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC) for picture in small]
