"""One way to open and run a detector's ONNX file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from wholepose.errors import WeightsError
from wholepose.runtimes.base import available_cores
from wholepose.weights.onnx_file import check_onnx_file, file_stamp

_ERRORS_ONLY, _FATAL_ONLY = 3, 4

_Detector = TypeVar("_Detector", bound="OnSession")


class DetectorSession:
    """An ONNX model on the CPU. Several threads may share one.

    Args:
        path: The ``.onnx`` file.
        threads: CPU threads; all cores that this process may use when None.

    Raises:
        WeightsError: The file is missing, not ONNX, or keeps weights outside its folder.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self.threads = threads or available_cores()
        self._siblings: dict[int, DetectorSession] = {self.threads: self}
        self._stamp = file_stamp(path)
        self.metadata: Mapping[str, str] = check_onnx_file(path).metadata
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Threads that spin after their work would take the cores from the pose model, which comes next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen types without a base of their own
            raise WeightsError(f"{path}: ONNX Runtime cannot load this model: {_first_line(error)}") from error
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY

    def with_threads(self, threads: int) -> DetectorSession:
        """The same model on another number of CPU threads, loaded once; itself where its file is another by now."""
        if threads not in self._siblings:
            if file_stamp(self.path) != self._stamp:
                return self
            self._siblings[threads] = DetectorSession(self.path, threads)
        return self._siblings[threads]

    @property
    def inputs(self) -> list[Any]:
        """The inputs that must be given, with ``name``, ``type`` and ``shape``."""
        return list(self._session.get_inputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs the model.

        Args:
            feeds: Arrays by the names of inputs.

        Returns:
            All outputs, in the order of the file.

        Raises:
            WeightsError: The model fails, or an output is no array.
        """
        try:
            outputs = self._session.run(None, dict(feeds), self._run_options)
        except Exception as error:
            raise WeightsError(f"{self.path}: the model fails in ONNX Runtime: {_first_line(error)}") from error
        if not all(isinstance(output, np.ndarray) for output in outputs):
            raise WeightsError(f"{self.path}: an output is no array of numbers, so this is no person detector")
        return list(outputs)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


class OnSession:
    """What detectors on a session have in common."""

    _session: DetectorSession

    @property
    def threads(self) -> int:
        """How many CPU threads a call takes."""
        return self._session.threads

    def with_threads(self: _Detector, threads: int) -> _Detector:
        """The same detector for callers who make several calls at once; see ``OnCores``.

        Args:
            threads: How many CPU threads a call shall take.
        """
        other = copy.copy(self)
        other._session = self._session.with_threads(threads)
        return other
