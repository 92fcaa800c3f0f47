"""A small anchor-free person detector: NanoDet-g with one class.

Convention:
    A cell (row i, column j) of a level with stride s looks from the point ((j + 0.5) s, (i + 0.5) s) of the input, in
    COCO's box coordinates (0 is the input's edge), and says how far the four sides of its person's box are from there.

Sources: the layout is that of NanoDet-g (https://github.com/RangiLyu/nanodet, Apache-2.0), norms folded into
convolutions; distances as distributions are from Li et al., "Generalized Focal Loss", NeurIPS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
"""Input pixels a cell, of the three levels."""
STEPS = 11
"""A distance is a mean of 0, 1, ... 10 cells, with weights that the network gives."""

_PRIOR = 0.01
_SLOPE = 0.1
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's pixels, RGB


@dataclass(frozen=True)
class DetectorConfig:
    """Size of the network.

    Attributes:
        width: Channels that the first of four stages takes in; each gives twice as many to the next.
        depths: Blocks of the stages.
        neck_width: Channels of the three levels that the heads look at.
    """

    width: int = 32
    depths: tuple[int, int, int, int] = (1, 2, 2, 3)
    neck_width: int = 128


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(_SLOPE, inplace=True))


class _Block(nn.Module):
    """Two narrow convolutions, what both give beside one another."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width // 2), _conv(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([self.second(x), x], dim=1)


class _Stage(nn.Module):
    """What goes in beside what blocks make of it: twice the channels, at half the size with a stride of 2."""

    def __init__(self, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.enter = _conv(width, width, stride)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.leave = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.cat([self.leave(self.blocks(x)), x], dim=1)


class DetectorNet(nn.Module):
    """Backbone, feature pyramid down and up again, and a head for each level.

    Args:
        config: Size of the network.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DetectorConfig()
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        self.register_buffer("scale", 127.5 / deviation, persistent=False)
        self.register_buffer("shift", (127.5 - mean) / deviation, persistent=False)
        self.stem = _conv(3, config.width, 2)
        self.stages = nn.ModuleList(
            _Stage(config.width * 2**number, depth, 2 if number else 1) for number, depth in enumerate(config.depths)
        )
        neck = config.neck_width
        self.laterals = nn.ModuleList(nn.Conv2d(config.width * factor, neck, 1) for factor in (4, 8, 16))
        outputs = [nn.Conv2d(neck, 1 + 4 * STEPS, 1) for _ in STRIDES]
        self.heads = nn.ModuleList(nn.Sequential(_conv(neck, neck), output) for output in outputs)
        for convolution in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(convolution.weight, a=_SLOPE, nonlinearity="leaky_relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        for output in outputs:
            assert output.bias is not None
            nn.init.normal_(output.weight, std=0.01)
            nn.init.constant_(output.bias[:1], torch.logit(torch.tensor(_PRIOR)).item())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Looks for people.

        Args:
            images: (B, 3, H, W) float32 RGB in [-1, 1], H and W divisible by 32.

        Returns:
            Logits (B, A) that a cell sees a person, scaled by how well its box fits; boxes (B, A, 4) xyxy input pixels;
            and of the A cells the points (A, 2) as (x, y) input pixels and strides (A,).
        """
        x = F.max_pool2d(self.stem(images * self.scale + self.shift), 3, 2, 1)
        levels: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.laterals, levels[1:], strict=True))
        middle = middle + _resized(coarse, 2.0)
        fine = fine + _resized(middle, 2.0)
        middle = middle + _resized(fine, 0.5)
        coarse = coarse + _resized(middle, 0.5)
        logits, boxes, points, strides = [], [], [], []
        for stride, level, head in zip(STRIDES, (fine, middle, coarse), self.heads, strict=True):
            cells = head(level).float()  # distances need more digits than 16-bit training has
            height, width = cells.shape[2:]
            weights = cells[:, 1:].reshape(len(cells), 4, STEPS, height, width).softmax(2)
            distances = (weights * torch.arange(STEPS, device=cells.device)[:, None, None]).sum(2)
            rows = (torch.arange(height, device=cells.device, dtype=cells.dtype) + 0.5) * stride
            columns = (torch.arange(width, device=cells.device, dtype=cells.dtype) + 0.5) * stride
            grid = torch.stack([columns[None].expand(height, width), rows[:, None].expand(height, width)], dim=-1)
            points.append(grid.reshape(-1, 2))
            strides.append(torch.full_like(points[-1][:, 0], stride))
            logits.append(cells[:, 0].flatten(1))
            sides = distances.flatten(2).transpose(1, 2) * stride
            boxes.append(torch.cat([points[-1] - sides[..., :2], points[-1] + sides[..., 2:]], dim=-1))
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1), torch.cat(points), torch.cat(strides)


def _resized(level: Tensor, factor: float) -> Tensor:
    return F.interpolate(level, scale_factor=factor, mode="bilinear", align_corners=False)
