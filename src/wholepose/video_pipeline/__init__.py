"""From a video to the poses of its people, in threads and in bounded memory."""

from wholepose.video_pipeline.carrying import carried_boxes
from wholepose.video_pipeline.pipeline import (
    MAX_FRAMES_IN_FLIGHT,
    BatchPredictor,
    FindPeople,
    Smoother,
    Tracker,
    VideoPoses,
    most_workers,
)

__all__ = [
    "MAX_FRAMES_IN_FLIGHT",
    "BatchPredictor",
    "FindPeople",
    "Smoother",
    "Tracker",
    "VideoPoses",
    "carried_boxes",
    "most_workers",
]
