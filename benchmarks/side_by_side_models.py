"""Models with made-up weights for ``side_by_side.py``, in the forms that each side reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FILL = Path(__file__).resolve().parent.parent / "tests" / "golden" / "data" / "fill.py"


class MadeUpModel(NamedTuple):
    checkpoint: Path  # as MMPose 0.29 writes it
    onnx: Path
    raw: Path | None  # ends in heatmaps
    int8: Path | None


def made_up_model(
    folder: Path,
    arch: str,
    size: tuple[int, int],
    *,
    protocol: str = "default",
    raw: bool = False,
    int8: bool = False,
) -> MadeUpModel:
    """Writes a model with the weights of ``fill.py``; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    files = MadeUpModel(
        folder / f"{arch}.pth",
        folder / f"{arch}.onnx",
        folder / f"{arch}_raw.onnx" if raw else None,
        folder / f"{arch}_int8.onnx" if int8 else None,
    )
    if not all(path.exists() for path in files[:3] if path is not None):
        import torch

        from wholepose.export.exporter import export_onnx
        from wholepose.models.posenet import build_model
        from wholepose.weights import ModelCard

        model = build_model(arch, 136).eval()
        # Filled under the names of MMPose, in which the head's differ.
        names = {key: key.replace("head.", "keypoint_head.", 1) for key in model.state_dict()}
        shapes = {names[key]: tuple(value.shape) for key, value in model.state_dict().items()}
        weights = {key: torch.from_numpy(value) for key, value in _fill()(shapes).items()}
        model.load_state_dict({key: weights[name] for key, name in names.items()})
        torch.save({"meta": {}, "state_dict": weights}, files.checkpoint)
        card = ModelCard(name=arch, arch=arch, skeleton="halpe136", input_size=size, protocol=protocol)
        export_onnx(model, card, files.onnx)
        if files.raw is not None:
            export_onnx(model, card, files.raw, raw=True)
    if files.int8 is not None and not files.int8.exists():
        from wholepose.export.quantization import quantize_onnx
        from wholepose.export.verification import draw_pictures

        # Made-up weights tell nothing about the keypoints of trained ones, so any change will do.
        quantize_onnx(files.onnx, files.int8, draw_pictures(8, size), max_change_px=np.inf)
    return files


def _fill() -> Any:
    spec = importlib.util.spec_from_file_location("fill", FILL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill


def float_input(raw: Path) -> bytes:
    """The graph of a raw export without its first nodes: it takes (1, 3, H, W) float32 pixels less the mean."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(raw)
    nodes = list(model.graph.node)
    first = next(index for index, node in enumerate(nodes) if node.op_type == "Sub")
    height, width = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:3])
    pixels = helper.make_tensor_value_info(nodes[first].output[0], TensorProto.FLOAT, ["batch", 3, height, width])
    del model.graph.node[:]
    model.graph.node.extend(nodes[first + 1 :])
    del model.graph.input[:]
    model.graph.input.append(pixels)
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.metadata_props[:]
    data: bytes = model.SerializeToString()
    return data
