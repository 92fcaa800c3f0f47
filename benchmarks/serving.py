"""Loads a server on this machine and prints what it does: throughput, latency, overload, slow clients, memory.

    python benchmarks/serving.py load --clients 64 --seconds 60     # beside the offline loop with the same batch size
    python benchmarks/serving.py batching                           # batches of 8 beside one by one, in turns
    python benchmarks/serving.py overload                           # ten times as many requests as it can answer
    python benchmarks/serving.py slow                               # 500 slow connections beside 8 good clients
    python benchmarks/serving.py memory --seconds 150               # valid and damaged pictures, mixed

The client runs on the same cores as the server, and the offline loop has them for itself. Every answer is compared,
byte by byte, with what `wholepose predict` writes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from http_load import Outcome, Picture, closed_loop, open_loop, slow_connections

from wholepose import PoseEstimator, load_image
from wholepose.outputs import poses_document, to_json

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BATCH = 8


class Offline:
    """What the server does, in a loop without one: decode, predict in batches, make documents."""

    def __init__(self) -> None:
        self.estimator = PoseEstimator.from_pretrained()
        self.files = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))]
        self.answers = self.documents(self.files)

    def documents(self, files: Sequence[bytes]) -> list[bytes]:
        images = [load_image(file) for file in files]
        found = self.estimator.predict_batch(images)
        model = self.estimator.runtime.card.name
        return [
            to_json(poses_document(poses, image="", size=image.shape[:2], model=model)).encode()
            for poses, image in zip(found, images, strict=True)
        ]

    def pictures(self) -> list[Picture]:
        return [Picture(file, answer) for file, answer in zip(self.files, self.answers, strict=True)]

    def rate(self, seconds: float, batch: int = BATCH) -> float:
        """Pictures a second."""
        files = (self.files * batch)[:batch] if batch >= len(self.files) else self.files
        groups = [files[start : start + batch] for start in range(0, len(files), batch)]
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for group in groups:
                self.documents(group)
                count += len(group)
        return count / (time.perf_counter() - start)


@contextlib.contextmanager
def server(*words: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process."""
    command = [sys.executable, "-m", "wholepose", "serve", "--port", "0", *words]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    line = program.stderr.readline()
    match = re.search(r":(\d+)/$", line.strip())
    if match is None:
        raise SystemExit(line + program.stderr.read())
    try:
        yield int(match.group(1)), program.pid
    finally:
        program.terminate()
        _, said = program.communicate(timeout=60)
        print(f"  server ended with {program.returncode}{', saying ' + said[-500:] if said else ''}")


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    statuses = collections.Counter(outcome.status for outcome in outcomes)
    wrong = sum(not outcome.right for outcome in outcomes)
    good = [outcome.seconds for outcome in outcomes if outcome.status == 200]
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return f"{len(good) / seconds:6.1f} pictures/s, {quantiles(good)}; {counts}; {wrong} wrong"


def quantiles(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "no times"
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms, most {max(seconds) * 1e3:.0f} ms"


def resident_mb(pid: int) -> float:
    """Memory of the server and of its decoders, without what they share."""
    folder = Path(f"/proc/{pid}/task")
    pids = [pid] + [int(each) for task in folder.iterdir() for each in (task / "children").read_text().split()]
    total = 0
    for each in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1))  # type: ignore[union-attr]
    return total / 1024


def clients(port: int, pictures: Sequence[Picture], count: int, seconds: float) -> tuple[list[Outcome], float]:
    """A closed loop, and how long it took with the last answers."""
    start = time.perf_counter()
    outcomes = asyncio.run(closed_loop(port, pictures, count, seconds))
    return outcomes, time.perf_counter() - start


def load(options: argparse.Namespace) -> None:
    """Clients in a closed loop, in turns with the offline loop, which then has the machine (a quarter of the time)."""
    offline = Offline()
    all_outcomes: list[Outcome] = []
    served, alone, total = [], [], 0.0
    share = options.seconds / options.rounds
    with server("--batch-size", str(BATCH), *options.words) as (port, _):
        clients(port, offline.pictures(), 8, 2)
        for _ in range(options.rounds):
            alone.append(offline.rate(share / 4))
            outcomes, seconds = clients(port, offline.pictures(), options.clients, share * 3 / 4)
            served.append(sum(outcome.status == 200 for outcome in outcomes) / seconds)
            all_outcomes += outcomes
            total += seconds
            print(f"  offline loop, batches of {BATCH}: {alone[-1]:.1f} pictures/s", flush=True)
            print(f"  server: {summary(outcomes, seconds)}", flush=True)
    print(f"  {options.clients} clients, {total:.0f} s: {summary(all_outcomes, total)}")
    print(f"  server / offline: {statistics.median(served) / statistics.median(alone):.2f}")


