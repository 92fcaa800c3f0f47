"""Packs all that scripts/train_pose.py learns from into a few small files, to bring it to another machine.

    python scripts/pack_pose.py --crops runs/crops --more-crops runs/hands --scenes runs/scenes --data ../shared/data \\
        --told runs/told --out runs/packs --megabytes 50
    python scripts/train_pose.py default --packs runs/packs ...

Photos are cut around their people and kept as WebP, keypoints in eighths of a pixel. People are spread over the files
at random, so that any of them is a small training set of its own. The clean stage reads the same files and takes from
them what --crops held, nothing else.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from pose_photos import Labelled, Material, clouds, read_drawn, read_material

from wholepose.outputs import atomic_path

QUALITY = 55
EIGHTHS = 8
NOWHERE = 32767
"""In the place of a coordinate: the keypoint is known to be in no photo."""
MARGIN = 0.6
"""What is kept around people, as a share of their boxes' longer side."""
PICTURES = ("figures", "backgrounds")


@dataclass(eq=False)
class Group:
    """One picture and everybody in it, each with the names of their sets; nobody for figures and backgrounds."""

    picture: np.ndarray
    people: list[tuple[Labelled, list[str]]] = field(default_factory=list)
    kind: str = ""


def write_packs(material: Material, clean: set[int], folder: Path, most_bytes: int) -> list[Path]:
    """Writes the files; `clean` are the id() of the people of clean looks."""
    groups = [Group(picture, kind=kind) for kind in PICTURES for picture in getattr(material, kind)]
    groups += _groups(material, clean)
    random.Random(0).shuffle(groups)
    with ThreadPoolExecutor() as pool:
        cut = list(pool.map(_cut, groups))
        files = list(pool.map(lambda group: _encoded(group.picture), cut))
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.npz"):
        path.unlink()
    paths, start, size = [], 0, 0
    for end, file in enumerate(files, start=1):
        size += len(file) + 300 * len(cut[end - 1].people)  # so much are packed keypoints
        if size > most_bytes or end == len(files):
            paths.append(folder / f"{len(paths):02d}.npz")
            _write(paths[-1], cut[start:end], files[start:end])
            start, size = end, 0
    return paths


def _groups(material: Material, clean: set[int]) -> Iterable[Group]:
    """Everybody by picture."""
    by_picture: dict[int, Group] = {}
    entries: dict[int, tuple[Labelled, list[str]]] = {}
    for name, people in (*material.people.items(), ("held_out", material.held_out)):
        for person in people:
            if id(person) not in entries:
                entries[id(person)] = person, ["clean"] if id(person) in clean else []
                by_picture.setdefault(id(person.photo), Group(person.photo)).people.append(entries[id(person)])
            entries[id(person)][1].append(name)
    return by_picture.values()


def _cut(group: Group) -> Group:
    """The picture cut around its people, keypoints moved along."""
    if not group.people:
        return group
    boxes = np.stack([person.box for person, _ in group.people])
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2]).max()
    height, width = group.picture.shape[:2]
    low = np.clip(np.floor(boxes[:, :2].min(0) - margin), 0, None).astype(int)
    high = np.minimum(np.ceil(boxes[:, 2:].max(0) + margin), [width, height]).astype(int)
    picture = np.ascontiguousarray(group.picture[low[1] : high[1], low[0] : high[0]])
    people = [
        (Labelled(picture, person.keypoints - low, person.labelled, person.box - np.tile(low, 2)), sets)
        for person, sets in group.people
    ]
    return Group(picture, people)


