"""From crops to heatmaps in an ONNX graph: normalisation, network and flip test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from wholepose.export.graph import GraphBuilder
from wholepose.models.decode import MEAN, STD
from wholepose.models.hrnet import BasicBlock, Bottleneck, HRModule
from wholepose.models.posenet import STRIDE, PoseNet


def add_network(graph: GraphBuilder, model: PoseNet, crops: str, name: str) -> str:
    """Adds a network.

    Args:
        graph: Takes the nodes.
        model: From ``fold_batch_norms``.
        crops: Name of a (batch, H, W, 3) uint8 tensor, RGB.
        name: Of the heatmaps.

    Returns:
        Name of the heatmaps, (batch, K, H / 4, W / 4) float32.
    """
    return _convolution(graph, model.head.final_layer, _features(graph, model, crops), name)


def add_network_with_flip_test(
    graph: GraphBuilder,
    model: PoseNet,
    crops: str,
    flip_test: str,
    size: tuple[int, int],
    flip_indices: NDArray[np.int64],
) -> tuple[str, str]:
    """Adds a network that is run, where asked, on the mirrored crops too, and answers with the mean heatmaps.

    There is no branch in the graph: the mirrored crops are extra rows of the batch, as many as there are crops or none.
    Mirroring back and the shift by a column come before the last layer, which is a 1x1 convolution and does not mind;
    it exchanges left and right keypoints by a second set of weights. So the heatmaps, which are far larger than the
    features, are written once. Without a flip test the second half of the features is zero.

    Args:
        graph: Takes the nodes.
        model: From ``fold_batch_norms``.
        crops: Name of a (batch, H, W, 3) uint8 tensor, RGB.
        flip_test: Name of a bool scalar.
        size: (H, W).
        flip_indices: (K,) for each keypoint the index of its mirror.

    Returns:
        Names of the heatmaps, (batch, K, H / 4, W / 4) float32, and of (batch, 1, 1) float32 zeros, which are NaN where
        a crop's features are not all finite.
    """
    add = graph.add
    width, heatmap_width = size[1], size[1] // STRIDE
    zero, end = graph.int64([0]), graph.int64([np.iinfo(np.int64).max])
    batch = add("Gather", add("Shape", crops), zero)
    extra = add("Mul", batch, add("Cast", flip_test, to=TensorProto.INT64))
    mirrored = add("Gather", add("Slice", crops, zero, extra, zero), graph.int64(np.arange(width)[::-1]), axis=2)
    features = _features(graph, model, add("Concat", crops, mirrored, axis=0))
    first = add("Slice", features, zero, batch, zero)
    # Mirror back and shift one column to the right; column 0 stays.
    columns = heatmap_width - 1 - np.maximum(np.arange(heatmap_width) - 1, 0)
    second = add("Gather", add("Slice", features, batch, end, zero), graph.int64(columns), axis=3)
    second = add("Slice", add("Concat", second, first, axis=0), zero, batch, zero)
    first = add("Mul", first, add("Where", flip_test, graph.float32(0.5), graph.float32(1.0)))
    second = add("Mul", second, add("Where", flip_test, graph.float32(0.5), graph.float32(0.0)))

    head = model.head.final_layer
    assert head.bias is not None
    weight, bias = head.weight.numpy(), head.bias.numpy()
    weights = graph.float32(np.concatenate([weight, weight[flip_indices]], axis=1))
    mean_bias = graph.float32((bias + bias[flip_indices]) / 2)
    biases = add("Where", flip_test, mean_bias, graph.float32(bias))
    both = add("Concat", first, second, axis=1)
    doubt = add("Mul", add("ReduceSum", both, graph.int64([2, 3])), graph.float32(0.0))
    doubt = add("Squeeze", add("ReduceSum", doubt, graph.int64([1])), graph.int64([3]))
    return add("Conv", both, weights, biases, kernel_shape=[1, 1]), doubt


def _features(graph: GraphBuilder, model: PoseNet, crops: str) -> str:
    """Names the backbone's (batch, C, h, w) float32 features of (batch, H, W, 3) uint8 crops."""
    backbone = model.backbone
    x = graph.add("Cast", graph.add("Transpose", crops, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.float32(255 * np.array(MEAN)[:, None, None]))
    # The first convolution divides by the deviation; what it pads with is 0, the mean, in either unit.
    x = _relu(graph, _convolution(graph, backbone.conv1, x, input_scale=1 / (255 * np.array(STD))))
    x = _relu(graph, _layer(graph, backbone.conv2, x))
    x = _layer(graph, backbone.layer1, x)
    branches = [_layer(graph, layer, x) for layer in backbone.transition1]
    branches = _stage(graph, backbone.stage2, branches)
    branches = _stage(graph, backbone.stage3, [*branches, _layer(graph, backbone.transition2[2], branches[-1])])
    branches = _stage(graph, backbone.stage4, [*branches, _layer(graph, backbone.transition3[3], branches[-1])])
    return branches[0]


def _layer(graph: GraphBuilder, layer: nn.Module, x: str) -> str:
    """Adds any layer that has one input and one output."""
    if isinstance(layer, nn.Identity):
        return x
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _layer(graph, part, x)
        return x
    if isinstance(layer, nn.ReLU):
        return _relu(graph, x)
    if isinstance(layer, nn.Conv2d):
        return _convolution(graph, layer, x)
    if isinstance(layer, nn.Upsample):
        assert isinstance(layer.scale_factor, float)
        scales = graph.float32([1.0, 1.0, layer.scale_factor, layer.scale_factor])
        return graph.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
    if isinstance(layer, BasicBlock):
        y = _relu(graph, _layer(graph, layer.conv1, x))
        return _relu(graph, graph.add("Add", _layer(graph, layer.conv2, y), x))
    if isinstance(layer, Bottleneck):
        y = _relu(graph, _layer(graph, layer.conv1, x))
        y = _relu(graph, _layer(graph, layer.conv2, y))
        return _relu(graph, graph.add("Add", _layer(graph, layer.conv3, y), _layer(graph, layer.downsample, x)))
    raise TypeError(f"no way to export a {type(layer).__name__}; batch norms must be folded first")


def _stage(graph: GraphBuilder, stage: nn.Sequential, branches: list[str]) -> list[str]:
    for module in stage:
        assert isinstance(module, HRModule)
        inputs = [_layer(graph, blocks, x) for blocks, x in zip(module.branches, branches, strict=True)]
        branches = []
        for row in module.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            total = _layer(graph, row[0], inputs[0])
            for layer, branch in zip(row[1:], inputs[1:], strict=True):
                total = graph.add("Add", total, _layer(graph, layer, branch))
            branches.append(_relu(graph, total))
    return branches


def _relu(graph: GraphBuilder, x: str) -> str:
    return graph.add("Relu", x)


def _convolution(
    graph: GraphBuilder, conv: nn.Conv2d, x: str, name: str = "", input_scale: NDArray[np.float64] | None = None
) -> str:
    """Adds a convolution, of its input times a factor a channel where one is given."""
    assert conv.bias is not None
    weight = conv.weight.double().numpy()
    if input_scale is not None:
        weight = weight * input_scale[:, None, None]
    padding = [int(side) for side in conv.padding]
    shape = {"kernel_shape": list(conv.kernel_size), "strides": list(conv.stride), "pads": padding * 2}
    return graph.add("Conv", x, graph.float32(weight), graph.float32(conv.bias.numpy()), name=name, **shape)
