"""Many machines: pictures and videos of any file system to Parquet, on a Ray cluster or on this machine."""

from wholepose.distributed.job import DatasetReport, predict_dataset
from wholepose.distributed.worker import DatasetOptions

__all__ = ["DatasetOptions", "DatasetReport", "predict_dataset"]
