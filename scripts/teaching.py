"""A trained network that tells another one, at every step, what its heatmaps should be."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import torch
from machine import has_fast_bf16

from wholepose.models.checkpoints import load_model
from wholepose.models.decode import normalize
from wholepose.models.folding import fold_batch_norms
from wholepose.models.posenet import STRIDE
from wholepose.skeletons import HALPE136

LABELS = 0.3
"""How much labels weigh against what is told where there are both; where nobody is, nothing that is told counts."""
WAITING = 12
"""Steps after which the mirror images of crops are learnt from."""
Lesson = tuple[torch.Tensor, torch.Tensor]
"""Crops (B, H, W, 3) uint8 and the heatmaps that they should give."""


class Teacher:
    """Sees crops plain, where the learner sees them varied, and with the flip test.

    The flip test costs it two looks a crop, so what it told of the mirror image is learnt from too, some steps later.

    Args:
        path: The network's file, in safetensors.
        device: Where it runs.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._network = fold_batch_norms(load_model(path)[0]).to(device, memory_format=torch.channels_last)
        self._device = device
        self._waiting: deque[Lesson] = deque()

    @torch.no_grad()
    def lesson(self, crops: torch.Tensor, plain: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> Lesson:
        """What to learn from now: these crops and, after some steps, as many mirror images of earlier ones.

        Args:
            crops: (B, H, W, 3) uint8, varied.
            plain: (B, H, W, 3) uint8, the same ones as they were before.
            targets: (B, K, h, w) that labels ask for.
            weight: (B, K) of labels; 0 where there are none.
        """
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(self._device)):
            told, turned = self._network(normalize(torch.cat([plain, mirror_crops(plain)]))).float().chunk(2)
        labelled = weight > 0
        nobody = labelled.all(1) & ~targets.flatten(1).any(1)
        share = torch.where(nobody[:, None], 1.0, LABELS * labelled)
        told = ((told + mirror_heatmaps(turned)) / 2).lerp(targets, share[:, :, None, None])
        if self._waiting and self._waiting[0][0].shape[1:] != crops.shape[1:]:  # crops have become larger
            self._waiting.clear()
        self._waiting.append((mirror_crops(crops), mirror_heatmaps(told)))
        if len(self._waiting) <= WAITING:
            return crops, told
        earlier = self._waiting.popleft()
        return torch.cat([crops, earlier[0]]), torch.cat([told, earlier[1]])


def mirror_crops(crops: torch.Tensor) -> torch.Tensor:
    """Mirror images (B, H, W, 3) whose heatmaps are, cell by cell, those of the crops mirrored.

    The column of pixels that is the middle of a heatmap's first column becomes that of its last, so that heatmaps need
    not be shifted by a cell as in ``merge_flipped``.
    """
    shift = STRIDE - 1
    turned = crops.flip(2)
    return torch.cat([turned[:, :, shift:], turned[:, :, -1:].expand(-1, -1, shift, -1)], 2)


def mirror_heatmaps(heatmaps: torch.Tensor) -> torch.Tensor:
    """Mirror images of heatmaps (B, 136, h, w), left and right exchanged."""
    return heatmaps.flip(3)[:, torch.tensor(HALPE136.flip_indices, device=heatmaps.device)]