def _encoded(picture: np.ndarray) -> np.ndarray:
    """RGB or RGBA (H, W, C) uint8 to the bytes of a WebP file."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".webp", cv2.cvtColor(picture, order), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].ravel()


def _decoded(file: np.ndarray) -> np.ndarray:
    picture = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _write(path: Path, groups: list[Group], files: list[np.ndarray]) -> None:
    everybody = [(number, *entry) for number, group in enumerate(groups) for entry in group.people]
    names = sorted({name for _, _, sets in everybody for name in sets})
    keypoints = np.stack([person.keypoints for _, person, _ in everybody]).astype(np.float64)
    labelled = np.stack([person.labelled for _, person, _ in everybody])
    known = np.isfinite(keypoints)
    eighths = np.where(known, np.round(np.where(known, keypoints, 0) * EIGHTHS), NOWHERE).clip(-NOWHERE, NOWHERE)
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        np.savez_compressed(
            out,
            pictures=np.concatenate(files),
            lengths=np.array([len(file) for file in files]),
            kinds=np.array([group.kind for group in groups]),
            of=np.array([number for number, _, _ in everybody]),
            keypoints=np.where(labelled[..., None], eighths, 0).astype(np.int16),
            labelled=labelled,
            boxes=np.stack([person.box for _, person, _ in everybody]).astype(np.float32),
            sets=np.array(names),
            member=np.array([[name in sets for name in names] for _, _, sets in everybody]),
        )


def read_packs(stage: str, folder: Path) -> Material:
    """What a stage learns from, of the files there.

    Raises:
        SystemExit: There are none.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise SystemExit(f"{folder}: holds no packs; scripts/pack_pose.py writes them")
    clean = stage == "clean"
    material = Material(backgrounds=clouds() if clean else [])
    with ThreadPoolExecutor() as pool:
        for path in paths:
            pack = np.load(path, allow_pickle=False)
            files = np.split(pack["pictures"], np.cumsum(pack["lengths"])[:-1])
            rows = _rows(pack, clean)
            wanted = np.unique(pack["of"][rows]).tolist() if clean else range(len(files))
            pictures = dict(zip(wanted, pool.map(_decoded, (files[number] for number in wanted)), strict=True))
            _read_people(material, pack, pictures, rows)
            for number, kind in enumerate(pack["kinds"]):
                if kind and not clean:
                    getattr(material, kind).append(pictures[number])
    return material


def _rows(pack: np.lib.npyio.NpzFile, clean: bool) -> np.ndarray:
    """The numbers of the people who are read: of all, or of those of clean looks."""
    member = pack["member"][:, pack["sets"] == "clean"].any(1)
    return np.flatnonzero(member) if clean else np.arange(len(member))


def _read_people(
    material: Material, pack: np.lib.npyio.NpzFile, pictures: dict[int, np.ndarray], rows: np.ndarray
) -> None:
    names = pack["sets"].tolist()
    keypoints = pack["keypoints"].astype(np.float32)
    keypoints = np.where(keypoints == NOWHERE, np.inf, keypoints / EIGHTHS).astype(np.float32)
    columns = (pack["of"], keypoints, pack["labelled"], pack["boxes"], pack["member"])
    for picture, points, labelled, box, member in zip(*(column[rows] for column in columns), strict=True):
        sets = {name for name, yes in zip(names, member, strict=True) if yes}
        person = Labelled(pictures[picture], points, labelled, box)
        for name in sets - {"clean"}:
            people = material.held_out if name == "held_out" else material.people.setdefault(name, [])
            people.append(person)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=Path, nargs="+", required=True, help="folders of crops of clean looks")
    parser.add_argument("--more-crops", type=Path, nargs="*", default=[], help="folders of crops of other looks")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="folders of drawn scenes")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled photos")
    parser.add_argument("--told", type=Path, help="folder of scripts/tell_keypoints.py")
    parser.add_argument("--web", type=Path, help="folder of scripts/gather_photos.py")
    parser.add_argument("--out", type=Path, required=True, help="folder; packs that are there are replaced")
    parser.add_argument("--megabytes", type=float, default=50, help="of a pack at most, about")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    material = read_material("default", options.data, options.more_crops, options.scenes, options.told, options.web)
    drawn = read_drawn(options.crops, [])
    for name, people in drawn.items():
        material.people[name] += people
    clean = {id(person) for people in drawn.values() for person in people}
    for path in write_packs(material, clean, options.out, int(options.megabytes * 1e6)):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
