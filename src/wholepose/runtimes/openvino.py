"""OpenVINO: runs the files that ``wholepose export`` writes on the CPU, also in bfloat16."""

from __future__ import annotations

import contextlib
import functools
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError, WeightsError, require
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
from wholepose.runtimes.signal_stack import kept_signal_stack
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard
from wholepose.weights.onnx_file import check_onnx_file, file_stamp

_DTYPES = {"u8": "uint8", "f32": "float32"}
_MEMORY_ERRORS = (
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "Failed to allocate",
    "can't alloc",
    "could not create a memory",
)
_OUTPUTS = ("keypoints", "scores", "covariances")


@functools.cache
def shared_core() -> Any:
    """The one entry to OpenVINO of this process, for ever.

    Its plugin for CPUs gives the thread that loads it another stack for signals, and does so badly where there are
    several (seen with 2026.4): one puts back what another has freed, and the next signal that Python handles, such as
    Ctrl-C, ends the process.
    """
    import openvino

    core = openvino.Core()
    with kept_signal_stack():
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


class OpenVinoRuntime:
    """A model file in OpenVINO. Several threads may share one.

    With precision ``"bf16"`` the network runs in bfloat16, and what follows it (the last layer and the decoding) in
    float32, as two graphs that hand over the features. Files in int8 keep their own arithmetic.

    Args:
        path: The ``.onnx`` file.
        device: ``"auto"`` and ``"cpu"`` are the CPU.
        precision: ``"fp32"``, or ``"bf16"`` where the processor has it.
        threads: CPU threads a call; all cores that this process may use when None.

    Raises:
        ConfigError: OpenVINO is not installed, or the device or the precision is not to be had here.
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
        require("openvino", "openvino")
        self._path, self._precision = Path(path), precision
        self._threads = threads or available_cores()
        self._siblings: dict[int, OpenVinoRuntime] = {self._threads: self}
        core = shared_core()
        _check_options(core, device, precision, self._path)
        self._stamp = file_stamp(self._path)
        self._card = ModelCard.from_metadata(check_onnx_file(self._path).metadata, str(path))
        try:
            self._skeleton = get_skeleton(self._card.skeleton)
        except ConfigError as error:
            raise WeightsError(f"{path}: the model card is wrong: {error}") from error
        # Calls made at once share the cores: as many streams as there is room for, each with its own request.
        streams = max(1, available_cores() // self._threads)
        settings = {
            "INFERENCE_NUM_THREADS": self._threads * streams,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        try:
            model = core.read_model(self._path)
            self._gives_heatmaps = check_graph(
                _ports(model.inputs), _ports(model.outputs), self._card, self._skeleton.num_keypoints, self._path
            )
            _check_weights(model, self._card)
            self._has_flip_test = _free_flip_test(model)
            _widen_weights(model)
            network, rest = _split(model) if precision == "bf16" else (model, None)
            compiled = core.compile_model(network, "CPU", settings)
            precise = None
            if rest is not None:
                precise = core.compile_model(rest, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise WeightsError(f"{path}: OpenVINO cannot load this model: {_short(error)}") from error
        self._compiled = [compiled] if precise is None else [compiled, precise]
        self._requests: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        for _ in range(streams):
            second = precise.create_infer_request() if precise is not None else None
            self._requests.put((compiled.create_infer_request(), second))

    @property
    def card(self) -> ModelCard:
        """What the weights are."""
        return self._card

    @property
    def name(self) -> str:
        """``"openvino-cpu"``."""
        return "openvino-cpu"

    @property
    def threads(self) -> int:
        """How many CPU threads a call takes."""
        return self._threads

    def with_threads(self, threads: int) -> OpenVinoRuntime:
        """The same model for callers who make several calls at once; see ``OnCores``. It is loaded once.

        Args:
            threads: How many CPU threads a call shall take.

        Returns:
            This runtime where it does so already, or its file is no longer the one that was loaded; else another one.
        """
        if threads not in self._siblings:
            if file_stamp(self._path) != self._stamp:
                return self
            self._siblings[threads] = OpenVinoRuntime(self._path, precision=self._precision, threads=threads)
        return self._siblings[threads]

    def predict(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropPredictions:
        """Finds the keypoints of each crop; see ``Runtime.predict``.

        Args:
            crops: (B, H, W, 3) uint8 RGB of the card's input size; B may be 0.
            flip_test: Average with the prediction on the mirrored crops.

        Returns:
            B x K keypoints in crop pixels.

        Raises:
            ValueError: The crops have another shape or dtype.
            ConfigError: Not even one crop fits into memory.
            WeightsError: The graph has no flip test, fails, or answers with numbers that are not finite.
        """
        check_crops(crops, self._card)
        if len(crops) == 0:
            return CropPredictions.empty(self._skeleton.num_keypoints)
        try:
            predictions = predict_in_halves(lambda part: self._predict(part, flip_test), crops, _is_out_of_memory)
        except WeightsError:
            raise
        except (RuntimeError, MemoryError) as error:
            if _is_out_of_memory(error):
                raise ConfigError(f"{self._card.name}: not even one crop fits into the memory for OpenVINO") from error
            raise WeightsError(f"{self._card.name}: the model fails in OpenVINO: {_short(error)}") from error
        return check_predictions(predictions, self._card)

    def _predict(self, crops: NDArray[np.uint8], flip_test: bool) -> CropPredictions:
        if self._gives_heatmaps:
            return predict_by_heatmaps(
                lambda batch: self._run({"crops": np.ascontiguousarray(batch)}, ("heatmaps",))[0],
                crops,
                self._card,
                flip_test=flip_test,
            )
        feeds: dict[str, NDArray[Any]] = {"crops": np.ascontiguousarray(crops)}
        if self._has_flip_test:
            feeds["flip_test"] = np.array(flip_test)
        elif flip_test:
            raise WeightsError(
                f"{self._card.name}: this ONNX file was written without a flip test; export it again, or leave it off"
            )
        return CropPredictions(*self._run(feeds, _OUTPUTS))

    def _run(self, feeds: dict[str, NDArray[Any]], names: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Copies of the named outputs."""
        with self._request() as (first, second):
            found = first.infer(feeds, share_inputs=True, share_outputs=second is not None)
            if second is not None:
                more = {_FEATURES: found[_FEATURES]}
                if "flip_test" in feeds and any("flip_test" in port.names for port in second.model_inputs):
                    more["flip_test"] = feeds["flip_test"]
                found = second.infer(more, share_inputs=True)
            return [np.asarray(found[name]) for name in names]

    @contextlib.contextmanager
    def _request(self) -> Iterator[tuple[Any, Any]]:
        """Lends the requests of one stream."""
        requests = self._requests.get()
        try:
            yield requests
        except (RuntimeError, MemoryError) as error:
            if _is_out_of_memory(error):  # else what it got for a batch too large is kept from a smaller one
                for compiled in self._compiled:
                    compiled.release_memory()
            raise
        finally:
            self._requests.put(requests)


