"""Engines that run a model: ONNX Runtime (default) and PyTorch, behind one call."""

from __future__ import annotations

from pathlib import Path

from wholepose.errors import ConfigError
from wholepose.runtimes.base import CropPredictions, Device, OnCores, Precision, Runtime, RuntimeName, on_threads

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

_SUFFIXES = {".onnx": "onnx", ".safetensors": "torch"}


def load_runtime(
    path: str | Path,
    *,
    runtime: RuntimeName = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Runtime:
    """Loads a model file into the engine that reads it.

    Args:
        path: ``.onnx`` (from ``wholepose export``) or ``.safetensors`` (from ``wholepose convert`` or training).
        runtime: ``"auto"`` goes by the file's suffix; a name insists.
        device: ``"auto"`` takes a GPU that the engine supports, else the CPU.
        precision: Of the arithmetic; an ONNX file has its own, fixed when it was exported.
        threads: CPU threads; all cores that this process may use when None.

    Returns:
        The runtime, ready to predict.

    Raises:
        ConfigError: The engine does not read such a file, or lacks the device, the precision or its extra.
        WeightsError: The file is missing, damaged or not a wholepose model.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    needed = _SUFFIXES.get(path.suffix.lower())
    if needed is None:
        remedy = "; turn a checkpoint into one with `wholepose convert`" if path.suffix in (".pth", ".pt") else ""
        raise ConfigError(
            f"{path}: no runtime reads {path.suffix or 'a file without suffix'!r}, only .onnx and .safetensors{remedy}"
        )
    if runtime not in ("auto", needed):
        other = next((suffix for suffix, name in _SUFFIXES.items() if name == runtime), None)
        reads = f"reads {other} files" if other else "does not exist (choose auto, onnx or torch)"
        raise ConfigError(f"{path}: runtime {runtime!r} {reads}; this file runs on {needed!r}")
    if needed == "onnx":
        from wholepose.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, device=device, precision=precision, threads=threads)
    from wholepose.runtimes.torch import TorchRuntime

    return TorchRuntime(path, device=device, precision=precision, threads=threads)
