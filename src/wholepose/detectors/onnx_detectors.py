"""ONNX exports of YOLOX and RTMDet, whatever tool wrote them, as long as they learnt COCO's classes or people alone.

What comes out of the network says which layout it is:

* (1, cells, 5 + classes), YOLOX as its own export writes it: box, objectness and classes of every cell, with or without
  ``--decode_in_inference``; suppression happens here.
* boxes (1, N, 5) with scores, and labels (1, N): MMDeploy's "end2end" export, suppression inside.
* count (1, 1), boxes (1, N, 4), scores (1, N) and labels (1, N): MMYOLO's and TensorRT's way of the same.
* (1, N, 5), people only, or (1, N, 6) with the class in the last column, suppression inside.

YOLOX wants BGR from 0 to 255, RTMDet BGR less mean by deviation; both want the picture in the upper left corner on
gray. The last three layouts do not tell the two apart, so there the file's name decides, or the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wholepose.detectors.base import Detections, check_images, make_detections, non_maximum_suppression
from wholepose.detectors.letterbox import GRAY, letterbox
from wholepose.detectors.session import DetectorSession, OnSession
from wholepose.errors import ConfigError, WeightsError

Family = Literal["yolox", "rtmdet"]
Layout = Literal["cells", "decoded cells", "boxes and labels", "counted", "rows"]

DYNAMIC_SIDE = 640
"""Side of the input, in pixels, where the network would take any."""

_PERSON = 0
_NMS_IOU = 0.45
_YOLOX_STRIDES = (8, 16, 32)
_RTMDET_MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
_RTMDET_STD_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)


class OnnxDetector(OnSession):
    """An ONNX export of YOLOX or RTMDet.

    Args:
        path: The file.
        family: What it was trained as; None tells from the layout, else from the file's name.
        threshold: Lowest score that counts.
        threads: CPU threads of ONNX Runtime; None lets it choose.

    Raises:
        WeightsError: The file is missing, damaged, or no detector of a known layout.
        ConfigError: The layout fits both families and the file's name does not say which it is.
    """

    def __init__(
        self, path: str | Path, *, family: Family | None = None, threshold: float = 0.3, threads: int | None = None
    ) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        self.threshold = threshold
        self._session = DetectorSession(self.path, threads)
        inputs = self._session.inputs
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            found = ", ".join(f"{entry.name} {entry.shape}" for entry in inputs)
            raise WeightsError(f"{self.path}: a detector takes one input (1, 3, height, width), this takes {found}")
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        if inputs[0].type not in types:
            raise WeightsError(f"{self.path}: input {inputs[0].name!r} is {inputs[0].type}; float or float16 is needed")
        self._input_name = str(inputs[0].name)
        self._input_type = types[inputs[0].type]
        height, width = (side if isinstance(side, int) and side > 0 else DYNAMIC_SIDE for side in shape[2:])
        self.input_size = (height, width)
        # A look at what comes out for an empty picture tells more than declared shapes, which may be open.
        outputs = self._run(np.full((*self.input_size, 3), GRAY, dtype=np.uint8), "yolox")
        self.layout = self._recognise(outputs)
        self.family = family or self._guess_family()

    def _guess_family(self) -> Family:
        if self.layout in ("cells", "decoded cells"):
            return "yolox"
        names: tuple[Family, ...] = ("yolox", "rtmdet")
        fitting = [name for name in names if name in self.path.name.lower()]
        if len(fitting) != 1:
            raise ConfigError(
                f"{self.path}: could be YOLOX or RTMDet, which want different pixels; "
                f"say which: 'yolox:{self.path}' or 'rtmdet:{self.path}'"
            )
        return fitting[0]

    def _recognise(self, outputs: list[NDArray[Any]]) -> Layout:
        shapes = [array.shape for array in outputs]
        ranks = [len(shape) for shape in shapes]
        if all(shape[:1] == (1,) for shape in shapes):
            if ranks == [3] and shapes[0][2] >= 6 and shapes[0][1] == sum(map(len, _grid(self.input_size))):
                # Decoded middles are spread over hundreds of pixels, raw ones lie within a cell or two.
                return "decoded cells" if np.median(np.abs(outputs[0][0, :, :2])) > 10 else "cells"
            if ranks == [3] and shapes[0][2] in (5, 6):
                return "rows"
            if ranks == [3, 2] and shapes[0][2] == 5 and shapes[1] == shapes[0][:2]:
                return "boxes and labels"
            if ranks == [2, 3, 2, 2] and shapes[0] == (1, 1) and shapes[1][2] == 4:
                return "counted"
        raise WeightsError(
            f"{self.path}: outputs of shapes {shapes} are neither those of YOLOX, such as (1, 8400, 85), nor of an "
            "export with suppression inside, such as (1, N, 5) and (1, N); export it again with YOLOX's "
            "tools/export_onnx.py or with MMDeploy"
        )

    def _run(self, pixels: NDArray[np.uint8], family: Family) -> list[NDArray[Any]]:
        bgr = pixels[..., ::-1].astype(np.float32)
        if family == "rtmdet":
            bgr = (bgr - _RTMDET_MEAN_BGR) / _RTMDET_STD_BGR
        tensor = np.ascontiguousarray(bgr.transpose(2, 0, 1)[None], dtype=self._input_type)
        return self._session.run({self._input_name: tensor})

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds the people of several images, one after the other.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One entry an image, in the same order.

        Raises:
            ValueError: An image has another shape or dtype, or no pixels.
            WeightsError: The network fails.
        """
        check_images(images)
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> Detections:
        pixels, scale = letterbox(image, self.input_size)
        outputs = self._run(pixels, self.family)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped as not finite
            boxes, scores = self._people(outputs)
            return make_detections(boxes / scale, scores, (image.shape[0], image.shape[1]), self.threshold)

    def _people(self, outputs: list[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (N, 4) in input pixels and scores (N,) of people."""
        first = outputs[0][0].astype(np.float32)
        if self.layout in ("cells", "decoded cells"):
            return self._people_in_cells(first)
        if self.layout == "counted":
            count = max(0, int(outputs[0][0, 0]))
            boxes, scores, labels = (array[0, :count] for array in outputs[1:])
        elif self.layout == "boxes and labels":
            boxes, scores, labels = first[:, :4], first[:, 4], outputs[1][0]
        else:
            boxes, scores = first[:, :4], first[:, 4]
            labels = first[:, 5] if first.shape[1] == 6 else np.full(len(first), _PERSON)
        person = labels == _PERSON
        return boxes[person].astype(np.float32), scores[person].astype(np.float32)

    def _people_in_cells(self, cells: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores = cells[:, 4] * cells[:, 5 + _PERSON]
        likely = np.flatnonzero(scores >= max(self.threshold, 1e-6))
        middle, size, scores = cells[likely, :2], cells[likely, 2:4], scores[likely]
        if self.layout == "cells":
            corners = np.concatenate(_grid(self.input_size))[likely]
            middle, size = (middle + corners[:, :2]) * corners[:, 2:], np.exp(size) * corners[:, 2:]
        boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
        finite = np.isfinite(boxes).all(axis=1)
        boxes, scores = boxes[finite], scores[finite]
        kept = non_maximum_suppression(boxes, scores, _NMS_IOU)
        return boxes[kept], scores[kept]


def _grid(input_size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """YOLOX's cells, level by level: (cells, 3) as column, row and stride."""
    levels = []
    for stride in _YOLOX_STRIDES:
        rows, columns = np.mgrid[: input_size[0] // stride, : input_size[1] // stride]
        levels.append(np.stack([columns, rows, np.full_like(rows, stride)], axis=-1).reshape(-1, 3).astype(np.float32))
    return levels
