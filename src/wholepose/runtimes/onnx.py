"""ONNX Runtime: runs the files that ``wholepose export`` writes, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from wholepose.errors import ConfigError, WeightsError
from wholepose.runtimes.base import (
    CropPredictions,
    Device,
    Precision,
    available_cores,
    check_crops,
    check_predictions,
    predict_by_heatmaps,
    predict_in_halves,
)
from wholepose.runtimes.graph_check import GraphPort, check_graph
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard
from wholepose.weights.onnx_file import check_onnx_file, file_stamp

_CUDA = "CUDAExecutionProvider"
# ONNX Runtime's log levels. Its warnings are about its own optimiser, and what fails in a run is raised as well.
_ERRORS_ONLY, _FATAL_ONLY = 3, 4
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_LARGEST_SPLIT_BYTES = 64_000_000
_FEWEST_CROPS_A_CORE = 2
_MEMORY_ERRORS = ("Failed to allocate memory", "out of memory", "bad_alloc", "bad allocation", "BFCArena")


class OnnxRuntime:
    """A model file in ONNX Runtime. Several threads may share one.

    Files whose graph ends in keypoints are run as they are; of those exported with ``--raw``, the heatmaps are decoded
    here, and the flip test is made here, by the same rules.

    Args:
        path: The ``.onnx`` file.
        device: ``"auto"`` takes an NVIDIA GPU where ``onnxruntime-gpu`` finds one, else the CPU.
        precision: Only ``"fp32"``: the precision of an ONNX file is fixed when it is exported.
        threads: CPU threads; all cores that this process may use when None.

    Raises:
        ConfigError: The device or the precision is not to be had here.
        WeightsError: The file is missing, not ONNX, keeps weights outside itself, or is not a wholepose model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        path = Path(path)
        if precision != "fp32":
            raise ConfigError(
                f"{path}: ONNX Runtime runs a file in the precision it was exported in, so precision must be fp32, "
                f"not {precision}; for bf16 use the openvino runtime, or a .safetensors model with the torch runtime"
            )
        providers = _providers(device)
        self._stamp = file_stamp(path)
        check_onnx_file(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._path, self._threads = path, threads or available_cores()
        self._siblings: dict[int, OnnxRuntime] = {self._threads: self}
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that wait at full load save 2 % of a call alone, but take the cores from a detector.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A plan of memory for each batch size costs a second arena (a fifth more memory) and saves no time.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime has a dozen types without a base of their own
            raise WeightsError(f"{path}: ONNX Runtime cannot load this model: {_first_line(error)}") from error
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY
        self._on_cuda = self._session.get_providers()[0] == _CUDA
        if device == "cuda" and not self._on_cuda:
            raise ConfigError(
                "device 'cuda': ONNX Runtime could not start CUDA (driver or CUDA libraries missing or of another "
                "version); repair that or choose device 'cpu'"
            )
        self._card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        try:
            self._skeleton = get_skeleton(self._card.skeleton)
        except ConfigError as error:
            raise WeightsError(f"{path}: the model card is wrong: {error}") from error
        # A core that has crops to itself waits for no other after each layer, of which small networks have many with
        # little work in each. It costs a second copy of the weights, and large networks win little.
        self._splits_batches = self._stamp[1] <= _LARGEST_SPLIT_BYTES and self._threads > 1 and not self._on_cuda
        self._gives_heatmaps = check_graph(
            _ports(self._session.get_inputs()),
            _ports(self._session.get_outputs()),
            self._card,
            self._skeleton.num_keypoints,
            path,
        )
        self._has_flip_test = any(
            node.name == "flip_test"
            for node in (*self._session.get_inputs(), *self._session.get_overridable_initializers())
        )

    @property
    def card(self) -> ModelCard:
        """What the weights are."""
        return self._card

    @property
    def name(self) -> str:
        """``"onnx-cpu"`` or ``"onnx-cuda"``."""
        return "onnx-cuda" if self._on_cuda else "onnx-cpu"

    @property
    def threads(self) -> int:
        """How many CPU threads a call takes."""
        return self._threads

    def with_threads(self, threads: int) -> OnnxRuntime:
        """The same model for callers who make several calls at once; see ``OnCores``. It is loaded once.

        Args:
            threads: How many CPU threads a call shall take.

        Returns:
            This runtime where it does so already, runs on a GPU, or its file is no longer the one that was loaded; else
            another one.
        """
        if self._on_cuda:
            return self
        if threads not in self._siblings:
            if file_stamp(self._path) != self._stamp:
                return self
            self._siblings[threads] = OnnxRuntime(self._path, device="cpu", threads=threads)
        return self._siblings[threads]

    def predict(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropPredictions:
        """Finds the keypoints of each crop; see ``Runtime.predict``.

        Args:
            crops: (B, H, W, 3) uint8 RGB of the card's input size; B may be 0.
            flip_test: Average with the prediction on the mirrored crops. It is asked of the graph explicitly, so that a
                file exported with another default gives the same answer.

        Returns:
            B x K keypoints in crop pixels.

        Raises:
            ValueError: The crops have another shape or dtype.
            WeightsError: The graph has no flip test, fails, or answers with numbers that are not finite.
        """
        check_crops(crops, self._card)
        if len(crops) == 0:
            return CropPredictions.empty(self._skeleton.num_keypoints)
        if len(crops) >= _FEWEST_CROPS_A_CORE * self._threads and (one_core := self._one_core()) is not None:
            with ThreadPoolExecutor(self._threads) as cores:
                pieces = np.array_split(crops, self._threads)
                parts = list(cores.map(partial(one_core.predict, flip_test=flip_test), pieces))
            return CropPredictions.concatenate(parts)
        run = self._run_heatmaps if self._gives_heatmaps else self._run_keypoints
        try:
            predictions = predict_in_halves(lambda part: run(part, flip_test), crops, _is_out_of_memory)
        except WeightsError:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                raise ConfigError(
                    f"{self._card.name}: not even one crop fits into the memory of {self.name}"
                ) from error
            raise WeightsError(f"{self._card.name}: the model fails in ONNX Runtime: {_first_line(error)}") from error
        return check_predictions(predictions, self._card)

    def _one_core(self) -> OnnxRuntime | None:
        """This model on one thread, where batches are to be split and the file is still the one that was loaded."""
        if not self._splits_batches:
            return None
        single = self.with_threads(1)
        return None if single is self else single

    def _run_keypoints(self, crops: NDArray[np.uint8], flip_test: bool) -> CropPredictions:
        feeds: dict[str, NDArray[Any]] = {"crops": crops}
        if self._has_flip_test:
            feeds["flip_test"] = np.array(bool(flip_test))
        elif flip_test:
            raise WeightsError(
                f"{self._card.name}: this ONNX file was written without a flip test; export it again, or leave it off"
            )
        keypoints, scores, covariances = self._session.run(
            ["keypoints", "scores", "covariances"], feeds, self._run_options
        )
        return CropPredictions(keypoints, scores, covariances)

    def _run_heatmaps(self, crops: NDArray[np.uint8], flip_test: bool) -> CropPredictions:
        def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            heatmaps: NDArray[np.float32] = self._session.run(["heatmaps"], {"crops": batch}, self._run_options)[0]
            return heatmaps

        return predict_by_heatmaps(run, crops, self._card, flip_test=flip_test)


def _providers(device: Device) -> list[str]:
    """ONNX Runtime's execution providers for a device, the preferred one first."""
    available = onnxruntime.get_available_providers()
    if device == "mps":
        raise ConfigError("device 'mps': ONNX files run on cpu or cuda; use a .safetensors model for mps")
    if device == "cuda" and _CUDA not in available:
        raise ConfigError("device 'cuda': this ONNX Runtime has no CUDA: pip install onnxruntime-gpu, or choose 'cpu'")
    gpu = [_CUDA] if device != "cpu" and _CUDA in available else []
    return [*gpu, "CPUExecutionProvider"]


def _ports(nodes: Any) -> list[GraphPort]:
    return [GraphPort(node.name, _DTYPES.get(node.type, node.type), node.shape) for node in nodes]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _MEMORY_ERRORS)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
