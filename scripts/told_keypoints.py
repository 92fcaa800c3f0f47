"""Keypoints that other networks told (scripts/tell_keypoints.py), put beside those that people labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WHOLE = 26
"""Body and feet: the first of Halpe's 136; the others are those of faces and hands."""
SURE, PART_SURE, SAME = 0.3, 0.5, 0.04
"""What is told counts if it scores this in every look, faces and hands more, and the looks differ by no more than this
share of the box.

Of the labelled keypoints of COCO's train photos, MoveNet told three quarters so, where it looked at the right person;
97.6 % of these were within a similarity of 0.5, and their mean similarity was .92 (``tell_keypoints.py --check``).
"""
NEAR, OURS = 0.1, 0.25
"""How far it may be from a label, as a share of the box, and what the label then weighs in their mean."""


def read_told(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """By set and id of a person's row: what was told of them (looks, 136, 3), x and y in pixels, and score.

    Raises:
        SystemExit: The folder holds nothing.
    """
    told = {}
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            told[path.stem] = dict(zip(file["ids"].tolist(), file["keypoints"], strict=True))
    if not told:
        raise SystemExit(f"{folder}: holds nothing told; scripts/tell_keypoints.py writes it")
    return told


def combined(
    keypoints: np.ndarray, labelled: np.ndarray, told: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels with what was told: it fills what is missing and makes labels that are near it more exact.

    Nothing of it is taken where it is about somebody else: where half of the labels are far from it.

    Args:
        keypoints: (136, 2), in the same pixels as all that follows.
        labelled: (136,) bool.
        told: (looks, 136, 3); scores are 0 where nothing is told.
        box: (4,) xyxy.

    Returns:
        New keypoints and labelled.
    """
    size = (box[2:] - box[:2]).max()
    place, scores = told[..., :2].mean(0), told[..., 2].min(0)
    sure = scores > np.where(np.arange(len(scores)) < WHOLE, SURE, PART_SURE)
    sure &= np.ptp(told[..., :2], axis=0).max(1) < SAME * size
    apart = np.linalg.norm(place - keypoints, axis=1) / size
    compared = labelled & (scores > 0)
    if compared.any() and np.median(apart[compared]) >= NEAR:
        return keypoints, labelled
    near = sure & labelled & (apart < NEAR)
    refined = np.where(near[:, None], OURS * keypoints + (1 - OURS) * place, keypoints)
    return np.where((sure & ~labelled)[:, None], place, refined).astype(keypoints.dtype), labelled | sure
