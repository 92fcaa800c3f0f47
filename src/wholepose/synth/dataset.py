"""Writes pictures of synthetic people as a data set: JPEGs and one Halpe-format JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.data.contact_sheet import tile_pictures
from wholepose.draw import draw_poses
from wholepose.errors import ConfigError, ImageError
from wholepose.images import save_image
from wholepose.outputs import write_json
from wholepose.poses import Poses
from wholepose.skeletons import HALPE136
from wholepose.synth.annotate import SynthSample
from wholepose.synth.people import SynthPeople
from wholepose.weights.locks import exclusive

ANNOTATIONS = "annotations.json"
CONTACT_SHEET = "contact_sheet.jpg"

_LOCK = ".lock"
_SAVE_EVERY = 200
_SHEET_TILES = 24
_SHEET_SIDE_PX = 240
_HOPELESS = {errno.ENOSPC, errno.EDQUOT}


@dataclasses.dataclass
class Written:
    """What a run has put into its folder."""

    images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    annotations: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def next_index(self) -> int:
        """The number of the first picture that is missing."""
        return len(self.images)


def write_dataset(
    people: SynthPeople,
    folder: Path,
    count: int,
    options: Mapping[str, object],
    *,
    advance: Callable[[int], None] = lambda _done: None,
) -> Written:
    """Draws pictures 0 to `count` - 1 into a folder.

    A folder that an equal call left unfinished is finished. Whatever ends the run early, the JSON in the folder is
    whole and describes pictures that are there.

    Args:
        people: Draws the pictures.
        folder: Where to; made if missing. Gets ``images/``, ``annotations.json`` and ``contact_sheet.jpg``.
        count: How many pictures.
        options: All that decides what the pictures look like; kept in the JSON and compared when resuming.
        advance: Called with the number of pictures that are there, at the start and after each.

    Returns:
        What is in the folder.

    Raises:
        ConfigError: The folder holds something else, or a run with other options, or one that is not over.
        OSError: A file cannot be written, such as on a full disk.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(folder / _LOCK, wait=False))
        except BlockingIOError as error:
            raise ConfigError(f"--out {folder}: another run writes there now; wait for it or choose another") from error
        written = _resume(folder, options, count)
        (folder / "images").mkdir(exist_ok=True)
        return _write(people, folder, count, options, written, advance)


def _write(
    people: SynthPeople,
    folder: Path,
    count: int,
    options: Mapping[str, object],
    written: Written,
    advance: Callable[[int], None],
) -> Written:
    advance(written.next_index())
    if not written.images:  # says whose folder it is, also to the run after one that was killed
        write_json(folder / ANNOTATIONS, document(written, options))
    try:
        for index in range(written.next_index(), count):
            sample = people.sample(index)
            name = f"images/{index:06d}.jpg"
            save_image(folder / name, sample.image, quality=92)
            image, annotations = describe(sample, index, name, len(written.annotations) + 1)
            written.images.append(image)
            written.annotations.extend(annotations)
            advance(written.next_index())
            if len(written.images) % _SAVE_EVERY == 0:
                write_json(folder / ANNOTATIONS, document(written, options))
    except BaseException:
        _save_what_fits(folder, written, options)
        raise
    write_json(folder / ANNOTATIONS, document(written, options))
    save_image(folder / CONTACT_SHEET, _contact_sheet(folder, written), quality=85)
    return written


