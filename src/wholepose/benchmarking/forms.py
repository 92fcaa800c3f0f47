"""The ways in which a model file can be run on this machine: engine, device, precision, threads."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from wholepose.errors import WholeposeError
from wholepose.runtimes import Device, Precision, Runtime, RuntimeName, load_runtime
from wholepose.runtimes.base import available_cores
from wholepose.weights import read_card

_MODULES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
_EXTRAS = {"openvino": "openvino", "torch": "train"}


@dataclass(frozen=True)
class Form:
    """One way of running one file.

    Attributes:
        path: The model file.
        runtime: The engine.
        device: ``"cpu"`` or ``"cuda"``.
        precision: Of the arithmetic; that of an int8 file is fixed by the file.
        threads: CPU threads of a call.
        int8: The file was quantised; only its first and last layer are in ``precision``.
        option: ``""``, or for PyTorch ``"plain layout"`` or ``"compiled"``, which only a benchmark runs.
    """

    path: Path
    runtime: RuntimeName
    device: Device
    precision: Precision
    threads: int
    int8: bool = False
    option: str = ""

    @property
    def name(self) -> str:
        """Such as ``"openvino-cpu bf16"``."""
        words = [f"{self.runtime}-{self.device}", "int8" if self.int8 else self.precision, self.option]
        return " ".join(word for word in words if word)

    def load(self) -> Runtime:
        """Loads the file; see ``load_runtime``."""
        runtime = load_runtime(
            self.path, runtime=self.runtime, device=self.device, precision=self.precision, threads=self.threads
        )
        if self.option:
            _change(runtime, self.option)
        return runtime


@dataclass(frozen=True)
class Absent:
    """A way of running a file that is not to be had here.

    Attributes:
        path: The model file.
        name: As a form's.
        reason: Why, and what would help.
    """

    path: Path
    name: str
    reason: str


def forms_of(
    path: Path, *, device: Device = "auto", threads: int | None = None, compiled: bool = False
) -> tuple[list[Form], list[Absent]]:
    """Lists how a model file can be run here.

    Args:
        path: ``.onnx`` or ``.safetensors``.
        device: ``"auto"`` lists the CPU, and an NVIDIA GPU where an engine finds one.
        threads: CPU threads; all cores when None.
        compiled: List PyTorch's compiler too, which takes minutes to start.

    Returns:
        What there is, the plain float32 form first, and what there is not.

    Raises:
        WeightsError: The file is not a wholepose model.
    """
    cores = threads or available_cores()
    forms: list[Form] = []
    absent: list[Absent] = []
    int8 = read_card(path).name.endswith("_int8")

    def add(runtime: RuntimeName, on: Device, precision: Precision = "fp32", option: str = "") -> None:
        form = Form(path, runtime, on, precision, cores, int8, option)
        if _is_installed(runtime):
            forms.append(form)
        else:
            reason = f"not installed: pip install 'wholepose[{_EXTRAS[runtime]}]'"
            absent.append(Absent(path, form.name, reason))

    if device != "cuda":
        if path.suffix.lower() == ".onnx":
            add("onnx", "cpu")
            add("openvino", "cpu")
            if not int8:
                add("openvino", "cpu", "bf16")
        else:
            add("torch", "cpu")
            add("torch", "cpu", "bf16")
            add("torch", "cpu", option=_PLAIN)
            if compiled:
                add("torch", "cpu", option=_COMPILED)
    if device != "cpu":
        _add_cuda(path, cores, forms, absent, asked=device == "cuda")
    return forms, absent


def _add_cuda(path: Path, cores: int, forms: list[Form], absent: list[Absent], *, asked: bool) -> None:
    if path.suffix.lower() == ".onnx":
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            forms.append(Form(path, "onnx", "cuda", "fp32", cores, read_card(path).name.endswith("_int8")))
        elif asked:
            absent.append(Absent(path, "onnx-cuda", "this ONNX Runtime has no CUDA: pip install onnxruntime-gpu"))
        return
    if not _is_installed("torch"):
        return
    import torch

    if torch.cuda.is_available():
        forms += [Form(path, "torch", "cuda", precision, cores) for precision in ("fp32", "bf16", "fp16")]
    elif asked:
        absent.append(Absent(path, "torch-cuda", "this PyTorch finds no NVIDIA GPU"))


def load_forms(forms: list[Form]) -> tuple[dict[Form, Runtime], list[Absent]]:
    """Loads what can be loaded; an engine that fails is told of instead of ending the run."""
    loaded: dict[Form, Runtime] = {}
    absent = []
    for form in forms:
        try:
            loaded[form] = form.load()
        except WholeposeError as error:
            absent.append(Absent(form.path, form.name, str(error)))
    return loaded, absent


def _is_installed(runtime: RuntimeName) -> bool:
    try:
        return importlib.util.find_spec(_MODULES[runtime]) is not None
    except ValueError:  # a module without a spec
        return False


_PLAIN = "plain layout"
_COMPILED = "compiled"


def _change(runtime: Runtime, option: str) -> None:
    """Undoes or adds what the PyTorch runtime has settled on, to show what that gains."""
    import torch

    from wholepose.runtimes.torch import TorchRuntime

    assert isinstance(runtime, TorchRuntime)
    model = runtime._model
    if option == _PLAIN:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # its annotations lack it
    else:
        model.backbone.compile()
