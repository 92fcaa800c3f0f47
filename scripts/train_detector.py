"""Trains the person detector on ../shared/data and drawn scenes, on a CPU, within a given time.

    python scripts/draw_detector_scenes.py --assets ../shared/data/makehuman --backgrounds ../shared/data/negatives \\
        --out runs/scenes
    python scripts/train_detector.py --data ../shared/data --scenes runs/scenes --run runs/detector --minutes 60 \
        --start weights/wholepose_detector_v2.safetensors --rate .1

The moving average of the weights is saved every two minutes and measured on coco/dev every few minutes; the run can be
stopped at any time. `scripts/export_detector.py` turns the checkpoint into the embedded ONNX file.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import queue
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from averaging import follow
from detector_measure import average_precision, dev_photos, find_people
from detector_scenes import MAX_PEOPLE, SceneMaker, load_photos
from machine import has_fast_bf16
from muon import Muon, split_parameters

from wholepose.models.detector import STRIDES, DetectorNet
from wholepose.outputs import atomic_path

PHASES = ((0.5, 256, 24), (0.82, 320, 16), (1.01, 384, 11))
"""Until which share of the time: side of the pictures in pixels, batch size."""

PEAK_RATES = (0.02, 2e-3)
"""Of Muon for the filters between the first layer and the last ones, and of AdamW for the rest."""
OUTER = ("stem.", *(f"heads.{level}.1." for level in range(len(STRIDES))))
EMA_DECAY = 0.998
BOX_WEIGHT = 2.5


def pairwise_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes (..., 4) with boxes (..., 4), broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    iou = overlap / union.clamp(min=1e-6)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, people: Tensor, present: Tensor
) -> tuple[Tensor, Tensor]:
    """Gives each person the cells that see them best now (task-aligned assignment).

    Args:
        logits: (B, A).
        boxes: (B, A, 4).
        points: (A, 2).
        strides: (A,).
        people: (B, M, 4).
        present: (B, M) bool, False where a row only fills up.

    Returns:
        Person of each cell (B, A) int64 and the score it should give (B, A), 0 where it sees nobody.
    """
    iou = pairwise_iou(boxes[:, None], people[:, :, None])[0]
    middle, half = (people[..., :2] + people[..., 2:]) / 2, (people[..., 2:] - people[..., :2]) / 2
    reach = torch.maximum(half[:, :, None], 0.6 * strides[None, None, :, None])
    inside = ((points - middle[:, :, None]).abs() < reach).all(-1) & present[..., None]
    quality = torch.where(inside, logits.sigmoid()[:, None].sqrt() * iou.pow(4), torch.full_like(iou, -1))
    best = quality.topk(9, dim=2)
    chosen = torch.zeros_like(inside).scatter_(2, best.indices, best.values > 1e-12)
    owner = torch.where(chosen, iou, torch.full_like(iou, -1)).max(dim=1).indices
    chosen &= F.one_hot(owner, people.shape[1]).transpose(1, 2).bool()
    quality, iou = quality * chosen, iou * chosen
    scale = iou.amax(2, keepdim=True) / quality.amax(2, keepdim=True).clamp(min=1e-12)
    return owner, (quality * scale).amax(1).clamp(0, 1)


def loss_of(net: DetectorNet, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Score and box loss of (pictures, people (B, M, 5), ignored pixels (B, S, S))."""
    images, rows, ignore = batch
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bf16(images.device)):
        logits, boxes, points, strides = net(images.to(memory_format=torch.channels_last))
    people, trust, present = rows[..., :4], rows[..., 4], rows[..., 4] > 0
    owner, target = assign(logits.detach(), boxes.detach(), points, strides, people, present)
    cell = points.long()
    counts = 1.0 - ignore[:, cell[:, 1], cell[:, 0]]
    chance = logits.detach().sigmoid()
    weight = torch.where(target > 0, target, 0.75 * chance.square() * counts)
    total = target.sum().clamp(min=1)
    score_loss = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum() / total
    wanted = people.gather(1, owner[..., None].expand(-1, -1, 4))
    sure = target * trust.gather(1, owner)
    box_loss = ((1 - pairwise_iou(boxes, wanted)[1]) * sure).sum() / total
    return score_loss, box_loss


