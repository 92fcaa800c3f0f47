"""Annotations, datasets, augmentation and samplers; knows no model and needs no PyTorch."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "AnnotationSet": "annotations",
    "AugmentConfig": "augment",
    "Batch": "dataset",
    "BatchSampler": "sampler",
    "DrawnSource": "drawn",
    "NO_AUGMENTATION": "augment",
    "PhotoStore": "photos",
    "PoseDataset": "dataset",
    "Sample": "dataset",
    "Source": "dataset",
    "collate": "dataset",
    "read_annotations": "annotations",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_EXPORTS)
