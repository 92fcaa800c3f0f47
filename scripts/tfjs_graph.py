"""Convolutional networks kept as TensorFlow.js graphs (a JSON file and its weights), called by PyTorch."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PLAIN = {
    "AddV2": torch.add,
    "AddN": lambda *values: sum(values),
    "Relu": torch.relu,
    "Relu6": lambda values: values.clamp(0, 6),
    "Identity": lambda values: values,
    "Sigmoid": torch.sigmoid,
}
"""Operations that need nothing but what goes in."""


class Graph:
    """A graph's nodes, with batches channels first as PyTorch has them.

    Args:
        path: The graph's JSON file; the files of its weights lie beside it.
    """

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        self._nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
        self._weights = _weights(document["weightsManifest"], path.parent)

    def names(self, part: str) -> list[str]:
        """Names of the nodes that contain `part`, in order."""
        return [name for name, node in self._nodes.items() if part in name and node["op"] != "Const"]

    def convolutions(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Filters (O, I, H, W) and bias (O,) of the plain convolutions, by the number at the end of their names."""
        found = []
        for name in (name for name, node in self._nodes.items() if node["op"] == "Conv2D"):
            (added,) = (node["input"] for node in self._nodes.values() if node["op"] == "Add" and name in node["input"])
            (bias,) = (self._weights[entry] for entry in added if entry in self._weights)
            number = name.rpartition("_")[2]
            filters = self._weights[self._nodes[name]["input"][1]].permute(3, 2, 0, 1)
            found.append((int(number) if number.isdigit() else 0, filters, bias.flatten()))
        return [(filters, bias) for _, filters, bias in sorted(found, key=lambda entry: entry[0])]

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, first: str, wanted: list[str]) -> list[torch.Tensor]:
        """What some nodes give.

        Args:
            pixels: (B, C, H, W), scaled as the network wants them, in the place of what goes into `first`.
            first: Name of the node that takes them.
            wanted: Names of nodes.

        Raises:
            ValueError: An operation is not known here.
        """
        values = {self._nodes[first]["input"][0]: pixels.contiguous(memory_format=torch.channels_last)}
        for name in self._needed(wanted, set(values)):
            values[name] = self._call(self._nodes[name], values)
        return [values[name] for name in wanted]

    def _needed(self, wanted: list[str], given: set[str]) -> list[str]:
        """Nodes to call, in order, each after those that it takes from."""
        order: dict[str, None] = {}
        waiting = list(reversed(wanted))
        while waiting:
            name = waiting[-1]
            before = [n for n in self._nodes[name].get("input", []) if n not in self._weights | order.keys() | given]
            waiting.extend(reversed(before))
            if not before:
                order.setdefault(waiting.pop())
        return list(order)

    def _call(self, node: dict[str, Any], values: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = [values[name] if name in values else self._weights[name] for name in node["input"]]
        operation = node["op"]
        if operation in PLAIN:
            of_maps = any(values.ndim == 4 for values in inputs)
            return PLAIN[operation](*(v[:, None, None] if of_maps and v.ndim == 1 else v for v in inputs))
        if operation == "ResizeBilinear":
            return F.interpolate(inputs[0], inputs[1].tolist(), mode="bilinear", align_corners=False)
        if operation == "Pad":
            _, (top, bottom), (left, right), (before, after) = inputs[1].tolist()
            return F.pad(inputs[0], [left, right, top, bottom, before, after])
        if operation == "MaxPool":
            return F.max_pool2d(inputs[0], int(node["attr"]["ksize"]["list"]["i"][1]))
        if operation == "Mean":
            return inputs[0].mean((2, 3))
        if operation == "_FusedMatMul":
            return inputs[0] @ inputs[1] + inputs[2]
        if operation == "Reshape":
            return inputs[0].permute(0, 2, 3, 1).reshape(len(inputs[0]), *inputs[1].tolist()[1:])
        if "conv2d" in operation.lower():
            return _convolution(operation, node["attr"], *inputs)
        raise ValueError(f"{node['name']}: {operation} is no operation that is known here")


def _convolution(
    operation: str, attributes: dict[str, Any], pixels: torch.Tensor, filters: torch.Tensor, *bias: torch.Tensor
) -> torch.Tensor:
    depthwise = "Depthwise" in operation
    filters = filters.permute(2, 3, 0, 1) if depthwise else filters.permute(3, 2, 0, 1)
    stride = int(attributes["strides"]["list"]["i"][1])
    if _text(attributes["padding"]["s"]) == "SAME":  # what does not come out even is added at the end
        pairs = zip(map(int, pixels.shape[2:]), map(int, filters.shape[2:]), strict=True)
        high, wide = (max((math.ceil(side / stride) - 1) * stride + size - side, 0) for side, size in pairs)
        pixels = F.pad(pixels, [wide // 2, wide - wide // 2, high // 2, high - high // 2])
    answer = F.conv2d(pixels, filters, *bias, stride=stride, groups=filters.shape[0] if depthwise else 1)
    ending = [_text(value) for value in attributes.get("fused_ops", {"list": {"s": []}})["list"]["s"]]
    if "Relu6" in ending:
        return answer.clamp(0, 6)
    return answer.relu() if "Relu" in ending else answer


def _text(value: str) -> str:
    return base64.b64decode(value).decode()


def _weights(manifest: list[dict[str, Any]], folder: Path) -> dict[str, torch.Tensor]:
    data = b"".join((folder / path).read_bytes() for group in manifest for path in group["paths"])
    weights, place = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = math.prod(entry["shape"])
        values = np.frombuffer(data, stored, count, place).reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(values.astype(entry["dtype"]))
        place += count * stored.itemsize
    return weights
