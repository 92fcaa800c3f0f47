"""Trains the embedded pose models within a budget of minutes, on the CPU or a GPU.

    python scripts/train_pose.py clean --crops runs/crops --run runs/clean --minutes 40
    python scripts/train_pose.py default --crops runs/crops --data ../shared/data --told runs/told \\
        --init runs/clean/average.safetensors --run runs/default --minutes 120

    python scripts/train_pose.py default --packs runs/packs --device cuda --workers 12 --batch 128 --small 0 \\
        --arch hrnet_w32_large_f96 --init runs/grown.safetensors --run runs/large --minutes 5

The clean stage sees synthetic people alone; the default one goes on from it with labelled photos. The first part of the
time goes to small crops, the rest to crops of the size that predicts; the learning rate falls evenly to nothing over
the whole time. A run that is interrupted (Ctrl+C, SIGTERM) keeps what it has learnt, and the same command goes on with
it. What lies outside a crop is learnt as nowhere. With --teacher, heatmaps of a trained network are learnt too, at
every keypoint of every crop. A network that has been trained goes on in about half the time a step with --fixed-norms.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from averaging import follow
from fixed_norms import fix_norms
from machine import has_fast_bf16
from muon import Muon, split_parameters
from pack_pose import read_packs
from pose_photos import Labelled, read_material
from pose_samples import SHARES, UNLABELLED, Batch, Samples
from teaching import Teacher
from together import Together, run_together
from torch.utils.data import DataLoader

from wholepose.geometry import crop_image, crop_matrices, crop_regions, transform_points
from wholepose.heatmaps import decode
from wholepose.models.checkpoints import load_checkpoint, save_model
from wholepose.models.decode import normalize
from wholepose.models.posenet import ARCHITECTURES, PoseNet, build_model
from wholepose.outputs import atomic_path
from wholepose.weights import ModelCard


class Phase(NamedTuple):
    """A part of the training time: size of crops, sigma of targets in cells, crops a batch."""

    size: tuple[int, int]
    sigma: float
    count: int


SMALL, LARGE = Phase((128, 96), 1.5, 32), Phase((256, 192), 2.0, 16)
LIMBS = list(range(5, 17))
OUTER = ("head.", "backbone.conv1.")
RATES = {"filters": 0.02, "others": 1.5e-3}
STRENGTHS = (1.0, 0.55)
"""How much crops are varied at the beginning and at the end, unless --strengths says otherwise."""
ABSENT = 0.25
"""Weight of a keypoint that is not in the crop against one that is."""
KERNEL = 11
SAVE_S = {"cpu": 480}
"""Between checkpoints, by device; 120 on all others, which may be taken away."""
REPORT_S = {"cpu": 60}
"""Between lines of the log, by device; 15 on all others."""
SYNTHETIC = "synthetic people of wholepose (clean looks)"
DATA = {
    "clean": (SYNTHETIC,),
    "default": (
        "Leeds Sports Pose and LSP Extended training sets (Flickr photos, no licence stated)",
        "COCO train2017, 78 photos (annotations CC BY 4.0, photos various terms)",
        "300-W: HELEN and AFW, 1,207 faces (research only)",
        "hands of Ge et al. 2019, 400 (non-commercial research and education)",
        "Clothing Co-Parsing, 1,003 people, alone and cut out beside others (photos of bloggers, no licence of theirs)",
        "259 studio photos of HuuTranDuc/LiteHrnet (no licence of the photos)",
        "INRIA Person negatives as backgrounds (research)",
        "4,718 people in photos out of npm packages under permissive licences (photos of others; "
        "scripts/gather_photos.py)",
        "where keypoints are in these photos, as told by MoveNet Thunder, BlazePose and MediaPipe's hand network "
        "(Google, Apache-2.0)",
        SYNTHETIC,
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


class Stop:
    """Notes that SIGINT or SIGTERM came, instead of ending at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


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
        if options.fixed_norms:
            fix_norms(self.model)
        self.teacher = Teacher(options.teacher, device) if options.teacher else None
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
            input_size=LARGE.size,
            decode_kernel=KERNEL,
            licence=TERMS[self.stage],
            source=f"scripts/train_pose.py {self.stage}",
            description="HRNet with DARK heatmaps, trained for its package; see docs/models.md.",
            training_data=DATA[self.stage],
        )
        save_model(self.folder / "average.safetensors", self.average, card)

    def learn(self, batch: Batch, sigma: float, rate: float) -> torch.Tensor:
        """One step at `rate` times the highest learning rates; gives the loss, on the device."""
        crops, plain, points, weights = (values.to(self.device, non_blocking=True) for values in batch)
        optimisers = (self.filters, self.others)
        for name in RATES:
            for group in getattr(self, name).param_groups:
                group["lr"] = rate * RATES[name]
        height, width = crops.shape[1:3]
        targets, weight = targets_of(points, weights, (height, width), sigma)
        if self.teacher:
            crops, targets = self.teacher.lesson(crops, plain, targets, weight)
            weight = weight.new_ones(targets.shape[:2])
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(self.device)):
            heatmaps = self.model(normalize(crops)).float()
        errors = (heatmaps - targets).square().mean((2, 3)) * weight
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
        return loss.detach()


