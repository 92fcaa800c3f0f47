"""Motion without jitter: One-Euro while a video runs, Savitzky-Golay without delay afterwards."""

from wholepose.smoothing.offline import DelayedSmoother, smooth_sequence
from wholepose.smoothing.one_euro import OneEuroSmoother

__all__ = ["DelayedSmoother", "OneEuroSmoother", "smooth_sequence"]