def make_batch(maker: SceneMaker, size: int, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Composes a batch: pictures (B, 3, S, S) in [-1, 1], people (B, M, 5), ignored pixels (B, S, S)."""
    scenes = [maker.make(size, rng) for _ in range(count)]
    images = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2)
    rows = torch.zeros(count, max(1, min(MAX_PEOPLE, max(len(people) for _, people, _ in scenes))), 5)
    for index, (_, people, _) in enumerate(scenes):
        rows[index, : len(people)] = torch.from_numpy(people)
    ignore = torch.from_numpy(np.stack([ignored for _, _, ignored in scenes])).float()
    return images.float() / 127.5 - 1, rows, ignore


def save(net: DetectorNet, pictures: int, path: Path) -> None:
    """Writes the weights, and how many pictures they have learnt from."""
    weights = {name: values.contiguous() for name, values in net.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, {"pictures": str(pictures)})


def load(net: DetectorNet, path: Path) -> int:
    """Reads what `save` or scripts/import_nanodet.py wrote, and says how many pictures it has learnt from."""
    with safe_open(path, "pt") as file:
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return int(file.metadata()["pictures"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, help="folder that scripts/draw_detector_scenes.py filled")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--start", type=Path, metavar="FILE", help="go on from these weights, a .safetensors file")
    parser.add_argument("--from-share", type=float, default=0.0, help="where in the schedule to begin, 0 to 1")
    parser.add_argument("--rate", type=float, default=1.0, help="highest learning rates against those for new weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-every", type=float, default=6, metavar="MINUTES")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    options.run.mkdir(parents=True, exist_ok=True)

    maker = SceneMaker(load_photos(options.data, options.scenes))
    dev = dev_photos(options.data)
    net = DetectorNet().to(memory_format=torch.channels_last)
    step = pictures = 0
    if options.start is not None:
        pictures = load(net, options.start)
    average = copy.deepcopy(net).eval()
    filters, others = split_parameters(net, OUTER)
    optimisers = (Muon(filters), torch.optim.AdamW(others, weight_decay=0.0))

    start = last_save = last_measure = time.monotonic()

    def progress() -> float:
        done = (time.monotonic() - start) / (options.minutes * 60)
        return float(options.from_share + (1 - options.from_share) * done)

    batches: queue.Queue[tuple[Tensor, Tensor, Tensor] | Exception] = queue.Queue(maxsize=3)

    def produce() -> None:
        rng = np.random.default_rng(options.seed)
        while progress() < 1:
            size, count = next((size, count) for until, size, count in PHASES if progress() < until)
            try:
                batches.put(make_batch(maker, size, count, rng))
            except Exception as error:  # so that training ends, too
                batches.put(error)
                return

    threading.Thread(target=produce, daemon=True).start()
    sums = torch.zeros(2)
    while (share := progress()) < 1:
        batch = batches.get()
        if isinstance(batch, Exception):
            raise batch
        height = min(1.0, (step + 1) / 150) * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * share)))
        for optimiser, peak in zip(optimisers, PEAK_RATES, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = options.rate * height * peak
            optimiser.zero_grad(set_to_none=True)
        score_loss, box_loss = loss_of(net, batch)
        (score_loss + BOX_WEIGHT * box_loss).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        pictures += len(batch[0])
        follow(average, net, step, longest=EMA_DECAY)
        sums += torch.stack([score_loss.detach(), box_loss.detach()])
        now = time.monotonic()
        if step % 50 == 0:
            minutes, (score, box) = (now - start) / 60, (sums / 50).tolist()
            print(f"{minutes:6.1f} min  step {step}  pictures {pictures}  score {score:.3f}  box {box:.3f}", flush=True)
            sums.zero_()
        done = progress() >= 1
        if done or now - last_save > 120:
            last_save = now
            save(average, pictures, options.run / "last.safetensors")
        if done or now - last_measure > options.measure_every * 60:
            last_measure = now
            figures = average_precision(dev, [find_people(average, photo.image) for photo in dev])
            print("dev", json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
