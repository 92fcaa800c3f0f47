"""MakeHuman clothes, hair, brows, lashes and skins from a folder, fitted to any body shape.

The folder has the layout of MakeHuman's system assets with an ``index.json`` that lists them; without one, people wear
procedural garments.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholepose.errors import ConfigError

_LARGEST_TEXTURE = {"clothes": 512, "hair": 512}
_LARGEST_OTHER_TEXTURE = 128
"""Textures are halved down to these sides: no picture shows more of a garment, let alone of a brow."""


@dataclasses.dataclass(frozen=True, eq=False)
class Asset:
    """A mesh that rides on the body: every vertex is a mix of three body vertices and an offset."""

    name: str
    kind: str
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    """(F, 3, 2)."""
    anchors: NDArray[np.int32]
    """(V, 3) body vertices."""
    weights: NDArray[np.float32]
    """(V, 3)."""
    offsets: NDArray[np.float32]
    """(V, 3) in units of `scales`, body axes."""
    scales: tuple[tuple[int, int, float], ...]
    """For x, y, z: two body vertices and the distance between them, metres, for which the offsets are made."""
    texture: NDArray[np.uint8] | None
    """(H, W, 4)."""
    has_alpha: bool
    mean_color: tuple[float, float, float]
    """Linear RGB, of what is opaque."""

    def fit(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """The asset's vertices (V, 3) on a body at rest with the given vertices."""
        scale = [
            abs(float(vertices[first, axis] - vertices[second, axis])) / distance
            for axis, (first, second, distance) in enumerate(self.scales)
        ]
        mixed = np.einsum("vk,vkd->vd", self.weights, vertices[self.anchors])
        return np.asarray(mixed + self.offsets * np.array(scale, dtype=np.float32), dtype=np.float32)

    def skin_weights(self, body_weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bone weights (V, B) inherited from the body's."""
        clipped = np.clip(self.weights, 0, None)
        clipped /= np.maximum(clipped.sum(axis=1, keepdims=True), 1e-6)
        return np.asarray(np.einsum("vk,vkb->vb", clipped, body_weights[self.anchors]), dtype=np.float32)


class AssetFolder:
    """The assets of one folder, each read when first asked for.

    Args:
        folder: Folder with ``index.json``.

    Raises:
        ConfigError: The folder or its index is missing or malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "index.json"
        if not path.is_file():
            raise ConfigError(f"{path} is missing: --assets wants a folder of MakeHuman assets with an index.json")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            self._entries = {(str(entry["type"]), str(entry["name"])): dict(entry) for entry in index["assets"]}
            self._skins = {str(entry["name"]): dict(entry) for entry in index.get("skins", [])}
            self._eyes = {str(entry["name"]): dict(entry) for entry in index.get("eye_materials", [])}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not an index of assets: {error!r}") from error

    def names(self, kind: str, prefix: str = "") -> list[str]:
        """Names of the assets of a kind (``clothes``, ``hair``, ``eyebrows``, ``eyelashes``, ``eyes``), sorted."""
        return sorted(name for found, name in self._entries if found == kind and name.startswith(prefix))

    def skin_names(self) -> list[str]:
        """Names of the skin pictures, sorted."""
        return sorted(self._skins)

    def eye_names(self) -> list[str]:
        """Names of the eye colours, sorted."""
        return sorted(self._eyes)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - one folder lives as long as its process
    def load(self, kind: str, name: str) -> Asset:
        """Reads an asset.

        Raises:
            ConfigError: A file of it is missing or malformed.
        """
        entry = self._entries[kind, name]
        try:
            return _read_asset(self.folder, entry)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"asset {name!r} in {self.folder} cannot be read: {error}") from error

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def skin(self, name: str) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
        """A skin picture (H, W, 4) and the mean linear colour of its face."""
        texture = _read_texture(self.folder / self._skins[name]["diffuse"], 1024)
        # The forehead and cheeks of the base mesh's unwrapping lie here.
        height, width = texture.shape[:2]
        patch = texture[int(0.1 * height) : int(0.2 * height), int(0.4 * width) : int(0.6 * width), :3]
        mean = np.square(patch.reshape(-1, 3) / 255.0).mean(axis=0)
        return texture, (float(mean[0]), float(mean[1]), float(mean[2]))

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def eye_texture(self, name: str) -> NDArray[np.uint8]:
        """An eye's picture (H, W, 4)."""
        return _read_texture(self.folder / self._eyes[name]["diffuse"], 256)


def _read_asset(folder: Path, entry: dict[str, Any]) -> Asset:
    faces, corners, texture_points = _read_obj(folder / entry["obj"])
    anchors, weights, offsets, scales = _read_mhclo(folder / entry["mhclo"])
    largest = _LARGEST_TEXTURE.get(str(entry["type"]), _LARGEST_OTHER_TEXTURE)
    texture = _read_texture(folder / entry["diffuse"], largest) if entry.get("diffuse") else None
    return Asset(
        name=str(entry["name"]),
        kind=str(entry["type"]),
        faces=faces,
        uv=texture_points[corners].astype(np.float32),
        anchors=anchors,
        weights=weights,
        offsets=offsets,
        scales=scales,
        texture=texture,
        has_alpha=texture is not None and bool((texture[..., 3] < 250).any()),
        mean_color=_mean_color(texture),
    )


def _mean_color(texture: NDArray[np.uint8] | None) -> tuple[float, float, float]:
    solid = np.zeros((0, 4)) if texture is None else texture[texture[..., 3] > 128]
    if len(solid) == 0:
        return (1.0, 1.0, 1.0)
    mean = np.square(solid[:, :3] / 255.0).mean(axis=0)
    return (float(mean[0]), float(mean[1]), float(mean[2]))


def _read_obj(path: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Triangles (F, 3), their texture corners (F, 3) and texture points (T, 2) of a Wavefront file."""
    faces: list[tuple[int, int, int]] = []
    corners: list[tuple[int, int, int]] = []
    texture: list[tuple[float, float]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            texture.append((float(words[1]), float(words[2])))
        elif words[0] == "f":
            pairs = [word.split("/") for word in words[1:]]
            points = [int(pair[0]) - 1 for pair in pairs]
            uv = [int(pair[1]) - 1 if len(pair) > 1 and pair[1] else 0 for pair in pairs]
            for second in range(1, len(points) - 1):
                faces.append((points[0], points[second], points[second + 1]))
                corners.append((uv[0], uv[second], uv[second + 1]))
    return (
        np.array(faces, dtype=np.int32),
        np.array(corners, dtype=np.int32),
        np.array(texture or [(0.0, 0.0)], dtype=np.float64),
    )


def _read_mhclo(
    path: Path,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], tuple[tuple[int, int, float], ...]]:
    """Reads how an asset rides on the base mesh; MakeHuman's axes (y up, decimetres) become ours (z up, metres)."""
    rows: list[list[float]] = []
    scales: dict[str, tuple[int, int, float]] = {}
    reading = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scales[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]) / 10)
        elif words[0] == "verts":
            reading = True
        elif reading and words[0].lstrip("-").isdigit():
            values = [float(word) for word in words]
            rows.append(values if len(values) == 9 else [values[0]] * 3 + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        elif reading and words[0].startswith("delete"):
            reading = False
    table = np.array(rows)
    offsets = np.stack([table[:, 6], -table[:, 8], table[:, 7]], axis=1) / 10
    return (
        table[:, :3].astype(np.int32),
        table[:, 3:6].astype(np.float32),
        offsets.astype(np.float32),
        (scales["x"], scales["z"], scales["y"]),
    )


def _read_texture(path: Path, largest: int) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        picture.draft("RGB", (largest, largest))
        converted = picture.convert("RGBA")
    while max(converted.size) > largest:
        converted = converted.reduce(2)
    return np.ascontiguousarray(np.asarray(converted))