_FEATURES = "wholepose_features"


def _check_options(core: Any, device: Device, precision: Precision, path: Path) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device {device!r}: OpenVINO runs here on the CPU only; choose 'cpu', or another runtime")
    if precision == "fp16":
        raise ConfigError(f"{path}: OpenVINO runs on a CPU in fp32 or bf16, not fp16")
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError(f"{path}: this processor has no bf16; choose precision fp32, or an int8 file")


def _ports(ports: Any) -> list[GraphPort]:
    return [
        GraphPort(
            port.any_name,
            _DTYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            [None if side.is_dynamic else side.get_length() for side in port.partial_shape],
        )
        for port in ports
    ]


def _check_weights(model: Any, card: ModelCard) -> None:
    """Raises WeightsError where a weight is not finite: OpenVINO's ReLU turns a NaN into 0, so it would not be seen."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().is_real():
            values = node.data
            if values.size > 1 and not np.isfinite(values).all():  # single ones are for comparisons in the decoder
                raise WeightsError(f"{card.name}: the model's weights are not all finite; the file is damaged")


def _free_flip_test(model: Any) -> bool:
    """Makes the graph's ``flip_test`` an input: OpenVINO reads an input that has a default as a constant.

    Returns:
        Whether there is one.
    """
    from openvino import opset13

    if any("flip_test" in port.names for port in model.inputs):
        return True
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and "flip_test" in node.output(0).names:
            parameter = opset13.parameter([], np.bool_, name="flip_test")
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(parameter.output(0))
            node.output(0).set_names(set())
            parameter.output(0).set_names({"flip_test"})
            model.add_parameters([parameter])
            model.validate_nodes_and_infer_types()
            return True
    return False


def _widen_weights(model: Any) -> None:
    """Brings weights that lie in the file as int8 or float16 to float32, unless the arithmetic is in int8.

    OpenVINO does so itself, but where several streams share a model, int8 weights of some come out wrong without an
    error (seen with 2026.4).
    """
    from openvino import passes

    if not any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        folding = passes.Manager()
        folding.register_pass(passes.ConstantFolding())
        folding.run_passes(model)


def _split(model: Any) -> tuple[Any, Any]:
    """Two graphs in place of one: up to what the last convolution takes, and from there on."""
    import openvino
    from openvino import opset13

    copy = model.clone()
    network = openvino.Model([opset13.result(_last_features(model))], model.get_parameters(), "network")
    network.outputs[0].get_tensor().set_names({_FEATURES})

    cut = _last_features(copy)
    parameter = opset13.parameter(cut.partial_shape, cut.element_type, name=_FEATURES)
    parameter.output(0).set_names({_FEATURES})
    for target in cut.get_target_inputs():
        target.replace_source_output(parameter.output(0))
    flip_test = [node for node in copy.get_parameters() if "flip_test" in node.output(0).names]
    used = [node for node in flip_test if node.output(0).get_target_inputs()]
    return network, openvino.Model(copy.get_results(), [parameter, *used], "decoder")


def _last_features(model: Any) -> Any:
    """What the last convolution takes. The rest of the graph, which decodes, has none."""
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    if not convolutions:
        raise WeightsError("this model has no convolution that could run in bf16; choose precision fp32")
    return convolutions[-1].input_value(0)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _MEMORY_ERRORS)


def _short(error: Exception) -> str:
    """The line of OpenVINO's message that says what is wrong; those before it say where in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
