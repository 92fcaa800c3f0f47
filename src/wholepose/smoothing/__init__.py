"""Motion without jitter: One-Euro while a video runs, Savitzky-Golay without delay afterwards."""

from wholepose.smoothing.offline import smooth_sequence
from wholepose.smoothing.one_euro import OneEuroSmoother

__all__ = ["OneEuroSmoother", "smooth_sequence"]
