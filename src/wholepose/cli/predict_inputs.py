"""What ``wholepose predict`` reads: pictures, what to call their results, and who is in them."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wholepose.detectors import PersonDetector
    from wholepose.runtimes import Runtime

_READ_AHEAD = 2
"""Pictures decoded while the model runs; each may take hundreds of megabytes, so there are few."""


@dataclass(frozen=True)
class Picture:
    """A picture to predict.

    Attributes:
        number: Its place among the pictures of this run, from 1.
        path: The file.
        result_name: What its results are called in the output folder, without suffix; it may name a sub-folder.
    """

    number: int
    path: Path
    result_name: str

    @property
    def image_name(self) -> str:
        """The path as results give it: text that any JSON reader takes, whatever bytes the name holds."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def name_pictures(paths: Sequence[Path], taken: Collection[str] = ()) -> list[Picture]:
    """Chooses a name for the results of each picture.

    It is the picture's stem. Pictures that share one, also in another case, keep as much of their folders as tells them
    apart (``a/photo`` and ``b/photo``), and where that is not enough their suffix (``photo.jpg`` and ``photo.png``).

    Args:
        paths: Different files.
        taken: Names that none may get.

    Returns:
        One picture a path, in order; no two result names are equal, also where upper and lower case are the same.
    """
    same_stem: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        same_stem[path.stem.casefold()].append(index)
    names = [""] * len(paths)
    for indices in same_stem.values():
        if len(indices) == 1:
            names[indices[0]] = paths[indices[0]].stem
            continue
        # Not resolve(): a link keeps its own name. Not absolute(): a ".." left in it would lead out of the folder.
        full = {index: Path(os.path.abspath(paths[index])) for index in indices}  # noqa: PTH100
        root = os.path.commonpath([path.parent for path in full.values()])
        relative = {index: path.relative_to(root).with_suffix("").as_posix() for index, path in full.items()}
        folded = [name.casefold() for name in relative.values()]
        for index, name in relative.items():
            alone = folded.count(name.casefold()) == 1
            names[index] = name if alone else name + paths[index].suffix
    used = {name.casefold() for name in taken}
    pictures = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        unique, copy = name, 1
        while unique.casefold() in used:
            copy += 1
            unique = f"{name}_{copy}"
        used.add(unique.casefold())
        pictures.append(Picture(number, path, unique))
    return pictures


def read_ahead(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, NDArray[np.uint8] | Exception]]:
    """Decodes pictures in a thread while the caller works on those before.

    Args:
        pictures: What to read.

    Yields:
        Each picture, in order, with its (H, W, 3) uint8 RGB pixels, or the ImageError that says why there are none.
    """
    from wholepose.errors import ImageError
    from wholepose.images import load_image

    def load(picture: Picture) -> NDArray[np.uint8] | Exception:
        try:
            return load_image(picture.path)
        except ImageError as error:
            return error

    waiting: deque[tuple[Picture, Future[NDArray[np.uint8] | Exception]]] = deque()
    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wholepose-reader")
    try:
        for picture in pictures:
            waiting.append((picture, reader.submit(load, picture)))
            if len(waiting) > _READ_AHEAD:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class People:
    """Where the boxes come from: always the same ones, the whole image, or a detector (also a file of boxes).

    Attributes:
        detector: Asked where neither of the others is set.
        boxes: (N, 4) xyxy pixels, the same in every picture.
        whole_image: One box that holds all of each picture.
        max_people: Most people a picture, best first; None is all.
    """

    detector: PersonDetector | None = None
    boxes: NDArray[np.float32] | None = None
    whole_image: bool = False
    max_people: int | None = None

    @property
    def searches(self) -> bool:
        """A detector looks at the pictures, and may find somebody twice; a file of boxes says what is wanted."""
        from wholepose.detectors import NamedPersonDetector

        return self.detector is not None and not isinstance(self.detector, NamedPersonDetector)

    def shared(self, runtime: Runtime) -> People:
        """The same, with a detector that takes as many CPU threads a call as a pose model does."""
        from wholepose.runtimes import OnCores, on_threads

        return (
            replace(self, detector=on_threads(self.detector, runtime.threads)) if isinstance(runtime, OnCores) else self
        )

    def find(self, picture: Picture, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gives a picture's people.

        Args:
            picture: Its path may be what the boxes are filed under.
            image: (H, W, 3) uint8 RGB.

        Returns:
            Boxes (N, 4) float32 xyxy and their scores (N,) float32.

        Raises:
            ValueError: A box is not usable; the message names the row.
        """
        import numpy as np

        from wholepose.boxes import check_person_boxes, whole_image_box
        from wholepose.detectors import detect_people

        if self.detector is None:
            fixed = whole_image_box(image) if self.whole_image else self.boxes
            boxes = check_person_boxes([] if fixed is None else fixed)
            return boxes, np.ones(len(boxes), np.float32)
        found = detect_people(self.detector, [image], [os.fspath(picture.path)])[0]
        best = slice(self.max_people)
        return check_person_boxes(found.boxes[best]), found.scores[best]

    def find_in_frames(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Gives the people of frames of a video, which have no path; otherwise like ``find``."""
        import numpy as np

        from wholepose.boxes import check_person_boxes, whole_image_box

        if self.detector is None:
            fixed = [whole_image_box(image) if self.whole_image else self.boxes for image in images]
            checked = [check_person_boxes([] if boxes is None else boxes) for boxes in fixed]
            return [(boxes, np.ones(len(boxes), np.float32)) for boxes in checked]
        best = slice(self.max_people)
        return [(found.boxes[best], found.scores[best]) for found in self.detector.detect(images)]
