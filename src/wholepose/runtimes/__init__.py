"""Engines that run a model: ONNX Runtime (default), OpenVINO and PyTorch, behind one call."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from wholepose.errors import ConfigError
from wholepose.runtimes.base import CropPredictions, Device, OnCores, Precision, Runtime, RuntimeName, on_threads
from wholepose.runtimes.choices import find_choice

__all__ = [
    "CropPredictions",
    "Device",
    "OnCores",
    "Precision",
    "Runtime",
    "RuntimeName",
    "load_runtime",
    "on_threads",
]

_ENGINES: dict[str, tuple[RuntimeName, ...]] = {".onnx": ("onnx", "openvino"), ".safetensors": ("torch",)}
"""Which engines read a file, by its suffix; the first one needs no choice."""


def load_runtime(
    path: str | Path,
    *,
    runtime: RuntimeName = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Runtime:
    """Loads a model file into an engine that reads it.

    Args:
        path: ``.onnx`` (from ``wholepose export``) or ``.safetensors`` (from ``wholepose convert`` or training).
        runtime: A name insists. ``"auto"`` takes what ``wholepose bench`` found fastest for this file here, else goes
            by the file's suffix, and never measures anything.
        device: ``"auto"`` takes a GPU that the engine supports, else the CPU.
        precision: Of the arithmetic. ``"bf16"`` runs an ONNX file in OpenVINO; one in int8 stays in int8.
        threads: CPU threads; all cores that this process may use when None.

    Returns:
        The runtime, ready to predict.

    Raises:
        ConfigError: The engine does not read such a file, or lacks the device, the precision or its extra.
        WeightsError: The file is missing, damaged or not a wholepose model.
    """
    path = Path(path)
    for option, value, values in (("device", device, get_args(Device)), ("precision", precision, get_args(Precision))):
        if value not in values:
            raise ConfigError(f"{option} must be one of {', '.join(values)}, not {value!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    engines = _ENGINES.get(path.suffix.lower())
    if engines is None:
        remedy = "; turn a checkpoint into one with `wholepose convert`" if path.suffix in (".pth", ".pt") else ""
        raise ConfigError(
            f"{path}: no runtime reads {path.suffix or 'a file without suffix'!r}, only .onnx and .safetensors{remedy}"
        )
    if runtime == "auto":
        choice = find_choice(path, device, precision)
        if choice is not None and choice.runtime in engines:
            runtime, threads = choice.runtime, threads or choice.threads
        else:
            runtime = "openvino" if precision == "bf16" and "openvino" in engines else engines[0]
    if runtime not in engines:
        other = next((suffix for suffix, names in _ENGINES.items() if runtime in names), None)
        reads = f"reads {other} files" if other else "does not exist (choose auto, onnx, openvino or torch)"
        raise ConfigError(f"{path}: runtime {runtime!r} {reads}; this file runs on {' or '.join(map(repr, engines))}")
    if runtime == "onnx":
        from wholepose.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, device=device, precision=precision, threads=threads)
    if runtime == "openvino":
        from wholepose.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, device=device, precision=precision, threads=threads)
    from wholepose.runtimes.torch import TorchRuntime

    return TorchRuntime(path, device=device, precision=precision, threads=threads)
