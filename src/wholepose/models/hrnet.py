"""HRNet: a backbone that keeps a stride-4 branch from end to end and exchanges it with coarser ones.

Parameter names are those of MMPose and of the original release (``conv1``, ``layer1``, ``transition1`` and so on),
so that their checkpoints load key by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STEM_CHANNELS = 64
BOTTLENECK_EXPANSION = 4
SIZE_DIVISOR = 32
"""Input sides must be a multiple of this: the coarsest of the four branches has stride 32."""


@dataclass(frozen=True)
class HRNetConfig:
    """The shape of an HRNet.

    Attributes:
        width: Channels of the stride-4 branch; the others have 2, 4 and 8 times as many.
        modules: Exchange modules in stages 2, 3 and 4.
        blocks: Basic blocks a branch in each module.
        stage1_blocks: Bottlenecks in stage 1.
        stage1_channels: Inner channels of those bottlenecks; stage 1 ends with 4 times as many.
        features: Channels that come out: the last exchange brings all branches to so many; None is ``width``, as in
            the original. Heatmaps are sums of features, so far fewer features than keypoints make heatmaps alike.
    """

    width: int
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    stage1_blocks: int = 4
    stage1_channels: int = 64
    features: int | None = None

    @property
    def out_channels(self) -> int:
        """Channels that come out."""
        return self.features or self.width

    def branch_widths(self, branches: int) -> tuple[int, ...]:
        """Channels of the first ``branches`` branches, finest first."""
        return tuple(self.width * 2**i for i in range(branches))


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the number of channels stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_bn(channels, channels, 3)
        self.conv2, self.bn2 = _conv_bn(channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) float to the same shape."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return torch.relu_(y)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; ends with 4 x ``channels``."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        out_channels = channels * BOTTLENECK_EXPANSION
        self.conv1, self.bn1 = _conv_bn(in_channels, channels, 1)
        self.conv2, self.bn2 = _conv_bn(channels, channels, 3)
        self.conv3, self.bn3 = _conv_bn(channels, out_channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Identity() if in_channels == out_channels else nn.Sequential(*_conv_bn(in_channels, out_channels, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, h, w) float to (B, 4 * channels, h, w)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return torch.relu_(y)


class HRModule(nn.Module):
    """Basic blocks on every branch, then each output branch sums all branches brought to its size.

    Args:
        widths: Channels of the branches, finest first.
        blocks: Basic blocks a branch.
        out_widths: Channels of the branches that come out.
    """

    def __init__(self, widths: Sequence[int], blocks: int, out_widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(widths[source], out_width, target - source) for source in range(len(widths)))
            for target, out_width in enumerate(out_widths)
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Maps branches (B, C_i, h / 2^i, w / 2^i) float, finest first, to the output branches that were asked for."""
        branches = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        fused = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            total = row[0](branches[0])
            for layer, branch in zip(row[1:], branches[1:], strict=True):
                total = total + layer(branch)
            fused.append(torch.relu_(total))
        return fused


def _exchange(in_channels: int, out_channels: int, halvings: int) -> nn.Module:
    """Brings a branch to other channels and to half its size so many times; negative ones double it."""
    if halvings <= 0:
        layers: list[nn.Module] = []
        if halvings or in_channels != out_channels:
            layers += _conv_bn(in_channels, out_channels, 1)
        if halvings:
            layers.append(nn.Upsample(scale_factor=2.0**-halvings, mode="nearest"))
        return nn.Sequential(*layers) if layers else nn.Identity()
    steps = [
        nn.Sequential(*_conv_bn(in_channels, in_channels, 3, stride=2), nn.ReLU(inplace=True))
        for _ in range(halvings - 1)
    ]
    return nn.Sequential(*steps, nn.Sequential(*_conv_bn(in_channels, out_channels, 3, stride=2)))


def _transition(in_widths: Sequence[int], out_widths: Sequence[int]) -> nn.ModuleList:
    """What leads into a stage: branches that stay pass, a new one is a strided convolution of the coarsest so far."""
    layers: list[nn.Module] = []
    for i, width in enumerate(out_widths):
        if i >= len(in_widths):
            layers.append(
                nn.Sequential(nn.Sequential(*_conv_bn(in_widths[-1], width, 3, stride=2), nn.ReLU(inplace=True)))
            )
        elif in_widths[i] != width:
            layers.append(nn.Sequential(*_conv_bn(in_widths[i], width, 3), nn.ReLU(inplace=True)))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """The backbone, from normalised pictures to the features of the stride-4 branch.

    Args:
        config: The network's shape.
    """

    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1, self.bn1 = _conv_bn(3, STEM_CHANNELS, 3, stride=2)
        self.conv2, self.bn2 = _conv_bn(STEM_CHANNELS, STEM_CHANNELS, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        stage1_width = config.stage1_channels * BOTTLENECK_EXPANSION
        self.layer1 = nn.Sequential(
            *(
                Bottleneck(STEM_CHANNELS if i == 0 else stage1_width, config.stage1_channels)
                for i in range(config.stage1_blocks)
            )
        )
        self.transition1 = _transition([stage1_width], config.branch_widths(2))
        self.stage2 = self._stage(0, config.branch_widths(2))
        self.transition2 = _transition(config.branch_widths(2), config.branch_widths(3))
        self.stage3 = self._stage(1, config.branch_widths(3))
        self.transition3 = _transition(config.branch_widths(3), config.branch_widths(4))
        self.stage4 = self._stage(2, (config.out_channels,))

    def _stage(self, index: int, out_widths: Sequence[int]) -> nn.Sequential:
        """A stage whose last module gives branches of those widths."""
        count = self.config.modules[index]
        widths = self.config.branch_widths(index + 2)
        return nn.Sequential(
            *(HRModule(widths, self.config.blocks, out_widths if i == count - 1 else widths) for i in range(count))
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Computes features.

        Args:
            crops: (B, 3, H, W) float, normalised; H and W multiples of 32.

        Returns:
            (B, ``config.out_channels``, H / 4, W / 4) float.

        Raises:
            ValueError: The shape is not (B, 3, H, W) with H and W positive multiples of 32.
        """
        shape = tuple(crops.shape)
        if len(shape) != 4 or shape[1] != 3 or any(side % SIZE_DIVISOR or side == 0 for side in shape[2:]):
            raise ValueError(
                f"crops must have shape (B, 3, H, W) with H and W multiples of {SIZE_DIVISOR}, not {shape}"
            )
        x = self.relu(self.bn1(self.conv1(crops)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        branches: list[Tensor] = self.stage2([layer(x) for layer in self.transition1])
        branches = self.stage3(_widen(self.transition2, branches))
        branches = self.stage4(_widen(self.transition3, branches))
        return branches[0]


def _widen(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    """Passes the branches on and derives the new, coarser one from the last of them."""
    return [*branches, transition[len(branches)](branches[-1])]
