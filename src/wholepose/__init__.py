"""Whole-body 2D human pose estimation: 136 keypoints a person, top-down, HRNet with DARK heatmaps.

    from wholepose import PoseEstimator, draw_poses, load_image

    estimator = PoseEstimator.from_pretrained()
    poses = estimator.predict(load_image("crowd.jpg"))

What is heavy is imported when it is first used, so that ``import wholepose`` is quick and never loads PyTorch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wholepose.boxes import whole_image_box
    from wholepose.detectors import Detections, PersonDetector, load_detector
    from wholepose.draw import draw_poses
    from wholepose.errors import (
        AnnotationError,
        ConfigError,
        ImageError,
        VideoError,
        WeightsError,
        WholeposeError,
    )
    from wholepose.estimator import PoseEstimator
    from wholepose.images import ImageLimits, load_image, save_image
    from wholepose.outputs import read_poses
    from wholepose.poses import Poses
    from wholepose.runtimes import load_runtime
    from wholepose.skeletons import (
        COCO17,
        COCO_WHOLEBODY133,
        HALPE26,
        HALPE136,
        LSP14,
        MPII16,
        OPENPOSE_BODY25,
        OPENPOSE_FACE70,
        OPENPOSE_HAND21,
        Skeleton,
        get_skeleton,
    )
    from wholepose.videos import Frame, VideoWriter, open_video

    __version__: str

# ONNX Runtime's Linux wheels report usage to their maker since 1.32 unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_EXPORTS = {
    "boxes": ("whole_image_box",),
    "detectors": ("Detections", "PersonDetector", "load_detector"),
    "draw": ("draw_poses",),
    "errors": ("AnnotationError", "ConfigError", "ImageError", "VideoError", "WeightsError", "WholeposeError"),
    "estimator": ("PoseEstimator",),
    "images": ("ImageLimits", "load_image", "save_image"),
    "outputs": ("read_poses",),
    "poses": ("Poses",),
    "runtimes": ("load_runtime",),
    "skeletons": (
        "COCO17",
        "COCO_WHOLEBODY133",
        "HALPE26",
        "HALPE136",
        "LSP14",
        "MPII16",
        "OPENPOSE_BODY25",
        "OPENPOSE_FACE70",
        "OPENPOSE_HAND21",
        "Skeleton",
        "get_skeleton",
    ),
    "videos": ("Frame", "VideoWriter", "open_video"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "COCO17",
    "COCO_WHOLEBODY133",
    "HALPE26",
    "HALPE136",
    "LSP14",
    "MPII16",
    "OPENPOSE_BODY25",
    "OPENPOSE_FACE70",
    "OPENPOSE_HAND21",
    "AnnotationError",
    "ConfigError",
    "Detections",
    "Frame",
    "ImageError",
    "ImageLimits",
    "PersonDetector",
    "PoseEstimator",
    "Poses",
    "Skeleton",
    "VideoError",
    "VideoWriter",
    "WeightsError",
    "WholeposeError",
    "__version__",
    "draw_poses",
    "get_skeleton",
    "load_detector",
    "load_image",
    "load_runtime",
    "open_video",
    "read_poses",
    "save_image",
    "whole_image_box",
]


def __getattr__(name: str) -> Any:
    """Imports an exported name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("wholepose")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f"wholepose.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module 'wholepose' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
