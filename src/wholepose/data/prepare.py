"""The official files of Halpe, COCO and COCO-WholeBody: where they come from and go to, and whether they are right.

Sizes and hashes of the COCO archives are those that TensorFlow Datasets pins. Files that are only on Google Drive,
Baidu or OneDrive have to be fetched in a browser: those hosts ask for consent, and their addresses give pages instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wholepose.data.annotations import load_json, missing_images, read_annotations
from wholepose.data.unpack import unpack
from wholepose.errors import AnnotationError, ConfigError, WholeposeError
from wholepose.images import IMAGE_SUFFIXES
from wholepose.weights.download import download
from wholepose.weights.files import sha256_of

Split = Literal["train", "val"]
SPLITS: dict[str, tuple[Split, ...]] = {"all": ("train", "val"), "train": ("train",), "val": ("val",)}

COCO_HOST = "http://images.cocodataset.org"
_DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Archive:
    """A file that others are unpacked from.

    Attributes:
        file_name: Its name, in the folder ``downloads``.
        url: Where it is to be had directly, None where only a browser gets it.
        size_bytes: Its size, where known.
        sha256: Its hash, where known.
    """

    file_name: str
    url: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Piece:
    """One file or folder that a data set needs.

    Attributes:
        path: Where it belongs, from the root folder on.
        split: What it is for.
        archive: What it is unpacked from; also the path inside the archive is ``path``.
        pages: Where to get it by hand: name of the place and address.
        images: How many pictures the folder holds, where known.
        boxes: How many boxes the file holds, where known.
    """

    path: str
    split: Split
    archive: Archive | None = None
    pages: tuple[tuple[str, str], ...] = ()
    images: int | None = None
    boxes: int | None = None


@dataclass(frozen=True)
class DataSet:
    """What belongs to a data set.

    Attributes:
        name: As on the command line.
        terms: What its authors allow, in a line.
        pieces: Files and folders.
        pairs: Annotation files with the folder of their pictures.
    """

    name: str
    terms: str
    pieces: tuple[Piece, ...]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PieceState:
    """How a piece stands.

    Attributes:
        piece: The piece.
        problem: Why it cannot be used, with the remedy; empty when all is well.
        note: What was found, such as the number of people.
    """

    piece: Piece
    problem: str = ""
    note: str = ""


_ANNOTATIONS = Archive(
    "annotations_trainval2017.zip",
    f"{COCO_HOST}/annotations/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
_TRAIN_IMAGES = Piece(
    "train2017",
    "train",
    Archive(
        "train2017.zip",
        f"{COCO_HOST}/zips/train2017.zip",
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    images=118_287,
)
_VAL_IMAGES = Piece(
    "val2017",
    "val",
    Archive(
        "val2017.zip",
        f"{COCO_HOST}/zips/val2017.zip",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
    images=5_000,
)
_DETECTIONS = Piece(
    "person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
    "val",
    pages=(
        ("Google Drive", "https://drive.google.com/drive/folders/1fRUDNUDxe9fjqcRZ2bnF_TKMlO0nB_dk"),
        ("OneDrive", "https://1drv.ms/f/s!AhIXJn_J-blWzzDXoz5BeFl8sWM-"),
    ),
    boxes=104_125,
)


def _drive(identifier: str) -> tuple[str, str]:
    return "Google Drive", f"https://drive.google.com/file/d/{identifier}/view"


_COCO = DataSet(
    "coco",
    "annotations CC BY 4.0; the photos are Flickr users' (https://cocodataset.org/#termsofuse)",
    (
        Piece("annotations/person_keypoints_train2017.json", "train", _ANNOTATIONS),
        _TRAIN_IMAGES,
        Piece("annotations/person_keypoints_val2017.json", "val", _ANNOTATIONS),
        _VAL_IMAGES,
        _DETECTIONS,
    ),
    (
        ("annotations/person_keypoints_train2017.json", "train2017"),
        ("annotations/person_keypoints_val2017.json", "val2017"),
    ),
)
_COCO_WHOLEBODY = DataSet(
    "coco-wholebody",
    "research and non-commercial use only (https://github.com/jin-s13/COCO-WholeBody#terms-of-use)",
    (
        Piece(
            "annotations/coco_wholebody_train_v1.0.json", "train", pages=(_drive("1thErEToRbmM9uLNi1JXXfOsaS5VK2FXf"),)
        ),
        _TRAIN_IMAGES,
        Piece("annotations/coco_wholebody_val_v1.0.json", "val", pages=(_drive("1N6VgwKnj8DeyGXCvp1eYgNbRmw6jdfrb"),)),
        _VAL_IMAGES,
        _DETECTIONS,
    ),
    (
        ("annotations/coco_wholebody_train_v1.0.json", "train2017"),
        ("annotations/coco_wholebody_val_v1.0.json", "val2017"),
    ),
)
_HICO = "hico_20160224_det/images/train2015"
_HALPE = DataSet(
    "halpe",
    "see https://github.com/Fang-Haoshu/Halpe-FullBody; photos of HICO-DET and COCO",
    (
        Piece(
            "annotations/halpe_train_v1.json",
            "train",
            pages=(
                _drive("13vj8H0GZ9yugLPhVVWV9fcH-3RyW5Wk5"),
                ("Baidu", "https://pan.baidu.com/s/1hWX-I-HpXXnLcprFskfriQ"),
            ),
        ),
        Piece(
            _HICO,
            "train",
            Archive("hico_20160224_det.tar.gz"),
            (
                ("Google Drive", "https://drive.google.com/open?id=1QZcJmGVlF9f4h-XLWe9Gkmnmj2z1gSnk"),
                ("HICO-DET", "https://websites.umich.edu/~ywchao/hico/"),
            ),
            images=38_118,
        ),
        Piece(
            "annotations/halpe_val_v1.json",
            "val",
            pages=(
                _drive("1FdyCgro2t9_nOhTlMPjEf3c0aLOz9wi6"),
                ("Baidu", "https://pan.baidu.com/s/1yDvBkXTSwk20EjiYzimpPw"),
            ),
        ),
        _VAL_IMAGES,
        _DETECTIONS,
    ),
    (("annotations/halpe_train_v1.json", _HICO), ("annotations/halpe_val_v1.json", "val2017")),
)

DATA_SETS = {data_set.name: data_set for data_set in (_HALPE, _COCO, _COCO_WHOLEBODY)}


def get_data_set(name: str, mirror: str | None = None) -> DataSet:
    """The data set of a name.

    Args:
        name: ``"halpe"``, ``"coco"`` or ``"coco-wholebody"``.
        mirror: Address that stands in for ``COCO_HOST``, with the same paths behind it.

    Returns:
        Its description.

    Raises:
        ConfigError: There is no such data set.
    """
    if name not in DATA_SETS:
        raise ConfigError(f"there is no data set {name!r}; there are {', '.join(DATA_SETS)}")
    data_set = DATA_SETS[name]
    if mirror is None:
        return data_set
    pieces = []
    for piece in data_set.pieces:
        archive = piece.archive
        if archive is not None and archive.url is not None:
            archive = replace(archive, url=archive.url.replace(COCO_HOST, mirror.rstrip("/")))
        pieces.append(replace(piece, archive=archive))
    return replace(data_set, pieces=tuple(pieces))


def instructions(data_set: DataSet, root: Path, splits: tuple[Split, ...] = SPLITS["all"]) -> list[str]:
    """Which official file comes from where and goes where, as lines of text.

    Args:
        data_set: The data set.
        root: The folder that all of it goes into.
        splits: What is wanted of it.

    Returns:
        Lines.
    """
    lines = [f"{data_set.name}: {data_set.terms}", f"everything goes below {root}"]
    for piece in data_set.pieces:
        if piece.split not in splits:
            continue
        count = f" ({piece.images:,} pictures)" if piece.images else f" ({piece.boxes:,} boxes)" if piece.boxes else ""
        lines.append(f"  {piece.path}{count}")
        archive = piece.archive
        if archive is not None:
            size = "" if archive.size_bytes is None else f", {archive.size_bytes / 1e9:.2f} GB"
            place = f"{_DOWNLOADS}/{archive.file_name}{size}"
            lines.append(f"      unpacked from {place}" + (f", {archive.url}" if archive.url else ""))
            lines += [f"      sha256 {archive.sha256}"] * (archive.sha256 is not None)
        if piece.pages:
            lines.append("      fetch it in a browser: " + ", or ".join(f"{name} {url}" for name, url in piece.pages))
    return lines


def prepare(
    data_set: DataSet,
    root: Path,
    *,
    fetch: bool = False,
    splits: tuple[Split, ...] = SPLITS["all"],
    progress: bool = True,
) -> Iterator[PieceState]:
    """Brings the pieces into place, as far as that goes without a browser, and checks them.

    Pieces in place are left alone. Archives in ``downloads`` are unpacked, whoever put them there.

    Args:
        data_set: What to prepare.
        root: The folder that all of it goes into.
        fetch: Download archives that have a direct address.
        splits: What is wanted of it.
        progress: Show bars on stderr, where that is a terminal.

    Yields:
        The state of each piece, when it is done.
    """
    images = dict(data_set.pairs)
    for piece in data_set.pieces:
        if piece.split not in splits:
            continue
        try:
            problem = _problem(piece, root)
            if problem and piece.archive is not None:
                _bring(piece, piece.archive, root, fetch, progress)
                problem = _problem(piece, root)
            if problem:
                yield PieceState(piece, problem)
            else:
                yield PieceState(piece, note=_examine(piece, root, images.get(piece.path)))
        except (WholeposeError, OSError) as error:
            yield PieceState(piece, str(error))


def _problem(piece: Piece, root: Path) -> str:
    """Why a piece is not in place; empty when it is."""
    path = root / piece.path
    places = " or ".join(f"{name} ({url})" for name, url in piece.pages)
    if piece.archive is None:
        return "" if path.is_file() else f"missing: fetch it in a browser from {places} to {path}"
    archive = root / _DOWNLOADS / piece.archive.file_name
    remedy = "run again with --download" if piece.archive.url else f"fetch {archive.name} in a browser from {places}"
    remedy += f"; it goes to {archive}"
    if piece.images is None:
        return "" if path.is_file() else f"missing: {remedy}"
    found = _count_images(path)
    return "" if found >= piece.images else f"{found:,} of {piece.images:,} pictures are there: {remedy}"


def _count_images(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(1 for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _bring(piece: Piece, archive: Archive, root: Path, fetch: bool, progress: bool) -> None:
    """Fetches and unpacks, as far as allowed and possible."""
    path = root / _DOWNLOADS / archive.file_name
    if fetch and archive.url is not None:
        download([archive.url], path, sha256=archive.sha256, size_bytes=archive.size_bytes, progress=progress)
    elif not path.is_file():
        return
    elif archive.sha256 is not None and (actual := sha256_of(path)) != archive.sha256:
        raise AnnotationError(f"{path}: is not the official archive: sha256 {actual}, expected {archive.sha256}")
    unpack(path, root, piece.path, progress=progress)


def _examine(piece: Piece, root: Path, images: str | None) -> str:
    """Reads a piece through, and says what is in it.

    Raises:
        AnnotationError: It is not what it should be.
    """
    path = root / piece.path
    if piece.boxes is not None:
        boxes = load_json(path)
        rows = boxes if isinstance(boxes, list) else []
        people = [row for row in rows if isinstance(row, dict) and row.get("category_id") == 1]
        if len(people) != piece.boxes:
            raise AnnotationError(f"{path}: holds {len(people):,} boxes of people, expected {piece.boxes:,}")
        return f"{len(people):,} boxes"
    if images is None:
        return f"{_count_images(path):,} pictures"
    annotations = read_annotations(path, images=root / images)
    lacking = len(missing_images(annotations)) if (root / images).is_dir() else 0
    if lacking:
        raise AnnotationError(
            f"{path}: {lacking:,} of its {len(annotations.image_ids):,} pictures are not in {root / images}"
        )
    return f"{int(annotations.trainable().sum()):,} people on {len(annotations.image_ids):,} pictures"
