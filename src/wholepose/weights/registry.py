"""Weights that are known by name: where they are to be had and what their bytes must hash to.

The hashes of the files that MMPose published are known only by the eight hex digits in their names. Eight digits tell a
damaged or mistaken file from the right one; they do not protect from somebody who makes another file on purpose, since
2^32 tries are little work. Such a file is loaded without running code from it, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wholepose.weights.card import ModelCard

FULL_SHA256_DIGITS = 64

_MMPOSE = "https://download.openmmlab.com/mmpose/top_down/hrnet/"
_MMPOSE_LICENCE = "Apache-2.0 as published by MMPose; COCO, Halpe and COCO-WholeBody have terms of their own"
_MMPOSE_NOTE = "This host has not answered since June 2026. Who has the file imports it: wholepose models import FILE"


@dataclass(frozen=True, kw_only=True)
class RegistryEntry:
    """A weights file that is known by name.

    Attributes:
        name: Name by which it is asked for, such as ``"hrnet_w48_384x288.mmpose_halpe136"``.
        file_name: Name of the file as published; also its name in the cache.
        urls: Where it is to be had, tried in this order; none where only wholepose's repository has it.
        sha256: The file's hash in lower-case hex digits, or as many of its first digits as are known, at least 8.
        size_bytes: Size of the file; None where it is not known.
        arch: Name of the architecture.
        skeleton: Name of the skeleton.
        input_size: (height, width) of a crop in pixels.
        decode_kernel: Width of the DARK decoder's blur in cells.
        licence: Under which terms it was published.
        source: Where its numbers are published.
        training_data: Names of the data sets.
        metrics: Published numbers by name.
        note: What to know before downloading.
    """

    name: str
    file_name: str
    urls: tuple[str, ...]
    sha256: str
    size_bytes: int | None = None
    arch: str
    skeleton: str
    input_size: tuple[int, int]
    decode_kernel: int
    licence: str
    source: str
    training_data: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    note: str = ""

    @property
    def source_by_hand(self) -> str:
        """Where a user gets the file without wholepose's help."""
        return self.urls[0] if self.urls else f"weights/{self.file_name} from wholepose's repository"

    @property
    def expected(self) -> str:
        """What the hash must be, in words: ``"abc..."`` or ``"d13c2588... (only these digits are known)"``."""
        if len(self.sha256) == FULL_SHA256_DIGITS:
            return self.sha256
        return f"{self.sha256}... (only these digits are known)"

    def card(self, source_sha256: str = "") -> ModelCard:
        """Returns the card that a model converted from this file gets.

        Args:
            source_sha256: Hash of the very file that was converted.
        """
        return ModelCard(
            name=self.name,
            arch=self.arch,
            skeleton=self.skeleton,
            input_size=self.input_size,
            decode_kernel=self.decode_kernel,
            licence=self.licence,
            source=f"{self.file_name}; {self.source}",
            source_sha256=source_sha256,
            training_data=self.training_data,
            metrics=self.metrics,
        )


def _mmpose(
    name: str,
    file_name: str,
    skeleton: str,
    decode_kernel: int,
    page: str,
    training_data: tuple[str, ...],
    metrics: Mapping[str, float],
) -> RegistryEntry:
    """An HRNet file of MMPose 0.x; its name tells architecture, input size and the start of its hash."""
    arch, size = name.split(".")[0].rsplit("_", 1)
    height, width = (int(side) for side in size.split("x"))
    return RegistryEntry(
        name=name,
        file_name=file_name,
        urls=(_MMPOSE + file_name,),
        sha256=file_name.rsplit("-", 1)[1].split("_")[0],
        arch=arch,
        skeleton=skeleton,
        input_size=(height, width),
        decode_kernel=decode_kernel,
        licence=_MMPOSE_LICENCE,
        source=f"MMPose 0.29.0, {page}",
        training_data=training_data,
        metrics=metrics,
        note=_MMPOSE_NOTE,
    )


_COCO_PAGE = "hrnet_dark_coco.md"
_WHOLEBODY_PAGE = "hrnet_dark_coco-wholebody.md"

