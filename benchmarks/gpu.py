"""Throughput of HRNet-W48 384x288 on an NVIDIA GPU, from crops in host memory to keypoints in host memory.

    python benchmarks/gpu.py                                  # a table: images/s, share of the peak, memory
    python benchmarks/gpu.py --device cpu --arch hrnet_w16_slim --batches 1 --seconds 1      # tries the script

Ways: "eager fp32" is the network as it is trained, as MMPose runs it (same layers, batch norms apart, NCHW, TF32 off);
"eager bf16" is what ``TorchRuntime`` does with each kernel started one by one; "graph fp32" and "graph bf16" are
``TorchRuntime`` as it is; "compiled bf16" puts ``torch.compile`` under the latter. Weights are random. All ways decode
on the device, except "eager fp32", which ends in heatmaps on the device, as MMPose decodes them on the host.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from speed import random_network

from wholepose.models.decode import normalize
from wholepose.models.posenet import PoseNet, build_model
from wholepose.runtimes.torch import TorchRuntime
from wholepose.weights import ModelCard

SIZE = (384, 288)
GMACS = {"hrnet_w48": 35.4}
WAYS = ("eager fp32", "graph fp32", "eager bf16", "graph bf16", "compiled bf16")
PEAK_TFLOPS = 790  # bf16, dense, of an H100 at the clock it keeps


def rate(run: Callable[[], object], batch: int, seconds: float, synchronize: Callable[[], None]) -> float:
    """Images a second: median over calls, after the first ones."""
    for _ in range(3):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        times.append(time.perf_counter() - start)
    return batch / statistics.median(times)


def eager(model: PoseNet, device: torch.device, crops: np.ndarray) -> Callable[[], object]:
    network = copy.deepcopy(model).to(device)

    def run() -> object:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return network(normalize(torch.from_numpy(crops).to(device)).contiguous())

    return run


def way_of(way: str, model: PoseNet, card: ModelCard, device: torch.device, crops: np.ndarray) -> Callable[[], object]:
    """What is timed: one of WAYS, set up."""
    if way == "eager fp32":
        return eager(model, device, crops)
    form, precision = way.split()
    runtime = TorchRuntime.from_model(model, card, device=device.type, precision=precision)  # type: ignore[arg-type]
    if form == "compiled":
        runtime._model.backbone = torch.compile(runtime._model.backbone)  # type: ignore[assignment]
    if form != "eager":
        return lambda: runtime.predict(crops)

    def one_by_one() -> object:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return runtime._answer(torch.from_numpy(crops).to(device), flip_test=False).cpu()

    return one_by_one


def training_rate(arch: str, device: torch.device, batch: int, seconds: float) -> float:
    """Images a second of forward, backward and Adam in bf16 autocast, on made-up targets."""
    model = build_model(arch, 136).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), fused=device.type == "cuda")
    crops = torch.randn(batch, 3, *SIZE, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(batch, 136, SIZE[0] // 4, SIZE[1] // 4, device=device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            heatmaps = model(crops)
        torch.nn.functional.mse_loss(heatmaps.float(), targets).backward()
        optimiser.step()

    return rate(step, batch, seconds, torch.cuda.synchronize if device.type == "cuda" else lambda: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--arch", default="hrnet_w48")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each number")
    parser.add_argument("--train-batch", type=int, default=64, help="0 leaves training out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch finds no NVIDIA GPU")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, {date.today()}, {options.arch} {SIZE[0]}x{SIZE[1]}, images/s")
    model = random_network(options.arch)
    card = ModelCard(name="speed", arch=options.arch, skeleton="halpe136", input_size=SIZE)
    rows = []
    for batch in options.batches:
        crops = np.random.default_rng(0).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)
        for way in options.ways:
            run = way_of(way, model, card, device, crops)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            speed = rate(run, batch, options.seconds, torch.cuda.synchronize if device.type == "cuda" else lambda: None)
            share = speed * 2 * GMACS.get(options.arch, float("nan")) / 1e3 / PEAK_TFLOPS
            memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
            rows.append({"batch": batch, "way": way, "images_per_s": speed, "share_of_peak": share, "gib": memory})
            print(f"batch {batch:>3}  {way:<14}{speed:>9.1f}   {share:>6.1%} of peak   {memory:>6.2f} GiB", flush=True)
    if options.train_batch:
        speed = training_rate(options.arch, device, options.train_batch, options.seconds)
        rows.append({"batch": options.train_batch, "way": "training, bf16 autocast", "images_per_s": speed})
        print(f"batch {options.train_batch:>3}  training      {speed:>9.1f}")
    if options.json:
        options.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
