"""Trains the embedded pose models within a budget of minutes, on the CPU or a GPU.

    python scripts/train_pose.py clean --crops runs/crops --run runs/clean --minutes 40
    python scripts/train_pose.py default --crops runs/crops --data ../shared/data \\
        --init runs/clean/average.safetensors --run runs/default --minutes 120

The clean stage sees synthetic people alone; the default one goes on from it with labelled photos. The first part of the
time goes to small crops, the rest to crops of the size that predicts; the learning rate falls evenly to nothing over
the whole time. The same command goes on with a run that was stopped. What lies outside a crop is learnt as nowhere.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from averaging import follow
from machine import has_fast_bf16
from muon import Muon, split_parameters
from pose_photos import Labelled, read_material
from pose_samples import SHARES, Batches
from together import Together, run_together

from wholepose.geometry import crop_image, crop_matrices, crop_regions, transform_points
from wholepose.heatmaps import decode
from wholepose.models.checkpoints import load_checkpoint, save_model
from wholepose.models.decode import normalize
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model
from wholepose.outputs import atomic_path
from wholepose.weights import ModelCard

SMALL, LARGE = ((128, 96), 1.5, 32), ((256, 192), 2.0, 16)  # crop size, sigma in cells, batch
LIMBS = list(range(5, 17))
OUTER = ("head.", "backbone.conv1.")
RATES = {"filters": 0.02, "others": 1.5e-3}
STRENGTHS = (0.8, 0.45)
"""How much crops are varied at the beginning and at the end: small networks have no time to overfit here."""
ABSENT = 0.25
"""Weight of a keypoint that is not in the crop against one that is."""
KERNEL = 11
SAVE_S = 480
"""Between checkpoints."""
SYNTHETIC = "synthetic people of wholepose (clean looks)"
SYNTHETIC_HANDS = "synthetic hands of wholepose in poses of Ge et al. 2019 (non-commercial), skins as of MakeHuman"
DATA = {
    "clean": (SYNTHETIC,),
    "default": (
        "Leeds Sports Pose and LSP Extended training sets (Flickr photos, no licence stated)",
        "COCO train2017, 78 photos (annotations CC BY 4.0, photos various terms)",
        "300-W: HELEN and AFW, 1,207 faces (research only)",
        "hands of Ge et al. 2019, 400 (non-commercial research and education)",
        "Clothing Co-Parsing, 1,003 people cut out to stand beside others (photos of bloggers, no licence of theirs)",
        "259 studio photos of HuuTranDuc/LiteHrnet (no licence of the photos)",
        "INRIA Person negatives as backgrounds (research)",
        SYNTHETIC,
        SYNTHETIC_HANDS,
    ),
}
TERMS = {
    "clean": "Apache-2.0",
    "default": "research and private use: trained on photos of others, some for non-commercial research only",
}


KEPT = ("model", "average", "filters", "others")
"""What of a run goes into its checkpoint, beside its progress."""


@dataclass
class Progress:
    """How far a run is; goes into its checkpoint."""

    step: int = 0
    seen: int = 0
    elapsed_s: float = 0.0


class Run:
    """Network, averaged network and optimiser, kept in one file that a later process goes on from."""

    def __init__(self, options: argparse.Namespace, device: torch.device, together: Together) -> None:
        self.together = together
        self.folder, self.device, self.stage = options.run, device, options.stage
        self.arch = options.arch
        self.model = build_model(options.arch, 136)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        torch.nn.init.normal_(self.model.head.final_layer.weight, std=0.001)
        if options.init:
            load_checkpoint(self.model, options.init)
        self.average = build_model(options.arch, 136)
        self.average.load_state_dict(self.model.state_dict())
        for network in (self.model, self.average):
            network.to(device, memory_format=torch.channels_last)
        self.average.eval()
        filters, others = split_parameters(self.model, OUTER)
        self.filters = Muon(filters, lr=RATES["filters"])
        self.others = torch.optim.AdamW(others, lr=RATES["others"], weight_decay=1e-2)
        self.progress = Progress()
        if self.path.exists():
            state = torch.load(self.path, weights_only=True, map_location=device)
            for name in KEPT:
                getattr(self, name).load_state_dict(state[name])
            self.progress = Progress(**state["progress"])

    @property
    def path(self) -> Path:
        return self.folder / "state.pth"

    def save(self) -> None:
        """Keeps all that is needed to go on, and the averaged weights as a model file."""
        state = {name: getattr(self, name).state_dict() for name in KEPT}
        with atomic_path(self.path) as temporary:
            torch.save({**state, "progress": vars(self.progress)}, temporary)
        card = ModelCard(
            name=f"{self.arch}_256x192.halpe136_{self.stage}",
            arch=self.arch,
            skeleton="halpe136",
            input_size=LARGE[0],
            decode_kernel=KERNEL,
            licence=TERMS[self.stage],
            source=f"scripts/train_pose.py {self.stage}",
            description="HRNet with DARK heatmaps, trained on a processor for its package; see docs/models.md.",
            training_data=DATA[self.stage],
        )
        save_model(self.folder / "average.safetensors", self.average, card)

    def learn(self, batch: tuple[np.ndarray, np.ndarray, np.ndarray], sigma: float, rate: float) -> float:
        """One step at `rate` times the highest learning rates; gives the loss."""
        crops, points, weights = batch
        optimisers = (self.filters, self.others)
        for name in RATES:
            for group in getattr(self, name).param_groups:
                group["lr"] = rate * RATES[name]
        size = crops.shape[1:3]
        targets, weight = targets_of(
            torch.from_numpy(points).to(self.device), torch.from_numpy(weights).to(self.device), size, sigma
        )
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(self.device)):
            heatmaps = self.model(to_network(crops, self.device))
        errors = (heatmaps.float() - targets).square().mean((2, 3)) * weight
        loss = 1000 * (errors.sum(1) / weight.sum(1).clamp(min=1) ** 0.75).mean()
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.together.average_gradients(list(self.model.parameters()))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 20.0)
        for optimiser in optimisers:
            optimiser.step()
        self.progress.step += 1
        self.progress.seen += self.together.count * len(crops)
        if self.together.leads:
            follow(self.average, self.model, self.progress.step)
        return loss.item()


def targets_of(points: torch.Tensor, weights: torch.Tensor, size: tuple[int, int], sigma: float):
    """Gaussian targets (B, K, h, w), weights (B, K): what lies outside the crop, or is infinite, is to be nowhere."""
    height, width = size[0] // 4, size[1] // 4
    cells = points / 4
    device = points.device
    x = torch.exp(-((torch.arange(width, device=device) - cells[..., 0, None]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((torch.arange(height, device=device) - cells[..., 1, None]) ** 2) / (2 * sigma**2))
    edge = torch.tensor([width, height], device=device) + sigma
    inside = ((cells > -sigma) & (cells < edge)).all(-1)
    return y[..., None] * x[..., None, :], weights * torch.where(inside, 1.0, ABSENT)


def to_network(crops: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, H, W, 3) uint8 to normalised (B, 3, H, W)."""
    return normalize(torch.from_numpy(np.ascontiguousarray(crops)).to(device))


