"""What a trained network says of people in photos, to be learnt where their labels are silent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from machine import has_fast_bf16
from pose_photos import Labelled, Material
from tqdm import tqdm

from wholepose import PoseEstimator
from wholepose.outputs import atomic_path
from wholepose.runtimes import load_runtime
from wholepose.skeletons import HALPE136

TOLD_SETS = ("lspet", "lsp", "coco", "studio", "street")
"""Photos of whole people."""
ROUGH_SETS = ("lspet",)
"""Sets whose labels are often off by several pixels."""
HANDS = [*HALPE136.parts["left_hand"], *HALPE136.parts["right_hand"]]
"""Not taken over: hands of people seen whole are mostly told wrongly."""
BELIEVED = 0.3
"""The least score of a keypoint that is taken over."""
WEIGHT = 0.5
"""Of a keypoint that is told, times its score, against one that is labelled."""
NEAR = 0.05
"""A rough label is moved halfway to what is told if they are closer than this share of the box's longer side."""
AT_ONCE = 32


def write_told(material: Material, teacher: Path, device: torch.device, path: Path) -> None:
    """Asks the teacher, with the flip test, about everybody in TOLD_SETS; writes keypoints and scores by set."""
    precision = "bf16" if has_fast_bf16(device) else "fp32"
    runtime = load_runtime(teacher, device=device.type, precision=precision)
    estimator = PoseEstimator(runtime, batch_size=AT_ONCE)
    told = {}
    for name in (name for name in TOLD_SETS if material.people.get(name)):
        people = material.people[name]
        answers = []
        for start in tqdm(range(0, len(people), AT_ONCE), desc=f"asking about {name}"):
            group = people[start : start + AT_ONCE]
            photos, boxes = [person.photo for person in group], [person.box[None] for person in group]
            answers += estimator.predict_batch(photos, boxes, flip_test=True)
        told[f"{name}_keypoints"] = np.concatenate([poses.keypoints for poses in answers])
        told[f"{name}_scores"] = np.concatenate([poses.scores for poses in answers])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **told)


def heed_told(material: Material, path: Path) -> None:
    """Adds what `write_told` wrote to the people it was asked about.

    Raises:
        SystemExit: They are not as many.
    """
    told = np.load(path, allow_pickle=False)
    for name in (name for name in TOLD_SETS if material.people.get(name)):
        people, keypoints, scores = material.people[name], told[f"{name}_keypoints"], told[f"{name}_scores"]
        if len(people) != len(keypoints):
            raise SystemExit(f"{path}: was asked about other people of {name}; delete it")
        silent = ~np.any([person.labelled for person in people], axis=0)
        silent[HANDS] = False
        material.people[name] = [
            _with_told(person, silent, name in ROUGH_SETS, *answer)
            for person, *answer in zip(people, keypoints, scores, strict=True)
        ]


def _with_told(
    person: Labelled, silent: np.ndarray, rough: bool, keypoints: np.ndarray, scores: np.ndarray
) -> Labelled:
    """The person with what is told where the set is silent, and with rough labels mended a little."""
    believed = scores >= BELIEVED
    merged = np.where(silent[:, None], keypoints, person.keypoints).astype(np.float32)
    if rough:
        apart = np.linalg.norm(keypoints - person.keypoints, axis=1)
        mended = person.labelled & believed & (apart < NEAR * (person.box[2:] - person.box[:2]).max())
        merged[mended] = (keypoints[mended] + person.keypoints[mended]) / 2
    weights = np.where(silent & believed, WEIGHT * scores, 0).astype(np.float32)
    return dataclasses.replace(person, keypoints=merged, told=weights)
