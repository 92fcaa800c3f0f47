"""Builds the compact body file: reads `anny` once and keeps what the renderer uses, 11 MB instead of 1.5 GB.

The shapes that anny can make (age, sex, weight, faces, ...) are sampled and reduced to their principal components;
bones of the face are merged into the head, because expressions come from blend shapes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import require
from wholepose.outputs import atomic_path

FORMAT = 2
"""Raised whenever the body file's content changes, so that an old cache is rebuilt."""

COMPONENTS = 96
SAMPLES = 1600
BONES_PER_VERTEX = 5

GROUPS = (
    "body",
    "helper-tights",
    "helper-skirt",
    "helper-hair",
    "helper-l-eye",
    "helper-r-eye",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
)
"""Groups of the base mesh whose faces are kept; the helpers carry garments and hair."""

MASKS = ("lips", "fingernails", "toenails", "aureolae", "ears", "eyelids", "face", "inside-mouth")
"""Painted regions of the skin that colour it, read at the vertices."""

_FACE_CHANGES = ("cheek", "chin", "ear-", "eyebrows", "eye-", "forehead", "head-", "mouth", "nose", "neck-")


def build_body(path: Path) -> None:
    """Writes the body file; takes about two minutes, most of it anny's own preparation.

    Args:
        path: Where the ``.npz`` goes; it appears only when complete.

    Raises:
        ConfigError: anny is not installed.
        OSError: The file cannot be written.
    """
    anny = require("anny", "synth")
    paths = require("anny.paths", "synth")
    kept = paths.get_anny_cache_path()
    with tempfile.TemporaryDirectory(prefix="wholepose-anny-") as folder:  # its cache would keep 1.5 GB for nothing
        paths.set_anny_cache_path(folder)
        try:
            model = anny.Anny(
                rig="makehuman",
                topology="makehuman",
                local_changes="default",
                facial_actions="all",
                phenotypes="all",
            )
        finally:
            paths.set_anny_cache_path(kept)
    arrays = _reduce(model, Path(paths.get_anny_root_dir()) / "data")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, format=np.array(FORMAT), **arrays)


def _reduce(model: Any, data: Path) -> dict[str, NDArray[Any]]:
    labels: list[str] = list(model.blendshape_labels)
    shapes = np.concatenate(
        [
            model.blendshapes.numpy().astype(np.float32),
            model.bone_heads_blendshapes.numpy().astype(np.float32),
            model.bone_tails_blendshapes.numpy().astype(np.float32),
        ],
        axis=1,
    )
    template = np.concatenate(
        [model.template_vertices.numpy(), model.template_bone_heads.numpy(), model.template_bone_tails.numpy()]
    )
    local = [index for index, label in enumerate(labels) if label.startswith("local_change:")]
    actions = [index for index, label in enumerate(labels) if label.startswith("facial_action:")]
    phenotypes = [index for index in range(len(labels)) if index not in set(local) | set(actions)]
    rows = np.array(phenotypes + local)

    projection = model.phenotype_blendshape_projection.numpy()
    mask = model.stacked_phenotype_blend_shapes_mask.numpy()
    names = [label.removeprefix("local_change:") for label in (labels[index] for index in local)]
    generator = np.random.default_rng(0)
    weights = _random_shapes(generator, mask, projection, names)
    vertices = model.template_vertices.shape[0]
    joints = _read_objects(data / "mpfb2" / "3dobjs" / "base.obj")
    importance = _importance(template, joints, vertices)

    mean = template + np.einsum("n,nvd->vd", weights.mean(axis=0), shapes[rows])
    deviations = (weights - weights.mean(axis=0)).astype(np.float32)
    flat = (shapes[rows] * importance[None, :, None]).reshape(len(rows), -1)
    gram = flat.astype(np.float64) @ flat.astype(np.float64).T
    # Principal directions of deviations @ flat, found in the small space of raw blend shapes.
    values, vectors = np.linalg.eigh(deviations.astype(np.float64) @ gram @ deviations.astype(np.float64).T)
    keep = np.argsort(values)[::-1][:COMPONENTS]
    mixing = (
        deviations.T.astype(np.float64) @ vectors[:, keep] / np.sqrt(values[keep])
    )  # (raw, components), unit length
    basis = np.einsum("nk,nvd->kvd", mixing, shapes[rows].astype(np.float64))
    to_coefficients = gram @ mixing  # raw weights -> components
    scale = np.abs(basis).max(axis=(1, 2)) / 32767
    offset = -weights.mean(axis=0) @ to_coefficients

    bones, parents, skin = _merge_face_bones(
        list(model.bone_labels),
        list(model.bone_parents),
        model.vertex_bone_indices.numpy(),
        model.vertex_bone_weights.numpy(),
    )
    order = [list(model.bone_labels).index(bone) for bone in bones]
    points = np.concatenate(
        [np.arange(vertices), vertices + np.array(order), vertices + len(model.bone_labels) + np.array(order)]
    )
    action_shapes = shapes[actions][:, :vertices]
    moved = np.flatnonzero(np.abs(action_shapes).max(axis=(0, 2)) > 1e-5)
    indices = np.argsort(-skin, axis=1)[:, :BONES_PER_VERTEX]
    top = np.take_along_axis(skin, indices, axis=1)
    faces, texture_indices, groups = _faces(joints)
    return {
        "mean": mean[points].astype(np.float32),
        "basis": np.round(basis[:, points] / scale[:, None, None]).astype(np.int16),
        "basis_scale": scale.astype(np.float32),
        "phenotype_mask": mask.astype(np.uint8),
        "phenotype_to_components": (projection @ to_coefficients[: len(phenotypes)]).astype(np.float32),
        "local_to_components": to_coefficients[len(phenotypes) :].astype(np.float32),
        "local_names": np.array(names),
        "component_offset": offset.astype(np.float32),
        "bone_names": np.array(bones),
        "bone_parents": np.array(parents, dtype=np.int32),
        "skin_indices": indices.astype(np.uint8),
        "skin_weights": (top / top.sum(axis=1, keepdims=True)).astype(np.float32),
        "action_names": np.array([labels[index].removeprefix("facial_action:") for index in actions]),
        "action_vertices": moved.astype(np.int32),
        "actions": action_shapes[:, moved].astype(np.float16),
        "faces": faces,
        "face_uv": texture_indices,
        "face_groups": groups,
        "group_names": np.array(GROUPS),
        "uv": joints["vt"].astype(np.float32),
        **_keypoint_regressors(data / "keypoints" / "coco.pth"),
        **_masks(data / "mpfb2" / "textures", joints, vertices),
    }