_ENTRIES = (
    _mmpose(
        "hrnet_w48_384x288.mmpose_halpe136",
        "hrnet_w48_halpe_384x288_dark_plus-d13c2588_20211021.pth",
        "halpe136",
        17,
        "hrnet_dark_halpe.md",
        ("ImageNet", "COCO", "Halpe v1"),
        {"halpe_v1_val/whole_ap": 0.527, "halpe_v1_val/whole_ar": 0.620},
    ),
    _mmpose(
        "hrnet_w48_384x288.mmpose_coco17",
        "hrnet_w48_coco_384x288_dark-741844ba_20200812.pth",
        "coco17",
        17,
        "where the Halpe and COCO-WholeBody models started from; no table gives its numbers",
        ("ImageNet", "COCO"),
        {},
    ),
    _mmpose(
        "hrnet_w48_384x288.mmpose_coco17_2021",
        "hrnet_w48_coco_384x288_dark-e881a4b6_20210203.pth",
        "coco17",
        17,
        _COCO_PAGE,
        ("ImageNet", "COCO"),
        {"coco_val2017/ap": 0.772, "coco_val2017/ar": 0.820},
    ),
    _mmpose(
        "hrnet_w48_256x192.mmpose_coco17",
        "hrnet_w48_coco_256x192_dark-8cba3197_20200812.pth",
        "coco17",
        11,
        _COCO_PAGE,
        ("ImageNet", "COCO"),
        {"coco_val2017/ap": 0.764, "coco_val2017/ar": 0.814},
    ),
    _mmpose(
        "hrnet_w32_384x288.mmpose_coco17",
        "hrnet_w32_coco_384x288_dark-307dafc2_20210203.pth",
        "coco17",
        17,
        _COCO_PAGE,
        ("ImageNet", "COCO"),
        {"coco_val2017/ap": 0.766, "coco_val2017/ar": 0.815},
    ),
    _mmpose(
        "hrnet_w32_256x192.mmpose_coco17",
        "hrnet_w32_coco_256x192_dark-07f147eb_20200812.pth",
        "coco17",
        11,
        _COCO_PAGE,
        ("ImageNet", "COCO"),
        {"coco_val2017/ap": 0.757, "coco_val2017/ar": 0.808},
    ),
    _mmpose(
        "hrnet_w48_384x288.mmpose_wholebody133",
        "hrnet_w48_coco_wholebody_384x288_dark-f5726563_20200918.pth",
        "coco_wholebody133",
        17,
        _WHOLEBODY_PAGE,
        ("ImageNet", "COCO", "COCO-WholeBody v1"),
        {"coco_wholebody_v1_val/whole_ap": 0.661, "coco_wholebody_v1_val/whole_ar": 0.743},
    ),
    _mmpose(
        "hrnet_w32_256x192.mmpose_wholebody133",
        "hrnet_w32_coco_wholebody_256x192_dark-469327ef_20200922.pth",
        "coco_wholebody133",
        11,
        _WHOLEBODY_PAGE,
        ("ImageNet", "COCO-WholeBody v1"),
        {"coco_wholebody_v1_val/whole_ap": 0.582, "coco_wholebody_v1_val/whole_ar": 0.671},
    ),
    RegistryEntry(
        name="large",
        file_name="hrnet_w32_large_f96_256x192.halpe136_large_v2.safetensors",
        urls=(),
        sha256="f5ff1cd788ee69ba8a7f8b735fd436e970bad144541cbe937f6dd8f6eab21338",
        size_bytes=56921520,
        arch="hrnet_w32_large_f96",
        skeleton="halpe136",
        input_size=(256, 192),
        decode_kernel=11,
        licence="research and private use: trained on photos of others, some for non-commercial research only",
        source="docs/models.md",
        training_data=("as the embedded model's",),
        metrics={"coco/AP": 0.364, "lsp/pck_torso_0.2": 0.805},
        note="Slower than the embedded model, and better",
    ),
)

REGISTRY: Mapping[str, RegistryEntry] = {entry.name: entry for entry in _ENTRIES}
"""Known weights by name."""


def find_entry(name: str) -> RegistryEntry | None:
    """Returns the entry of a name or of a published file name; None where neither is known."""
    return REGISTRY.get(name) or next((entry for entry in REGISTRY.values() if entry.file_name == name), None)
