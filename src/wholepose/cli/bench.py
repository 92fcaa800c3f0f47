"""Times a model in every engine that is installed here, and checks each against the float keypoints.

Several files are forms of the same model, such as the .safetensors, the .onnx and its int8; the first one in plain
float32 is the reference. The fastest engine of each file whose keypoints stay within --max-change is remembered, and
used from then on where no runtime is named (`wholepose predict`, `PoseEstimator.from_pretrained`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wholepose.cli.words import count, positive
from wholepose.errors import ConfigError

EPILOG = """\
examples:
  wholepose bench default
  wholepose bench default --images photos/ --flip-test --json bench.json
  wholepose bench mine.onnx mine_int8.onnx mine.safetensors --images photos/ --max-change 0.5
  wholepose bench mine.onnx --batch 1,8,16 --for throughput
"""

_MAX_CHANGE_PX = 0.05


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose bench``."""
    parser.epilog = EPILOG
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="'default', a registered name, .onnx or .safetensors"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="PATH",
        help="pictures of people to compare keypoints on; default: drawn pictures, on which keypoints are less certain",
    )
    parser.add_argument("--crops", type=count, default=32, metavar="N", help="most people to compare on; default: 32")
    parser.add_argument(
        "--batch", type=_batches, default=(1, 8), metavar="N,N", help="crops a call, smallest first; default: 1,8"
    )
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=("latency", "throughput"),
        default="latency",
        help="remember what is fastest at the smallest, or at the largest batch; default: latency",
    )
    parser.add_argument("--seconds", type=positive, default=2.0, metavar="S", help="for each row and batch; default: 2")
    parser.add_argument(
        "--max-change",
        type=positive,
        default=_MAX_CHANGE_PX,
        metavar="PX",
        help=f"largest median change of keypoints, crop pixels; default: {_MAX_CHANGE_PX}",
    )
    parser.add_argument("--flip-test", action="store_true", help="time with the flip test")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads; default: all cores, and half of them")
    parser.add_argument("--compiled", action="store_true", help="time PyTorch's compiler too: minutes more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--no-save", action="store_true", help="remember nothing")


def run(options: argparse.Namespace) -> int:
    """Measures; the table goes to stdout."""
    from wholepose.benchmarking.report import choices_of, document_of, table_of
    from wholepose.benchmarking.stages import draw_photo
    from wholepose.benchmarking.workflow import check_same_model, run_benchmark
    from wholepose.detectors import load_detector
    from wholepose.export.people_crops import cut_people
    from wholepose.export.pictures import draw_pictures
    from wholepose.outputs import write_json
    from wholepose.runtimes.choices import save_choice
    from wholepose.weights import read_card, resolve_model

    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {options.json}: there is no folder {options.json.parent}")
    paths = [resolve_model(name) for name in options.models]
    check_same_model(paths)
    card = read_card(paths[0])
    unread: Sequence[str] = ()
    if options.images:
        people = cut_people(options.images, card, load_detector("default"), options.crops)
        crops, source = people.crops, f"{len(people.crops)} crops of {len(people.pictures)} pictures"
        photo, unread = people.pictures[0].read_bytes(), people.unread
    else:
        crops, source, photo = draw_pictures(8, card.input_size), "8 drawn pictures", draw_photo()
    found = run_benchmark(
        paths,
        crops,
        photo,
        source=source,
        command=options.command_line,
        device=options.device,
        threads=options.threads,
        batch_sizes=options.batch,
        seconds=options.seconds,
        max_change_px=options.max_change,
        flip_test=options.flip_test,
        compiled=options.compiled,
        tell=_tell,
    )
    print(table_of(found))
    if not options.no_save:
        deciding = options.batch[0 if options.purpose == "latency" else -1]
        places = {save_choice(choice) for choice in choices_of(found, options.device, batch_size=deciding)}
        print(*(f"\nremembered in {place}" for place in places), sep="")
    if options.json is not None:
        write_json(options.json, document_of(found))
    for message in unread:
        print(f"wholepose: {message}", file=sys.stderr)
    return 1 if unread else 0


def _tell(what: str) -> None:
    """Says on a terminal what is being timed, in one line that the next replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _batches(text: str) -> tuple[int, ...]:
    """Reads batch sizes such as 1,8, rising."""
    sizes = tuple(count(word) for word in text.split(","))
    if list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(f"batch sizes must rise, as in 1,8, not {text!r}")
    return sizes