def _random_shapes(
    generator: np.random.Generator, mask: NDArray[Any], projection: NDArray[Any], names: list[str]
) -> NDArray[np.float64]:
    """Raw blend shape weights (SAMPLES, phenotypes + local) of people that cover what `body.py` may ask for."""
    from wholepose.synth.shapes import phenotype_weights

    rows = []
    for _ in range(SAMPLES):
        phenotype = {
            "gender": generator.random(),
            "age": generator.uniform(-0.2, 1.0),
            "muscle": generator.random(),
            "weight": generator.random(),
            "height": generator.random(),
            "proportions": generator.random(),
            "cupsize": generator.random(),
            "firmness": generator.random(),
            "african": generator.random() ** 2,
            "asian": generator.random() ** 2,
            "caucasian": generator.random() ** 2 + 1e-3,
        }
        changes = np.zeros(len(names))
        for index in range(0, len(names), 2):  # rows come in pairs: more, less
            stem = names[index]
            if stem.startswith("r-") or not any(part in stem for part in _FACE_CHANGES):
                continue
            value = np.clip(generator.normal(0, 0.4), -1, 1)
            for name in (stem, "r-" + stem[2:]) if stem.startswith("l-") else (stem,):
                position = names.index(name)
                changes[position + (0 if value > 0 else 1)] = abs(value)
        rows.append(np.concatenate([phenotype_weights(phenotype, mask) @ projection, changes]))
    return np.array(rows)


def _importance(template: NDArray[Any], objects: dict[str, Any], vertices: int) -> NDArray[np.float32]:
    """(V,) how much an error of each vertex counts: faces and hands are seen from close by."""
    weights = np.ones(len(template), dtype=np.float32)
    positions = template[:vertices]
    head = positions[:, 2] > np.quantile(positions[:13380, 2], 0.999) - 0.28
    hands = np.abs(positions[:, 0]) > np.quantile(np.abs(positions[:13380, 0]), 0.999) - 0.2
    weights[:vertices][head | hands] = 4.0
    for name, (faces, _) in objects["groups"].items():
        if name.startswith("joint"):
            weights[np.unique(faces)] = 0.0
    weights[vertices:] = 2.0
    return weights


