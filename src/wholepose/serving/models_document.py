"""What ``GET /v1/models`` tells: the model, its skeleton, and the limits."""

from __future__ import annotations

from typing import Any

from wholepose.estimator import PoseEstimator
from wholepose.serving.settings import ServerSettings
from wholepose.skeletons import Skeleton

LIMITS = ("max_body_bytes", "max_pixels", "max_boxes", "max_batch_images", "max_batch_body_bytes")


def models_document(estimator: PoseEstimator, settings: ServerSettings) -> dict[str, Any]:
    """The model that the server runs, as JSON."""
    card = estimator.runtime.card
    detector = getattr(estimator.detector, "name", None)
    return {
        "models": [
            {
                "name": card.name,
                "description": card.description,
                "licence": card.licence,
                "input_size": list(card.input_size),
                "detector": detector if isinstance(detector, str) else None,
                "skeleton": _skeleton(estimator.skeleton),
            }
        ],
        "limits": {name: getattr(settings, name) for name in LIMITS},
    }


def _skeleton(skeleton: Skeleton) -> dict[str, Any]:
    return {
        "name": skeleton.name,
        "keypoint_names": list(skeleton.keypoint_names),
        "edges": [{"start": edge.start, "end": edge.end, "color": list(edge.color)} for edge in skeleton.edges],
        "parts": {name: list(indices) for name, indices in skeleton.parts.items()},
        "keypoint_colors": skeleton.keypoint_colors.tolist(),
    }
