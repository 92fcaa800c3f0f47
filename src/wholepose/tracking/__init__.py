"""Who is who from frame to frame: people keep their numbers while they move and hide behind each other."""

from wholepose.tracking.assignment import assign
from wholepose.tracking.tracker import PoseTracker

__all__ = ["PoseTracker", "assign"]
