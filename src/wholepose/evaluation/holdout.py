"""Which pictures of a set stay out of training, so that they can measure it.

Some sets come without a validation half. Training scripts and benchmarks both take the split from here, so that a model
is never measured on what it learnt from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def holdout_ids(ids: Iterable[int], count: int = 200, seed: int = 0) -> frozenset[int]:
    """Chooses the images that are held out for measuring.

    The sorted, distinct ids are put in a random order that depends on the seed alone, and the first ones are taken: the
    order in which a file lists its images, or lists one twice, changes nothing.

    Args:
        ids: Image ids of the whole set.
        count: How many to hold out.
        seed: Another seed, another choice.

    Returns:
        The ids to leave out of training.

    Raises:
        ValueError: The set has fewer images than are to be held out.
    """
    ordered = sorted(set(ids))
    if not 0 <= count <= len(ordered):
        raise ValueError(f"cannot hold out {count} of {len(ordered)} images")
    order = np.random.default_rng(seed).permutation(len(ordered))
    return frozenset(ordered[position] for position in order[:count])


def split_photos(annotations: Path) -> tuple[list[Path], list[Path]]:
    """The photos of a COCO file by what `holdout_ids` holds out of it.

    Args:
        annotations: The file; `file_name` is relative to its folder.

    Returns:
        Photos to learn from, and photos held out, each as the file lists them.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no JSON, or lists fewer than 200 photos.
    """
    entries = json.loads(annotations.read_text(encoding="utf-8"))["images"]
    held_out = holdout_ids(entry["id"] for entry in entries)
    learnt: list[Path] = []
    held: list[Path] = []
    for entry in entries:
        (held if entry["id"] in held_out else learnt).append(annotations.parent / entry["file_name"])
    return learnt, held