def _resume(folder: Path, options: Mapping[str, object], count: int) -> Written:
    path = folder / ANNOTATIONS
    if not path.is_file():
        if not _is_bare(folder):
            raise ConfigError(f"--out {folder} is not an empty folder and has no {ANNOTATIONS} of an earlier run")
        return Written()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before = found["info"]["synth"]
        images, annotations = list(found["images"]), list(found["annotations"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} was not written by wholepose synth; choose another --out") from error
    if before != json.loads(json.dumps(options)):
        changed = [
            name for name in {*before, *options} if before.get(name) != json.loads(json.dumps(options.get(name)))
        ]
        raise ConfigError(
            f"--out {folder} holds pictures made with other options ({', '.join(sorted(changed))}); "
            "choose another folder, or the same options to go on"
        )
    kept = 0
    for position, image in enumerate(images):
        if image["id"] != position + 1 or not (folder / image["file_name"]).is_file():
            break
        kept += 1
    if kept > count:
        raise ConfigError(f"--out {folder} already holds {kept} pictures, more than --count {count}")
    return Written(images[:kept], [row for row in annotations if row["image_id"] <= kept])


def fingerprint(path: Path | None) -> str | bool:
    """What a file, or a folder of files, holds, by names and sizes; False for none."""
    if path is None:
        return False
    files = sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {file.stat().st_size}" for file in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_bare(folder: Path) -> bool:
    """Whether nothing is in it but what a run makes before its first picture."""
    names = {path.name for path in folder.iterdir()}
    return names <= {_LOCK, "images"} and not any((folder / "images").glob("*"))


def _save_what_fits(folder: Path, written: Written, options: Mapping[str, object]) -> None:
    """Writes the JSON of the pictures that are there; on a full disk the last pictures make room for it."""
    while True:
        try:
            write_json(folder / ANNOTATIONS, document(written, options))
        except OSError as error:
            if error.errno not in _HOPELESS or not written.images:
                return  # the JSON written before stays, whole
            keep = len(written.images) * 7 // 8
            for image in written.images[keep:]:
                (folder / image["file_name"]).unlink(missing_ok=True)
            written.images = written.images[:keep]
            written.annotations = [row for row in written.annotations if row["image_id"] <= keep]
        else:
            return


def describe(
    sample: SynthSample, index: int, name: str, first_id: int, track_ids: list[int] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO rows of a sample: its image, and an annotation for every person.

    Args:
        sample: The picture and its people.
        index: Number of the picture, from 0.
        name: File name in the data set.
        first_id: Id of the first annotation.
        track_ids: Who each person is, in a clip.
    """
    height, width = sample.image.shape[:2]
    image = {"id": index + 1, "file_name": name, "height": height, "width": width}
    rows = []
    for person in range(len(sample)):
        visibility = sample.visibility[person].astype(int)
        places = np.where(visibility[:, None] > 0, sample.keypoints[person].astype(np.float64), 0.0)
        flat: list[float] = []
        for (x, y), seen in zip(places, visibility, strict=True):
            flat += [round(float(x), 2), round(float(y), 2), int(seen)]
        # COCO counts box edges from the picture's corner, not from the middle of the first pixel.
        x1, y1, x2, y2 = (float(edge) + 0.5 for edge in sample.boxes[person])
        row: dict[str, Any] = {
            "id": first_id + person,
            "image_id": index + 1,
            "category_id": 1,
            "keypoints": flat,
            "num_keypoints": int((visibility > 0).sum()),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(sample.areas[person]),
            "iscrowd": 0,
        }
        if track_ids is not None:
            row["track_id"] = track_ids[person]
        rows.append(row)
    return image, rows


def document(written: Written, options: Mapping[str, object]) -> dict[str, Any]:
    """The Halpe-format JSON of a data set."""
    return {
        "info": {
            "description": "Synthetic people by wholepose synth",
            "keypoint_scheme": "Halpe 136",
            "labelled_keypoints": list(range(136)),
            "visibility": "2 seen, 1 hidden, 0 outside the picture (x = y = 0)",
            "synth": dict(options),
        },
        "images": written.images,
        "annotations": written.annotations,
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(HALPE136.keypoint_names),
                "skeleton": [[edge.start + 1, edge.end + 1] for edge in HALPE136.edges],
            }
        ],
    }


def sample_poses(sample: SynthSample) -> Poses:
    """A sample's people as poses: score 1 for seen points, 0.5 for hidden ones, 0 outside the picture."""
    return Poses(
        keypoints=sample.keypoints,
        scores=(sample.visibility / 2).astype(np.float32),
        boxes=sample.boxes,
        box_scores=np.ones(len(sample), np.float32),
        skeleton=HALPE136,
    )


def _contact_sheet(folder: Path, written: Written) -> NDArray[np.uint8]:
    """The first pictures with their keypoints, small."""
    tiles, captions = [], []
    for image in written.images[:_SHEET_TILES]:
        rows = [row for row in written.annotations if row["image_id"] == image["id"]]
        pixels = cv2.imread(str(folder / image["file_name"]), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ImageError(f"{folder / image['file_name']} was written a moment ago and cannot be read")
        picture = np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)
        points = np.array([row["keypoints"] for row in rows], dtype=np.float32).reshape(-1, 136, 3)
        corners = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        scores = (points[..., 2] / 2).astype(np.float32)
        poses = Poses(points[..., :2], scores, corners, np.ones(len(rows), np.float32), HALPE136)
        drawn = draw_poses(picture, poses)
        scale = _SHEET_SIDE_PX / max(drawn.shape[:2])
        size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
        tiles.append(np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), dtype=np.uint8))
        captions.append(f"{image['id'] - 1}: {len(rows)} people")
    return tile_pictures(tiles, captions, columns=6)
