"""PoseNet: HRNet and one 1x1 convolution that gives a heatmap a keypoint."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from wholepose.errors import ConfigError
from wholepose.models.hrnet import HRNet, HRNetConfig

STRIDE = 4
"""Crop pixels a heatmap cell."""

ARCHITECTURES: Mapping[str, HRNetConfig] = MappingProxyType(
    {
        "hrnet_w48": HRNetConfig(width=48),
        "hrnet_w32": HRNetConfig(width=32),
        "hrnet_w18": HRNetConfig(width=18),
        # The original release calls it W18 small v1 although its finest branch has 16 channels.
        "hrnet_w18_small_v1": HRNetConfig(width=16, modules=(1, 1, 1), blocks=2, stage1_blocks=1, stage1_channels=32),
        "hrnet_w18_small_v2": HRNetConfig(width=18, modules=(1, 3, 2), blocks=2, stage1_blocks=2),
        # Slim: one narrow bottleneck in stage 1, where a small network otherwise spends most of its time.
        # f96: 96 features, for many keypoints.
        "hrnet_w16_slim": HRNetConfig(width=16, modules=(1, 1, 1), blocks=2, stage1_blocks=1, stage1_channels=32),
        "hrnet_w24_slim": HRNetConfig(width=24, modules=(1, 2, 1), blocks=2, stage1_blocks=1, stage1_channels=32),
        "hrnet_w24_slim_f96": HRNetConfig(
            width=24, modules=(1, 2, 1), blocks=2, stage1_blocks=1, stage1_channels=32, features=96
        ),
        "hrnet_w32_slim_f96": HRNetConfig(
            width=32, modules=(1, 2, 1), blocks=2, stage1_blocks=1, stage1_channels=32, features=96
        ),
        # Deep: longer branches between exchanges. Mid and large: more exchanges; large has the depth of the original.
        "hrnet_w32_deep_f96": HRNetConfig(
            width=32, modules=(1, 2, 1), blocks=4, stage1_blocks=1, stage1_channels=32, features=96
        ),
        "hrnet_w32_mid_f96": HRNetConfig(
            width=32, modules=(1, 4, 1), blocks=2, stage1_blocks=1, stage1_channels=32, features=96
        ),
        "hrnet_w32_large_f96": HRNetConfig(
            width=32, modules=(1, 4, 3), blocks=4, stage1_blocks=1, stage1_channels=32, features=96
        ),
    }
)
"""The networks by name; ``hrnet_w16_slim`` and ``hrnet_w18_small_v1`` are two names of one shape."""

INIT_STD = 0.001


class HeatmapHead(nn.Module):
    """One 1x1 convolution with bias."""

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(in_channels, num_keypoints, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (B, C, h, w) to heatmaps (B, K, h, w), both float."""
        heatmaps: Tensor = self.final_layer(features)
        return heatmaps


class PoseNet(nn.Module):
    """From a normalised crop to one heatmap a keypoint.

    Convolutions start from N(0, 0.001) and batch norms from 1 and 0, as in the reference.

    Args:
        config: The backbone's shape.
        num_keypoints: How many heatmaps.
    """

    def __init__(self, config: HRNetConfig, num_keypoints: int) -> None:
        super().__init__()
        self.config = config
        self.num_keypoints = num_keypoints
        self.backbone = HRNet(config)
        self.head = HeatmapHead(config.out_channels, num_keypoints)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """Computes heatmaps.

        Args:
            crops: (B, 3, H, W) float, RGB, normalised; H and W multiples of 32.

        Returns:
            (B, K, H / 4, W / 4) heatmaps, same dtype.

        Raises:
            ValueError: The shape is not (B, 3, H, W) with H and W multiples of 32.
        """
        heatmaps: Tensor = self.head(self.backbone(crops))
        return heatmaps


def build_model(arch: str, num_keypoints: int) -> PoseNet:
    """Builds a network with fresh weights.

    Args:
        arch: A name of :data:`ARCHITECTURES`, such as ``"hrnet_w48"``.
        num_keypoints: How many heatmaps, such as 136.

    Raises:
        ConfigError: There is no such architecture.
        ValueError: ``num_keypoints`` is not positive.
    """
    if arch not in ARCHITECTURES:
        raise ConfigError(f"no architecture {arch!r}; there are {', '.join(ARCHITECTURES)}")
    if num_keypoints < 1:
        raise ValueError(f"num_keypoints must be at least 1, not {num_keypoints}")
    return PoseNet(ARCHITECTURES[arch], num_keypoints)
