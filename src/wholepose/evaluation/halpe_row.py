"""The published Halpe row: which files it needs, whether they are the right ones, and its numbers.

HRNet-W48 384x288 with DARK, trained on COCO and fine-tuned on Halpe v1, on Halpe v1 val with the person boxes of a
detector of 56.4 AP and flip test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wholepose.data.annotations import AnnotationSet
from wholepose.data.prepare import Piece, get_data_set
from wholepose.errors import AnnotationError, WeightsError, require
from wholepose.estimator import PoseEstimator
from wholepose.geometry import Protocol
from wholepose.runtimes import Device, Precision
from wholepose.weights import REGISTRY, cached_path, sha256_of

CHECKPOINT = REGISTRY["hrnet_w48_384x288.mmpose_halpe136"]
PUBLISHED: Mapping[str, tuple[float, float]] = {"seed page": (0.531, 0.642), "later releases": (0.527, 0.620)}
"""Whole AP and AR as two editions of the reference's documentation give them."""

IMAGES = 5_000
"""Pictures of COCO val2017, which Halpe v1 val labels."""

_CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True)
class RowFiles:
    """The official files.

    Attributes:
        annotations: ``halpe_val_v1.json``.
        images: The folder ``val2017``.
        detections: ``COCO_val2017_detections_AP_H_56_person.json``.
        checkpoint: The model.
    """

    annotations: Path
    images: Path
    detections: Path
    checkpoint: Path


def find_files(root: Path, checkpoint: Path | None = None) -> RowFiles:
    """Finds the four files.

    Each is looked for where ``wholepose data prepare halpe`` puts it, and then in the root folder itself; the
    checkpoint in ``checkpoints``, in the root folder and among the imported weights.

    Args:
        root: The folder that holds them.
        checkpoint: The checkpoint, where it is elsewhere.

    Returns:
        Where they are.

    Raises:
        AnnotationError: Some are missing; the message says of each where it comes from and where it goes.
    """
    pieces = [piece for piece in get_data_set("halpe").pieces if piece.split == "val"]
    places = [[root / piece.path, root / Path(piece.path).name] for piece in pieces]
    found = [next((place for place in choices if place.exists()), None) for choices in places]
    lines = [_missing(piece, root) for piece, place in zip(pieces, found, strict=True) if place is None]
    if checkpoint is None:
        name = CHECKPOINT.file_name
        choices = [root / _CHECKPOINT_FOLDER / name, root / name, cached_path(CHECKPOINT)]
        checkpoint = next((place for place in choices if place.is_file()), None)
        if checkpoint is None:
            lines.append(
                f"{choices[0]}\n      the model, sha256 {CHECKPOINT.expected}, from {CHECKPOINT.source_by_hand}\n"
                f"      {CHECKPOINT.note}; or name it with --checkpoint FILE"
            )
    elif not checkpoint.is_file():
        lines.append(f"{checkpoint}\n      there is no such file; --checkpoint names the model")
    if lines:
        listed = "\n  ".join(lines)
        raise AnnotationError(
            f"{len(lines)} of 4 official files are missing. Put them here:\n  {listed}\n"
            f"`wholepose data prepare halpe --root {root} --download` fetches and unpacks what has a direct address"
        )
    there = [(piece, place) for piece, place in zip(pieces, found, strict=True) if place is not None]
    assert checkpoint is not None
    return RowFiles(
        annotations=next(place for piece, place in there if not piece.images and not piece.boxes),
        images=next(place for piece, place in there if piece.images),
        detections=next(place for piece, place in there if piece.boxes),
        checkpoint=checkpoint,
    )


def _missing(piece: Piece, root: Path) -> str:
    sources = [f"in a browser from {name}, {url}" for name, url in piece.pages]
    if piece.archive is not None and piece.archive.url is not None:
        sources.insert(0, f"unpacked from {piece.archive.url}")
    return f"{root / piece.path}\n      {'; or '.join(sources)}"


def check_checkpoint(path: Path, *, allow_other: bool) -> str:
    """Checks a checkpoint's hash against the official one.

    Args:
        path: The file.
        allow_other: Go on with another file.

    Returns:
        A warning, empty for the official file.

    Raises:
        WeightsError: It is another file, or cannot be read.
    """
    sha256 = sha256_of(path)
    if sha256.startswith(CHECKPOINT.sha256):
        return ""
    told = f"{path}: sha256 {sha256} is not the official checkpoint's, {CHECKPOINT.expected}"
    if not allow_other:
        raise WeightsError(f"{told}; get {CHECKPOINT.file_name}, or go on with --allow-other-checkpoint")
    return f"{told}: the numbers below are not the published model's"


def check_data(annotations: AnnotationSet, boxes: int) -> list[str]:
    """Compares counts with those of the official files.

    Args:
        annotations: What was read.
        boxes: How many boxes of people the detection file has for its images.

    Returns:
        Warnings; none for the official files.
    """
    (official,) = (piece.boxes for piece in get_data_set("halpe").pieces if piece.boxes is not None)
    warnings = []
    if len(annotations.image_ids) != IMAGES:
        warnings.append(
            f"{annotations.path} lists {len(annotations.image_ids)} images, Halpe v1 val {IMAGES}: the numbers below "
            "do not compare with the published ones"
        )
    if boxes != official:
        warnings.append(
            f"the detection file has {boxes} boxes for these images, the official one {official}: the numbers below do "
            "not compare with the published ones"
        )
    return warnings


def load_checkpoint_estimator(
    path: Path,
    protocol: Protocol,
    *,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    batch_size: int = 16,
) -> PoseEstimator:
    """Loads a checkpoint in any layout that ``wholepose convert`` reads, without converting the file.

    Args:
        path: The file; one that is not known by its hash is taken to be of the official one's kind.
        protocol: How to decode.
        device: See ``load_runtime``.
        precision: Likewise.
        threads: Likewise.
        batch_size: Most people at once.

    Returns:
        An estimator without a detector.

    Raises:
        WeightsError: The file is damaged, unsafe, or not a network of Halpe's 136 keypoints.
        ConfigError: PyTorch is not installed, or the device is not to be had.
    """
    require("torch", "train")
    require("safetensors", "train")
    from wholepose.models.convert import CardOptions, open_checkpoint
    from wholepose.runtimes.torch import TorchRuntime

    opened = open_checkpoint(
        path,
        CardOptions(
            skeleton=CHECKPOINT.skeleton, input_size=CHECKPOINT.input_size, decode_kernel=CHECKPOINT.decode_kernel
        ),
    )
    runtime = TorchRuntime.from_model(
        opened.model, replace(opened.card, protocol=protocol), device=device, precision=precision, threads=threads
    )
    return PoseEstimator(runtime, batch_size=batch_size)
