"""Trains the first embedded model on labelled photos, within a budget of minutes, on the CPU.

    python scripts/draw_v0_crops.py --data ../shared/data --out runs/synth_v0
    python scripts/train_v0.py --data ../shared/data --synth runs/synth_v0 --run runs/v0 --minutes 70

Sets that label only some keypoints are mixed: what a set does not label weighs nothing. The first part of the time goes
to small crops, the rest to crops of the size that predicts; the learning rate falls on one cosine over the whole time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import queue
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from wholepose.evaluation.holdout import holdout_ids
from wholepose.geometry import crop_matrices, crop_regions, transform_points
from wholepose.heatmaps import decode
from wholepose.models.posenet import build_model

ARCH = "hrnet_w24_slim"
STAGES = ((0.5, (128, 96), 1.5, 32), (1.0, (256, 192), 2.0, 16))  # (until, crop size, sigma in cells, batch)
SHARES = {"lspet": 0.36, "lsp": 0.06, "coco": 0.12, "studio": 0.04, "face68": 0.07, "hand21": 0.07, "synth": 0.28}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255
LONGEST_PX = 420  # photos are kept so that a person's box is at most this high
LIMBS = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)


def read_set(folder: Path, part: str = "train") -> tuple[list[dict], dict[int, np.ndarray]]:
    """People (keypoints (136, 2), visibility (136,), box) and their photos, shrunk where the person is large."""
    document = json.loads((folder / f"{part}.json").read_text())
    held_out = holdout_ids([i["id"] for i in document["images"]]) if folder.name == "lsp" else frozenset()
    files = {image["id"]: image["file_name"] for image in document["images"]}
    largest: dict[int, float] = {}
    people = []
    for row in document["annotations"]:
        keypoints = np.array(row.get("keypoints", []), dtype=np.float32).reshape(-1, 3)
        if row.get("iscrowd") or not len(keypoints) or not keypoints[:, 2].any() or row.get("suspect_left_right"):
            continue
        x, y, width, height = row["bbox"]
        if width < 8 or height < 8:
            continue
        person = {"image": row["image_id"], "keypoints": keypoints[:, :2], "visibility": keypoints[:, 2] > 0}
        person |= {"box": np.array([x, y, x + width, y + height]), "held_out": row["image_id"] in held_out}
        people.append(person)
        largest[row["image_id"]] = max(largest.get(row["image_id"], 0), height, width)
    photos = {}
    for image_id, side in largest.items():
        photo = cv2.cvtColor(cv2.imread(str(folder / files[image_id])), cv2.COLOR_BGR2RGB)
        factor = min(1.0, LONGEST_PX / side)
        if factor < 1:
            photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        photos[image_id] = photo
        for person in people:
            if person["image"] == image_id and factor < 1:
                person["keypoints"] = person["keypoints"] * factor
                person["box"] = person["box"] * factor
    return people, photos


def read_crops(folder: Path) -> tuple[list[dict], dict[int, np.ndarray]]:
    """The synthetic people of a folder that scripts/draw_v0_crops.py fills, in the form of ``read_set``."""
    people, photos = [], {}
    for path in sorted(folder.glob("*.npz")):
        shard = np.load(path)
        rows = zip(shard["image"], shard["keypoints"], shard["visibility"], shard["boxes"], strict=True)
        for image, keypoints, visibility, box in rows:
            person = {"image": len(photos), "keypoints": keypoints, "visibility": visibility > 0, "box": box}
            if (visibility > 0).sum() > 8:
                people.append(person | {"held_out": False})
                photos[len(photos)] = image
    return people, photos


def augment(person: dict, photo: np.ndarray, background: np.ndarray | None, size, kind: str, rng: np.random.Generator):
    """One crop (H, W, 3) uint8, its keypoints in crop pixels and weights."""
    box, visible = person["box"].astype(np.float64), person["visibility"]
    keypoints = person["keypoints"].astype(np.float64)
    if kind in ("face68", "hand21"):
        low, high = keypoints[visible].min(0), keypoints[visible].max(0)
        box = np.concatenate([low, high])
        grow = np.exp(rng.uniform(np.log(1.0), np.log(3.2 if kind == "face68" else 2.2)))
    else:
        body = np.flatnonzero(visible)
        if rng.random() < 0.3 and len(body) > 8:  # half body
            upper = [k for k in body if k < 11 or k in (17, 18)]
            lower = [k for k in body if 11 <= k < 17 or k > 18]
            chosen = upper if rng.random() < 0.7 else lower
            if len(chosen) > 2:
                points = keypoints[chosen]
                box = np.concatenate([points.min(0), points.max(0)])
                box += np.array([-1, -1, 1, 1]) * 0.12 * (box[2:] - box[:2]).max()
        grow = np.clip(rng.normal(1.0, 0.3), 0.6, 1.5)
    centers, sizes = crop_regions(box[None], size[1] / size[0])
    sizes = sizes * grow
    centers = centers + rng.uniform(-0.12, 0.12, (1, 2)) * sizes[:, ::-1]
    turn = np.clip(rng.normal(0, 35), -80, 80) if rng.random() < 0.6 else 0.0
    matrix = crop_matrices(centers, sizes, size, turn)[0]
    shrink = np.abs(np.linalg.det(matrix[:, :2])) ** 0.5
    if shrink < 0.5 and rng.random() < 0.5:  # sometimes smooth, sometimes aliased, as photos come
        photo = cv2.GaussianBlur(photo, (0, 0), 0.35 / shrink)
    if background is not None:
        crop = cv2.resize(background, (size[1], size[0]))
        cv2.warpAffine(photo, matrix, (size[1], size[0]), crop, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    else:
        crop = cv2.warpAffine(photo, matrix, (size[1], size[0]))
    keypoints = transform_points(keypoints, matrix)
    return colour(crop, rng), keypoints, visible.astype(np.float32)


def colour(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, colour cast, grey, blur, noise and occlusion."""
    values = crop.astype(np.float32)
    if rng.random() < 0.7:
        values = (values - 128) * rng.uniform(0.6, 1.4) + 128 + rng.uniform(-35, 35) + rng.uniform(-14, 14, 3)
    if rng.random() < 0.1:
        values = np.repeat(values.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.15:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.2:
        values = values + rng.normal(0, rng.uniform(2, 14), values.shape).astype(np.float32)
    if rng.random() < 0.15:
        height, width = crop.shape[:2]
        h, w = int(height * rng.uniform(0.08, 0.3)), int(width * rng.uniform(0.08, 0.35))
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        values[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    return np.clip(values, 0, 255).astype(np.uint8)


def flip(crop: np.ndarray, keypoints: np.ndarray, weights: np.ndarray, mirror: np.ndarray):
    """The mirror image, left and right exchanged."""
    keypoints = keypoints[mirror].copy()
    keypoints[:, 0] = crop.shape[1] - 1 - keypoints[:, 0]
    return crop[:, ::-1], keypoints, weights[mirror]


def batches(sets, backgrounds, mirror, state, out: queue.Queue, seed: int) -> None:
    """Fills the queue with batches of the current stage's size."""
    rng = np.random.default_rng(seed)
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    for round_ in itertools.count(1):
        if round_ % 250 == 0 and len(list(state["synth"].glob("*.npz"))) * 200 > len(sets["synth"][0]):
            sets["synth"] = read_crops(state["synth"])  # more may have been drawn meanwhile
        size, count = state["size"], state["batch"]
        crops, points, weights = [], [], []
        for name in rng.choice(names, count, p=shares / shares.sum()):
            people, photos = sets[name]
            person = people[rng.integers(len(people))]
            background = backgrounds[rng.integers(len(backgrounds))] if rng.random() < 0.5 else None
            sample = augment(person, photos[person["image"]], background, size, name, rng)
            if rng.random() < 0.5:
                sample = flip(*sample, mirror)
            crops.append(sample[0])
            points.append(sample[1])
            weights.append(sample[2])
        out.put((np.stack(crops), np.stack(points).astype(np.float32), np.stack(weights)))


def targets_of(points: torch.Tensor, weights: torch.Tensor, size, sigma: float):
    """Gaussian targets (B, K, h, w) and weights (B, K), 0 for what lies outside the crop."""
    height, width = size[0] // 4, size[1] // 4
    cells = points / 4
    x = torch.exp(-((torch.arange(width) - cells[..., 0, None]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((torch.arange(height) - cells[..., 1, None]) ** 2) / (2 * sigma**2))
    inside = (cells > -sigma).all(-1) & (cells < torch.tensor([width, height]) + sigma).all(-1)
    return y[..., None] * x[..., None, :], weights * inside


def to_network(crops: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 to normalised (B, 3, H, W)."""
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    return ((pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def pck(model: torch.nn.Module, people, photos, size) -> float:
    """PCK@0.2 of the torso over 12 limb joints of the held-out LSP people."""
    good = total = 0
    for start in range(0, len(people), 25):
        group = people[start : start + 25]
        boxes = np.stack([person["box"] for person in group])
        matrices = crop_matrices(*crop_regions(boxes, size[1] / size[0]), size)
        crops = [
            cv2.warpAffine(photos[p["image"]], m, (size[1], size[0])) for p, m in zip(group, matrices, strict=True)
        ]
        heatmaps = model(to_network(np.stack(crops))).float().numpy()
        found = decode(heatmaps, kernel=11).coordinates * 4
        for person, matrix, answer in zip(group, matrices, found, strict=True):
            truth = transform_points(person["keypoints"], matrix)
            visible = person["visibility"][list(LIMBS)]
            torso = np.linalg.norm(truth[5] - truth[12])
            error = np.linalg.norm(answer - truth, axis=1)[list(LIMBS)]
            good += int((error[visible] < 0.2 * torso).sum())
            total += int(visible.sum())
    return good / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with lspet, lsp, coco, studio, face68, hand21, negatives"
    )
    parser.add_argument("--synth", type=Path, required=True, help="folder of drawn crops")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="weights of an earlier run to start from (its average.pth)")
    parser.add_argument("--large-only", action="store_true", help="leave out the small crops")
    parser.add_argument("--threads", type=int, default=0, help="PyTorch's threads; all cores when 0")
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)

    sets = {name: read_set(options.data / name) for name in SHARES if name != "synth"}
    sets["synth"] = read_crops(options.synth)
    held_out = [person for person in sets["lsp"][0] if person["held_out"]]
    lsp_photos = sets["lsp"][1]
    sets["lsp"] = ([person for person in sets["lsp"][0] if not person["held_out"]], lsp_photos)
    files = sorted((options.data / "negatives" / "images").iterdir())[::3]
    backgrounds = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    backgrounds = [cv2.resize(b, (256, 256), interpolation=cv2.INTER_AREA) for b in backgrounds]
    names = json.loads((options.data / "lsp" / "train.json").read_text())["categories"][0]["keypoints"]
    from wholepose.skeletons import HALPE136

    assert list(HALPE136.keypoint_names) == names
    mirror = HALPE136.flip_indices
    print({name: len(people) for name, (people, _) in sets.items()}, len(held_out), "held out", flush=True)

    model = build_model(ARCH, 136).to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    torch.nn.init.normal_(model.head.final_layer.weight, std=0.001)
    if options.init:
        model.load_state_dict(torch.load(options.init, weights_only=True)["model"])
    average = build_model(ARCH, 136).to(memory_format=torch.channels_last).eval()
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    state = {"size": STAGES[0][1], "batch": STAGES[0][3], "synth": options.synth}
    ready: queue.Queue = queue.Queue(maxsize=3)
    threading.Thread(target=batches, args=(sets, backgrounds, mirror, state, ready, options.seed), daemon=True).start()

    started = time.monotonic()
    step = seen = 0
    running = 0.0
    report = save = started
    while (done := (time.monotonic() - started) / (60 * options.minutes)) < 1:
        _, size, sigma, count = STAGES[-1] if options.large_only else next(s for s in STAGES if done < s[0])
        state.update(size=size, batch=count)
        crops, points, weights = ready.get()
        if crops.shape[1:3] != size:
            continue
        for group in optimiser.param_groups:
            group["lr"] = (
                1.5e-3 * (count / 32) ** 0.5 * min(1.0, (step + 1) / 300) * 0.5 * (1 + math.cos(math.pi * done))
            )
        targets, weight = targets_of(torch.from_numpy(points), torch.from_numpy(weights), size, sigma)
        errors = (model(to_network(crops)) - targets).square().mean((2, 3)) * weight
        loss = 1000 * (errors.sum(1) / weight.sum(1).clamp(min=1) ** 0.75).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimiser.step()
        step += 1
        seen += len(crops)
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if time.monotonic() - report > 60:
            report = time.monotonic()
            print(
                f"{(report - started) / 60:5.1f} min  step {step}  seen {seen}  {size}  loss {running:.3f}", flush=True
            )
        if time.monotonic() - save > 300:
            print(f"   held-out PCK {pck(average, held_out, lsp_photos, size):.3f}", flush=True)
            torch.save({"model": average.state_dict(), "step": step, "seen": seen}, options.run / "average.pth.part")
            (options.run / "average.pth.part").rename(options.run / "average.pth")
            save = time.monotonic()
    torch.save({"model": average.state_dict(), "step": step, "seen": seen}, options.run / "final.pth")
    print(
        f"end: step {step} seen {seen} held-out PCK {pck(average, held_out, lsp_photos, STAGES[-1][1]):.3f}", flush=True
    )


if __name__ == "__main__":
    main()