@torch.inference_mode()
def pck(model: PoseNet, people: list[Labelled], size: tuple[int, int], device: torch.device) -> float:
    """PCK@0.2 of the torso over 12 limb joints of the held-out LSP people."""
    good = total = 0
    for start in range(0, len(people), 25):
        group = people[start : start + 25]
        matrices = crop_matrices(*crop_regions(np.stack([p.box for p in group]), size[1] / size[0]), size)
        crops = np.stack([crop_image(p.photo, m, size) for p, m in zip(group, matrices, strict=True)])
        heatmaps = model(to_network(crops, device)).float().cpu().numpy()
        for person, matrix, answer in zip(
            group, matrices, decode(heatmaps, kernel=KERNEL).coordinates * 4, strict=True
        ):
            truth = transform_points(person.keypoints, matrix)
            visible = person.labelled[LIMBS]
            error = np.linalg.norm(answer - truth, axis=1)[LIMBS]
            good += int((error[visible] < 0.2 * np.linalg.norm(truth[5] - truth[12])).sum())
            total += int(visible.sum())
    return good / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(SHARES))
    parser.add_argument("--data", type=Path, help="folder of the labelled photos; for the default stage")
    parser.add_argument(
        "--crops", type=Path, nargs="+", required=True, help="folders that scripts/draw_pose_crops.py filled"
    )
    parser.add_argument("--scenes", type=Path, help="folder that scripts/draw_detector_scenes.py filled; default stage")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints and the log go")
    parser.add_argument("--minutes", type=float, required=True, help="of training, over all processes of the run")
    parser.add_argument("--small", type=float, default=0.65, help="share of the time that goes to small crops")
    parser.add_argument("--rate", type=float, default=1.0, help="highest learning rate against that for new weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), default="hrnet_w32_slim_f96")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--processes", type=int, default=1, help="of one thread each, that share the work")
    parser.add_argument("--threads", type=int, default=0, help="PyTorch's threads of a process alone; all cores when 0")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.stage == "default" and options.data is None:
        parser.error("the default stage needs --data")
    options.run.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    run_together(options.processes, train, options)


def train(together: Together, options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    material = read_material(options.stage, options.data, options.crops, options.scenes)
    run = Run(options, device, together)
    run.model.train()
    progress = run.progress
    batches = Batches(material, SHARES[options.stage], options.seed + progress.step + 1_000_000 * together.rank)
    log = (options.run / "log.jsonl").open("a", encoding="utf-8")

    def note(**values: object) -> None:
        if not together.leads:
            return
        line = {"minutes": round(progress.elapsed_s / 60, 1), "step": progress.step, "seen": progress.seen, **values}
        print(json.dumps(line), flush=True)
        log.write(json.dumps(line) + "\n")
        log.flush()

    note(people={name: len(people) for name, people in material.people.items()}, held_out=len(material.held_out))
    before, started = progress.elapsed_s, time.monotonic()
    running, reported, saved = 0.0, 0.0, time.monotonic()
    while (done := together.agreed(progress.elapsed_s) / (60 * options.minutes)) < 1:
        size, sigma, count = SMALL if done < options.small else LARGE
        rate = options.rate * (count / 32) ** 0.5 * min(1.0, (progress.step + 1) / 300) * (1 - done)
        strength = STRENGTHS[0] + (STRENGTHS[1] - STRENGTHS[0]) * done
        loss = run.learn(batches.next(size, count, strength), sigma, rate)
        running = loss if running == 0 else 0.98 * running + 0.02 * loss
        progress.elapsed_s = before + time.monotonic() - started
        if time.monotonic() - reported > 60:
            reported = time.monotonic()
            note(size=size, loss=round(running, 3))
        if time.monotonic() - saved > SAVE_S:
            if together.leads:
                if material.held_out:
                    note(held_out_pck=round(pck(run.average, material.held_out, size, device), 4))
                run.save()
            saved = time.monotonic()
    if together.leads:
        run.save()
        if material.held_out:
            note(held_out_pck=round(pck(run.average, material.held_out, LARGE[0], device), 4))
    note(end=True)


if __name__ == "__main__":
    main()
