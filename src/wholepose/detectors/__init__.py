"""Person detectors: image in, boxes out.

Four kinds: the embedded one, ONNX exports of YOLOX and RTMDet, RT-DETR through ``transformers``, and files of boxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from wholepose.detectors.base import Detections, NamedPersonDetector, PersonDetector, detect_people
from wholepose.errors import ConfigError

__all__ = ["Detections", "NamedPersonDetector", "PersonDetector", "detect_people", "load_detector"]


def load_detector(
    spec: str | Path = "default",
    *,
    threshold: float | None = None,
    images: str | Path | None = None,
    input_size: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    offline: bool | None = None,
) -> PersonDetector:
    """Makes a person detector from what a user writes after ``--detector``.

    Args:
        spec: ``"default"`` for the embedded detector; a path to another ``.onnx`` file of its kind, or to an export of
            YOLOX or RTMDet, after ``yolox:`` or ``rtmdet:`` where neither its layout nor its name tells which; a path
            to a ``.json`` (COCO results) or ``.csv`` file of boxes; ``"rtdetr"`` or ``"rtdetr:FOLDER_OR_HUB_NAME"``.
        threshold: Lowest score that counts; None takes the detector's own default, which for a file is 0.
        images: For a file of boxes: a COCO JSON that says which image id is which file.
        input_size: For the embedded detector: the longer side, in pixels, to which it shrinks an image.
        device: For RT-DETR: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``. The others run on the CPU.
        threads: CPU threads of ONNX Runtime; None lets it choose.
        offline: Never download; None asks the environment.

    Returns:
        The detector.

    Raises:
        ConfigError: The specification or an option is not understood, or a package is missing.
        WeightsError: The ONNX file or the RT-DETR folder is missing, damaged or of an unknown kind.
        AnnotationError: The file of boxes is malformed.
    """
    text = str(spec)
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"detector threshold must be between 0 and 1, not {threshold}")
    kind = Path(text).suffix.lower()
    if images is not None and kind != ".json":
        raise ConfigError(f"an image list only goes with a .json file of boxes, not with detector {text!r}")
    if input_size is not None and text != "default":
        raise ConfigError(f"the input size can only be chosen for the default detector, not for {text!r}")
    if text == "default":
        from wholepose.detectors.embedded import EmbeddedDetector
        from wholepose.weights import resolve

        return EmbeddedDetector(threshold=threshold, input_size=input_size, threads=threads, path=resolve("detector"))
    if text == "rtdetr" or text.startswith("rtdetr:"):
        from wholepose.detectors.rtdetr import RTDETR_DEFAULT, RtdetrDetector
        from wholepose.weights.download import is_offline

        source = text.partition(":")[2] or RTDETR_DEFAULT
        return RtdetrDetector(
            source,
            threshold=0.5 if threshold is None else threshold,
            device=device,
            offline=is_offline() if offline is None else offline,
        )
    if kind == ".onnx":
        from wholepose.detectors.embedded import EmbeddedDetector, is_own_detector
        from wholepose.detectors.onnx_detectors import OnnxDetector

        prefix, _, rest = text.partition(":")
        family: Literal["yolox", "rtmdet"] | None = None
        if rest and prefix in ("yolox", "rtmdet"):
            family, text = "yolox" if prefix == "yolox" else "rtmdet", rest
        elif is_own_detector(Path(text)):
            return EmbeddedDetector(threshold=threshold, threads=threads, path=Path(text))
        return OnnxDetector(
            Path(text), family=family, threshold=0.3 if threshold is None else threshold, threads=threads
        )
    if kind in (".json", ".csv"):
        from wholepose.detectors.boxes_file import BoxesFileDetector

        return BoxesFileDetector(text, images=images, threshold=threshold or 0.0)
    raise ConfigError(
        f"unknown detector {text!r}: give 'default', 'rtdetr[:FOLDER]', an .onnx file of YOLOX or RTMDet, "
        "or a .json or .csv file of boxes"
    )