def targets_of(points: torch.Tensor, weights: torch.Tensor, size: tuple[int, int], sigma: float):
    """Gaussian targets (B, K, h, w), weights (B, K): what lies outside the crop, or is infinite, is to be nowhere."""
    height, width = size[0] // 4, size[1] // 4
    cells = points / 4
    device = points.device
    x = torch.exp(-((torch.arange(width, device=device)[:, None] - cells[:, None, :, 0]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((torch.arange(height, device=device)[:, None] - cells[:, None, :, 1]) ** 2) / (2 * sigma**2))
    edge = torch.tensor([width, height], device=device) + sigma
    inside = ((cells > -sigma) & (cells < edge)).all(-1)
    targets = (y[:, :, None] * x[:, None]).permute(0, 3, 1, 2)  # keypoints innermost in memory, as heatmaps come
    return targets, weights * torch.where(inside, 1.0, ABSENT)


@torch.inference_mode()
def pck(model: PoseNet, people: list[Labelled], size: tuple[int, int], device: torch.device) -> float:
    """PCK@0.2 of the torso over 12 limb joints of the held-out LSP people."""
    good = total = 0
    for start in range(0, len(people), 25):
        group = people[start : start + 25]
        matrices = crop_matrices(*crop_regions(np.stack([p.box for p in group]), size[1] / size[0]), size)
        crops = np.stack([crop_image(p.photo, m, size) for p, m in zip(group, matrices, strict=True)])
        heatmaps = model(normalize(torch.from_numpy(crops).to(device))).float().cpu().numpy()
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
    parser.add_argument("--crops", type=Path, nargs="*", default=[], help="folders of scripts/draw_pose_crops.py")
    parser.add_argument(
        "--scenes", type=Path, nargs="*", default=[], help="folders of scripts/draw_detector_scenes.py; default stage"
    )
    parser.add_argument("--told", type=Path, help="folder of scripts/tell_keypoints.py; default stage")
    parser.add_argument("--web", type=Path, help="folder of scripts/gather_photos.py; default stage")
    parser.add_argument("--packs", type=Path, help="folder of scripts/pack_pose.py, in place of all these")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints and the log go")
    parser.add_argument("--minutes", type=float, required=True, help="of training, over all processes of the run")
    parser.add_argument("--small", type=float, default=0.65, help="share of the time that goes to small crops")
    parser.add_argument("--rate", type=float, default=1.0, help="highest learning rate against that for new weights")
    parser.add_argument(
        "--strengths", type=float, nargs=2, default=STRENGTHS, help="how much crops are varied, first and last, 0 to 1"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), default="hrnet_w32_deep_f96")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--fixed-norms", action="store_true", help="keep the statistics of the norms of --init")
    parser.add_argument("--teacher", type=Path, help="a trained network to learn heatmaps from as well")
    parser.add_argument("--batch", type=int, help="crops a step and process; default: 32 small ones, 16 of full size")
    parser.add_argument("--workers", type=int, default=0, help="processes that make crops beside training")
    parser.add_argument("--processes", type=int, default=1, help="of one thread each, that share the work")
    parser.add_argument("--threads", type=int, default=0, help="PyTorch's threads of a process alone; all cores when 0")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.fixed_norms and options.init is None:
        parser.error("--fixed-norms needs --init: new weights have no statistics to keep")
    if options.stage == "clean" and options.teacher:
        parser.error("the clean stage takes no --teacher: what photos taught it would come in")
    if options.packs is None and not options.crops:
        parser.error("--crops or --packs is needed: synthetic people are in every stage")
    if options.packs is None and options.stage == "default" and options.data is None:
        parser.error("the default stage needs --data or --packs")
    options.run.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    run_together(options.processes, train, options)


def train(together: Together, options: argparse.Namespace) -> None:
    stop = Stop()
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    cv2.setNumThreads(1)
    if options.packs:
        material = read_packs(options.stage, options.packs)
    else:
        material = read_material(options.stage, options.data, options.crops, options.scenes, options.told, options.web)
    shares = dict(SHARES[options.stage])
    for name in UNLABELLED:
        if not options.teacher and not any(person.labelled.any() for person in material.people.get(name, [])):
            shares.pop(name, None)  # nothing is known of them
    run = Run(options, device, together)
    run.model.train()
    progress = run.progress
    seed = options.seed + progress.step + 1_000_000 * together.rank
    samples = Samples(material, shares, seed, plain=run.teacher is not None)
    log = (options.run / "log.jsonl").open("a", encoding="utf-8")

    def note(**values: object) -> None:
        if not together.leads:
            return
        line = {"minutes": round(progress.elapsed_s / 60, 1), "step": progress.step, "seen": progress.seen, **values}
        print(json.dumps(line), flush=True)
        log.write(json.dumps(line) + "\n")
        log.flush()

    def keep(size: tuple[int, int]) -> None:
        if together.leads:
            if material.held_out:
                note(held_out_pck=round(pck(run.average, material.held_out, size, device), 4))
            run.save()

    def plan(done: float) -> Phase:
        """What is learnt from at some part of the run; the crops to come are made accordingly."""
        size, sigma, count = SMALL if done < options.small else LARGE
        phase = Phase(size, sigma, options.batch or count)
        made = phase.count // 2 if run.teacher else phase.count  # the other half are mirror images of earlier ones
        first, last = options.strengths
        samples.want(size, made, first + (last - first) * done)
        return phase

    note(people={name: len(people) for name, people in material.people.items()}, held_out=len(material.held_out))
    plan(progress.elapsed_s / 60 / options.minutes)
    loader = DataLoader(samples, batch_size=None, num_workers=options.workers, pin_memory=device.type == "cuda")
    before, started = progress.elapsed_s, time.monotonic()
    running, reported, saved = None, 0.0, time.monotonic()
    for batch in loader:
        done = together.agreed(1.0 if stop.asked else progress.elapsed_s / 60 / options.minutes)
        if done >= 1:
            break
        size, sigma, count = plan(done)
        if batch.crops.shape[1:3] != size:  # made ahead
            continue
        rate = options.rate * (count / 32) ** 0.5 * min(1.0, (progress.step + 1) / 300) * (1 - done)
        loss = run.learn(batch, sigma, rate)
        running = loss if running is None else running.lerp(loss, 0.02)
        progress.elapsed_s = before + time.monotonic() - started
        if time.monotonic() - reported > REPORT_S.get(device.type, 15):
            reported = time.monotonic()
            note(size=size, loss=round(running.item(), 3))
        if time.monotonic() - saved > SAVE_S.get(device.type, 120):
            keep(size)
            saved = time.monotonic()
    keep(LARGE.size)
    note(end=True)


if __name__ == "__main__":
    main()