def batching(options: argparse.Namespace) -> None:
    """Servers with batches and without, in turns."""
    offline = Offline()
    rates: dict[str, list[float]] = {str(BATCH): [], "1": []}
    with contextlib.ExitStack() as stack:
        ports = {size: stack.enter_context(server("--batch-size", size, *options.words))[0] for size in rates}
        for port in ports.values():
            clients(port, offline.pictures(), 16, 2)
        for _ in range(options.rounds):
            for size, found in rates.items():
                outcomes, seconds = clients(ports[size], offline.pictures(), options.clients, options.seconds)
                print(f"  batch size {size}: {summary(outcomes, seconds)}", flush=True)
                found.append(sum(outcome.status == 200 for outcome in outcomes) / seconds)
    ratio = statistics.median(rates[str(BATCH)]) / statistics.median(rates["1"])
    print(f"  batches of {BATCH} / one by one: {ratio:.2f}")


def overload(options: argparse.Namespace) -> None:
    """A light load, then ten times what can be answered, then the light load again."""
    offline = Offline()
    pictures = offline.pictures()
    with server(*options.words) as (port, _):
        start = time.perf_counter()
        full = asyncio.run(closed_loop(port, pictures, 16, 8))
        capacity = sum(outcome.status == 200 for outcome in full) / (time.perf_counter() - start)
        light = asyncio.run(open_loop(port, pictures, 0.3 * capacity, 8))
        normal = statistics.median(outcome.seconds for outcome in light)
        print(f"  capacity {capacity:.1f} pictures/s; at 30 % of it p50 {normal * 1e3:.0f} ms")
        flood = asyncio.run(open_loop(port, pictures, 10 * capacity, options.seconds))
        refused = [outcome.seconds for outcome in flood if outcome.status == 503]
        print(f"  10 x: {summary(flood, options.seconds)}")
        late = sum(seconds > 0.1 for seconds in refused)
        print(f"  503: {quantiles(refused)}; {late} of {len(refused)} later than 100 ms")
        start = time.perf_counter()
        after = asyncio.run(open_loop(port, pictures, 0.3 * capacity, 15))
    for second in range(0, 15, 3):
        part = [one.seconds for one in after if second <= one.started - start < second + 3 and one.status == 200]
        middle = f"{statistics.median(part) * 1e3:.0f} ms" if part else "none"
        print(f"  {second} to {second + 3} s after: p50 {middle}")


def slow(options: argparse.Namespace) -> None:
    """Good clients alone, and then beside many slow connections."""
    offline = Offline()

    async def both(port: int) -> tuple[list[Outcome], list[Outcome], int]:
        alone = await closed_loop(port, offline.pictures(), 8, options.seconds)
        done = asyncio.Event()
        others = asyncio.ensure_future(slow_connections(port, options.connections, done))
        await asyncio.sleep(1)
        beside = await closed_loop(port, offline.pictures(), 8, options.seconds)
        done.set()
        return alone, beside, await others

    with server(*options.words) as (port, _):
        alone, beside, closed = asyncio.run(both(port))
    print(f"  alone:  {summary(alone, options.seconds)}")
    print(f"  beside: {summary(beside, options.seconds)}")
    print(f"  {options.connections} slow connections, closed {closed} times")


def memory(options: argparse.Namespace) -> None:
    """Valid, damaged and large pictures, over and over; memory of server and decoders as it goes."""
    offline = Offline()
    mixed = []
    for number, picture in enumerate(offline.pictures() * 3):
        mixed.append(picture)
        mixed.append(Picture(picture.data[: len(picture.data) * (number + 1) // 14], None))
        mixed.append(Picture(bytes(reversed(picture.data)), None))
    samples: list[tuple[float, float]] = []

    async def both(port: int, pid: int) -> list[Outcome]:
        async def sample() -> None:
            start = time.perf_counter()
            while True:
                samples.append((time.perf_counter() - start, resident_mb(pid)))
                await asyncio.sleep(2)

        watch = asyncio.ensure_future(sample())
        outcomes = await closed_loop(port, mixed, 16, options.seconds)
        watch.cancel()
        return outcomes

    with server(*options.words) as (port, pid):
        outcomes = asyncio.run(both(port, pid))
    print(f"  {summary(outcomes, options.seconds)}")
    tenth = max(1, len(samples) // 10)
    for start in range(0, len(samples) - tenth + 1, tenth):
        part = samples[start : start + tenth]
        print(f"  at {part[0][0]:4.0f} s: {statistics.median(value for _, value in part):.1f} MB")
    later = samples[len(samples) // 3 :]
    slope = statistics.linear_regression([at for at, _ in later], [value for _, value in later]).slope
    print(f"  after the first third: {slope * 60:+.2f} MB a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run, seconds in ((load, 60), (batching, 15), (overload, 10), (slow, 20), (memory, 150)):
        command = commands.add_parser(run.__name__, help=(run.__doc__ or "").splitlines()[0])
        command.set_defaults(run=run)
        command.add_argument("--seconds", type=float, default=seconds)
        command.add_argument("--clients", type=int, default=64)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--connections", type=int, default=500)
        command.add_argument("words", nargs="*", help="more options of `wholepose serve`, after --")
    options = parser.parse_args()
    print(f"{options.command}:")
    options.run(options)


if __name__ == "__main__":
    main()
