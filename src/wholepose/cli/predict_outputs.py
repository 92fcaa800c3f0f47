"""What ``wholepose predict`` writes for pictures: documents, COCO results, one file for all of them; and drawings."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from wholepose.errors import ConfigError, ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wholepose.cli.predict_inputs import Picture
    from wholepose.poses import Poses
    from wholepose.skeletons import Skeleton

RESULTS_FILE = "coco_results.json"
IMAGES_FILE = "coco_images.json"
PICTURES_FILE = "pictures"
_ELSEWHERE = "choose another --out"
_JPEG_MAX_SIDE_PX = 65500
_JPEG_QUALITY = 95


class Writer(Protocol):
    """Takes the poses of one picture after the other."""

    def write(self, picture: Picture, size: tuple[int, int], poses: Poses) -> None:
        """Takes the poses of a picture of (height, width)."""
        ...

    def finish(self) -> None:
        """Writes what could not be written before the last picture was known."""
        ...


class DocumentWriter:
    """One JSON document a picture: a file in a folder, or a line on stdout where there is no folder."""

    def __init__(self, folder: Path | None, occupied: Collection[str], model: str, *, uncertainty: bool) -> None:
        self._folder = folder
        self._occupied = occupied
        self._model = model
        self._uncertainty = uncertainty

    def write(self, picture: Picture, size: tuple[int, int], poses: Poses) -> None:
        """Writes the picture's document; a file is whole or absent.

        Raises:
            ImageError: It would replace a file that is read.
        """
        from wholepose.outputs import poses_document, to_json, write_json

        document = poses_document(
            poses, image=picture.image_name, size=size, model=self._model, uncertainty=self._uncertainty
        )
        if self._folder is None:
            sys.stdout.write(to_json(document))
            sys.stdout.flush()
        else:
            path = self._folder / f"{picture.result_name}.json"
            if os.path.realpath(path) in self._occupied:
                raise ImageError(f"{picture.image_name}: its result would replace the input {path}; {_ELSEWHERE}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, document)

    def finish(self) -> None:
        """Nothing is left to do."""


class CocoWriter:
    """One list of COCO keypoint results for all pictures, and beside it which image id is which file."""

    def __init__(self, folder: Path, occupied: Collection[str], image_ids: Mapping[Path, int]) -> None:
        for name in (RESULTS_FILE, IMAGES_FILE):
            _check_free(folder / name, occupied)
        self._folder = folder
        self._image_ids = image_ids
        self._results: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []

    def write(self, picture: Picture, size: tuple[int, int], poses: Poses) -> None:
        """Remembers the picture's results.

        Raises:
            ImageError: The annotation file that gives the ids does not know the picture.
        """
        image_id = self._image_ids.get(picture.path)
        if image_id is None:
            raise ImageError(f"{picture.image_name}: is not among the images of the annotation file")
        height, width = size
        self._results.extend(poses.to_coco(image_id))
        self._images.append({"id": image_id, "file_name": picture.image_name, "height": height, "width": width})

    def finish(self) -> None:
        """Writes both files, each whole or not at all."""
        from wholepose.outputs import write_coco_results, write_json

        write_json(self._folder / IMAGES_FILE, {"images": self._images})
        write_coco_results(self._folder / RESULTS_FILE, self._results)


class FormatWriter:
    """All pictures in one file, or folder, of a format of ``wholepose.formats``; they count as frames."""

    def __init__(
        self, folder: Path, occupied: Collection[str], format_name: str, skeleton: Skeleton, model: str
    ) -> None:
        from wholepose.formats import open_writer

        path = folder / f"{PICTURES_FILE}{ending_of(format_name)}"
        _check_free(path, occupied)
        self._writer = open_writer(path, format_name, skeleton=skeleton, model=model)

    def write(self, picture: Picture, size: tuple[int, int], poses: Poses) -> None:
        """Adds a picture."""
        self._writer.write(picture.number - 1, None, poses, image=picture.image_name, size=size)

    def finish(self) -> None:
        """Gives the file its name."""
        self._writer.close()

    def __enter__(self) -> FormatWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def _check_free(path: Path, occupied: Collection[str]) -> None:
    """Raises ConfigError where a file that is read would be replaced."""
    if os.path.realpath(path) in occupied:
        raise ConfigError(f"the results would replace {path}, which is read; {_ELSEWHERE}")


def ending_of(format_name: str) -> str:
    """What the results of a format are called after the name of what was predicted.

    Formats that share a suffix with others say which they are: ``clip.jsonl``, but ``clip_coco.json``.
    """
    from wholepose.formats import FORMATS

    suffix = FORMATS[format_name].suffix
    return suffix if format_name in ("jsonl", "csv", "parquet", "npz", "trc") else f"_{format_name}{suffix}"


class Drawer:
    """Draws poses onto copies of the pictures, in the output folder, and never over a picture that is read."""

    def __init__(self, folder: Path, occupied: Collection[str], threshold: float, *, black: bool) -> None:
        self._folder = folder
        self._occupied = occupied
        self._threshold = threshold
        self._black = black

    def draw(self, picture: Picture, image: NDArray[np.uint8], poses: Poses) -> None:
        """Writes the drawing: JPEG of a JPEG picture, else PNG.

        Raises:
            ImageError: It cannot be written, or would replace one of the pictures to read.
        """
        import numpy as np

        from wholepose.draw import draw_poses
        from wholepose.images import save_image

        jpeg = picture.path.suffix.lower() in (".jpg", ".jpeg") and max(image.shape) <= _JPEG_MAX_SIDE_PX
        path = self._folder / f"{picture.result_name}_poses{'.jpg' if jpeg else '.png'}"
        if os.path.realpath(path) in self._occupied:
            raise ImageError(f"{picture.image_name}: its drawing would replace the input {path}; {_ELSEWHERE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        background = np.zeros_like(image) if self._black else image
        save_image(path, draw_poses(background, poses, threshold=self._threshold), quality=_JPEG_QUALITY)


def coco_image_ids(pictures: Sequence[Picture], annotations: Path | None) -> dict[Path, int]:
    """Chooses the image ids of COCO results.

    Args:
        pictures: All pictures of the run.
        annotations: A COCO JSON whose images list gives the ids, or None: then the number in the file name, as COCO
            names its photos, if all have different ones, else running numbers from 1.

    Returns:
        Ids by path; a picture that the annotations do not list has none.

    Raises:
        AnnotationError: The annotation file is missing or malformed.
        ConfigError: An id in it is not a number.
    """
    if annotations is not None:
        from wholepose.detectors.boxes_file import read_image_names

        by_name: dict[str, int] = {}
        for image_id, name in read_image_names(annotations).items():
            if not isinstance(image_id, int):
                raise ConfigError(f"{annotations}: image id {image_id!r} is not a number, which COCO results need")
            by_name["/".join(part for part in name.split("/") if part not in ("", "."))] = image_id
        ids = {}
        for picture in pictures:
            parts = Path(os.path.abspath(picture.path)).parts  # noqa: PTH100 - a link keeps its own name
            ends = ("/".join(parts[start:]) for start in range(len(parts)))  # the longest end that is listed counts
            found = next((by_name[end] for end in ends if end in by_name), None)
            if found is not None:
                ids[picture.path] = found
        return ids
    numbers = [re.fullmatch(r"(?:COCO_[a-z0-9]+_)?([0-9]{1,18})", picture.path.stem) for picture in pictures]
    named = [int(match.group(1)) for match in numbers if match is not None]
    if len(set(named)) == len(pictures):
        return {picture.path: number for picture, number in zip(pictures, named, strict=True)}
    return {picture.path: picture.number for picture in pictures}