def _merge_face_bones(
    names: list[str], parents: list[int], indices: NDArray[Any], weights: NDArray[Any]
) -> tuple[list[str], list[int], NDArray[np.float64]]:
    """Keeps the bones that poses turn; the others' weights go to their nearest kept ancestor."""
    head = names.index("head")

    def below_head(bone: int) -> bool:
        return bone >= 0 and (parents[bone] == head or below_head(parents[bone]))

    dropped = {
        bone
        for bone, name in enumerate(names)
        if (below_head(bone) and name not in ("eye.L", "eye.R")) or name.startswith(("breast", "toe2", "toe3", "toe4"))
    }
    kept = [bone for bone in range(len(names)) if bone not in dropped]

    def owner(bone: int) -> int:
        while bone in dropped:
            bone = parents[bone]
        return bone

    dense = np.zeros((len(indices), len(names)))
    np.add.at(dense, (np.arange(len(indices))[:, None], indices), np.nan_to_num(weights))
    merged = np.zeros((len(indices), len(kept)))
    for bone in range(len(names)):
        merged[:, kept.index(owner(bone))] += dense[:, bone]
    merged[merged.sum(axis=1) == 0, 0] = 1.0
    new_parents = [-1 if parents[bone] < 0 else kept.index(owner(parents[bone])) for bone in kept]
    return [names[bone] for bone in kept], new_parents, merged


def _read_objects(path: Path) -> dict[str, Any]:
    """Reads the base mesh: texture coordinates and, for each group, its quads and their texture indices."""
    texture: list[list[float]] = []
    groups: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
    current: tuple[list[list[int]], list[list[int]]] = ([], [])
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            texture.append([float(words[1]), float(words[2])])
        elif words[0] == "g":
            current = groups.setdefault(words[1], ([], []))
        elif words[0] == "f":
            corners = [[int(number) - 1 for number in word.split("/")[:2]] for word in words[1:]]
            current[0].append([corner[0] for corner in corners])
            current[1].append([corner[1] for corner in corners])
    return {
        "vt": np.array(texture),
        "groups": {name: (np.array(faces), np.array(uv)) for name, (faces, uv) in groups.items()},
    }


def _faces(objects: dict[str, Any]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """Triangles (F, 3), their texture corners (F, 3) and group numbers (F,)."""
    faces, texture, numbers = [], [], []
    for number, name in enumerate(GROUPS):
        quads, corners = objects["groups"][name]
        for pick in ((0, 1, 2), (0, 2, 3)):
            faces.append(quads[:, pick])
            texture.append(corners[:, pick])
            numbers.append(np.full(len(quads), number))
    return (
        np.concatenate(faces).astype(np.int32),
        np.concatenate(texture).astype(np.int32),
        np.concatenate(numbers).astype(np.uint8),
    )


def _keypoint_regressors(path: Path) -> dict[str, NDArray[Any]]:
    """Anny's 17 body and 6 foot keypoints as sparse weights over mesh vertices."""
    torch = require("torch", "synth")
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    names = list(loaded)
    rows, columns, values = [], [], []
    for row, name in enumerate(names):
        dense = loaded[name].numpy()
        used = np.flatnonzero(dense)
        rows.append(np.full(len(used), row))
        columns.append(used)
        values.append(dense[used])
    return {
        "regressor_names": np.array(names),
        "regressor_rows": np.concatenate(rows).astype(np.uint8),
        "regressor_vertices": np.concatenate(columns).astype(np.int32),
        "regressor_weights": np.concatenate(values).astype(np.float32),
    }


def _masks(folder: Path, objects: dict[str, Any], vertices: int) -> dict[str, NDArray[Any]]:
    """Painted skin regions read at the vertices, (V,) uint8 each."""
    from PIL import Image, ImageFilter

    faces, corners = objects["groups"]["body"]
    position = np.zeros((vertices, 2))
    position[faces.ravel()] = objects["vt"][corners.ravel()]
    result = {}
    for name in MASKS:
        with Image.open(folder / f"mpfb_{name}.jpg") as picture:
            grey = picture.convert("L").filter(ImageFilter.GaussianBlur(3))
            pixels = np.asarray(grey)
        height, width = pixels.shape
        column = np.clip(position[:, 0] * width, 0, width - 1).astype(int)
        row = np.clip((1 - position[:, 1]) * height, 0, height - 1).astype(int)
        values = pixels[row, column].copy()
        values[13380:] = 0
        result[f"mask_{name}"] = values
    return result
