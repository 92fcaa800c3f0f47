"""A small anchor-free person detector: plain convolutions, three levels, one class.

Convention:
    A cell (row i, column j) of a level with stride s looks from the point ((j + 0.5) s, (i + 0.5) s) of the input, in
    COCO's box coordinates (0 is the input's edge), and says how far the four sides of its person's box are from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
"""Input pixels a cell, of the three levels."""

_PRIOR = 0.01
_MIRRORED = [0, 3, 2, 1, 4]  # score, left, top, right, bottom: left and right change places
_LOG_DISTANCE_LIMIT = 4.5  # a side at most 90 cells away


@dataclass(frozen=True)
class DetectorConfig:
    """Size of the network.

    Attributes:
        widths: Channels at strides 2, 4, 8, 16 and 32.
        depths: Residual blocks at strides 4, 8, 16 and 32.
        neck_width: Channels of the three levels that the head looks at.
    """

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 160)
    depths: tuple[int, int, int, int] = (1, 2, 2, 1)
    neck_width: int = 64


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03, eps=1e-3),
        nn.ReLU(inplace=True),
    )


class _Stage(nn.Module):
    """Halves the channels, runs residual blocks on one half, and joins everything again."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = _conv(inputs, 2 * half, 1)
        self.blocks = nn.ModuleList(nn.Sequential(_conv(half, half, 3), _conv(half, half, 3)) for _ in range(depth))
        self.leave = _conv(half * (2 + depth), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pieces = list(self.enter(x).chunk(2, dim=1))
        for block in self.blocks:
            pieces.append(pieces[-1] + block(pieces[-1]))
        return torch.as_tensor(self.leave(torch.cat(pieces, dim=1)))


class _Context(nn.Module):
    """Lets every cell of the coarsest level see nearly the whole picture: max pooling over ever wider windows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = _conv(width, width // 2, 1)
        self.leave = _conv(width * 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pieces = [self.enter(x)]
        for _ in range(3):
            pieces.append(F.max_pool2d(pieces[-1], 5, 1, 2))
        return torch.as_tensor(self.leave(torch.cat(pieces, dim=1)))


class DetectorNet(nn.Module):
    """Backbone, feature pyramid down and up again, and one head for all levels.

    Args:
        config: Size of the network.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DetectorConfig()
        self.stem = _conv(3, config.widths[0], 3, 2)
        self.downs = nn.ModuleList(_conv(a, b, 3, 2) for a, b in pairwise(config.widths))
        self.stages = nn.ModuleList(
            _Stage(width, width, depth) for width, depth in zip(config.widths[1:], config.depths, strict=True)
        )
        self.context = _Context(config.widths[-1])
        neck = config.neck_width
        self.laterals = nn.ModuleList(_conv(width, neck, 1) for width in config.widths[2:])
        self.merge_down = nn.ModuleList(_Stage(2 * neck, neck, 1) for _ in range(2))
        self.steps_up = nn.ModuleList(_conv(neck, neck, 3, 2) for _ in range(2))
        self.merge_up = nn.ModuleList(_Stage(2 * neck, neck, 1) for _ in range(2))
        self.towers = nn.ModuleList(_conv(neck, neck, 3) for _ in STRIDES)
        self.outputs = nn.ModuleList(nn.Conv2d(neck, 5, 1) for _ in STRIDES)
        for output in self.outputs:
            assert isinstance(output, nn.Conv2d)
            assert output.bias is not None
            nn.init.normal_(output.weight, std=0.01)
            nn.init.constant_(output.bias, 1.1)  # sides three cells away
            nn.init.constant_(output.bias[:1], torch.logit(torch.tensor(_PRIOR)).item())

    def forward(self, images: Tensor, *, flip_test: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Looks for people.

        Args:
            images: (B, 3, H, W) float32 RGB in [-1, 1], H and W divisible by 32.
            flip_test: Look at the mirrored images too, and average what each cell says.

        Returns:
            Logits (B, A) that a cell sees a person, scaled by how well its box fits; boxes (B, A, 4) xyxy input pixels;
            and of the A cells the points (A, 2) as (x, y) input pixels and strides (A,).
        """
        x = self.stem(torch.cat([images, images.flip(3)]) if flip_test else images)
        levels: list[Tensor] = []
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
            levels.append(x)
        levels = [*levels[1:-1], self.context(levels[-1])]
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.laterals, levels, strict=True))
        middle = self.merge_down[0](torch.cat([middle, F.interpolate(coarse, scale_factor=2.0)], dim=1))
        fine = self.merge_down[1](torch.cat([fine, F.interpolate(middle, scale_factor=2.0)], dim=1))
        middle = self.merge_up[0](torch.cat([middle, self.steps_up[0](fine)], dim=1))
        coarse = self.merge_up[1](torch.cat([coarse, self.steps_up[1](middle)], dim=1))
        raw, points, strides = [], [], []
        levels = [fine, middle, coarse]
        for stride, level, tower, output in zip(STRIDES, levels, self.towers, self.outputs, strict=True):
            cells = output(tower(level)).float()  # distances need more digits than 16-bit training has
            if flip_test:
                straight, mirrored = cells.chunk(2)
                cells = (straight + mirrored.flip(3)[:, _MIRRORED]) / 2
            raw.append(cells.flatten(2))
            height, width = cells.shape[2:]
            rows = (torch.arange(height, device=cells.device, dtype=cells.dtype) + 0.5) * stride
            columns = (torch.arange(width, device=cells.device, dtype=cells.dtype) + 0.5) * stride
            grid = torch.stack([columns[None].expand(height, width), rows[:, None].expand(height, width)], dim=-1)
            points.append(grid.reshape(-1, 2))
            strides.append(torch.full_like(points[-1][:, 0], stride))
        together = torch.cat(raw, dim=2).transpose(1, 2)
        place, size = torch.cat(points), torch.cat(strides)
        distances = together[..., 1:].clamp(max=_LOG_DISTANCE_LIMIT).exp() * size[:, None]
        boxes = torch.cat([place - distances[..., :2], place + distances[..., 2:]], dim=-1)
        return together[..., 0], boxes, place, size
