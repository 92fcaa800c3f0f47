"""Entry point: finds the sub-command, imports it alone, and turns errors into exit codes.

A sub-command is a module in this package with ``SUMMARY``, ``configure(parser)`` and ``run(arguments) -> int``. It
imports what is heavy inside ``run``, so that help answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from wholepose.errors import ConfigError, WholeposeError

COMMANDS = {
    "predict": "find people in pictures and write their keypoints",
    "train": "train a model from a recipe",
    "evaluate": "score a model, or a results file, against annotations",
    "reproduce": "run the published Halpe row end to end",
    "export": "write a model as one ONNX file that ends in keypoints",
    "convert": "turn a checkpoint into safetensors with a model card",
    "models": "list, describe, verify and import weights",
    "data": "check and prepare datasets",
}

EPILOG = """\
examples:
  wholepose predict photo.jpg --out out/ --draw
  wholepose models list
  wholepose COMMAND --help

exit codes: 0 all done, 1 some inputs failed (each listed), 2 bad usage, 130 or 143 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after the program's name; ``sys.argv[1:]`` when None.

    Returns:
        The exit code: 0 all done, 1 failed, 2 bad usage, 130 interrupted by Ctrl-C, 143 by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="wholepose",
        description="Whole-body 2D human pose estimation: 136 keypoints a person.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    named = next((word for word in words if not word.startswith("-")), None)
    modules = {}
    for name, summary in COMMANDS.items():
        if name != named:
            subparsers.add_parser(name, help=summary, add_help=False)
            continue
        modules[name] = importlib.import_module(f"wholepose.cli.{name}")
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=modules[name].__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        modules[name].configure(subparser)
    try:
        options = parser.parse_args(words)
    except SystemExit as stop:  # argparse has printed its message
        return stop.code if isinstance(stop.code, int) else 2
    if options.version:
        from wholepose import __version__

        print(f"wholepose {__version__}")
        return 0
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    return _run(modules[options.command].run, options)


def _run(run: object, options: argparse.Namespace) -> int:
    """Runs a sub-command and turns what it raises into a message and an exit code."""
    assert callable(run)
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return int(run(options))
    except ConfigError as error:
        print(f"wholepose: {error}", file=sys.stderr)
        return 2
    except (WholeposeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"wholepose: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("wholepose: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print("wholepose: terminated", file=sys.stderr)
        return 143


class Terminated(BaseException):
    """SIGTERM arrived; derives from BaseException so that no handler of errors swallows it."""


def _raise_terminated(_signal: int, _frame: object) -> None:
    raise Terminated


def entry_point() -> None:
    """What the installed ``wholepose`` script calls."""
    sys.exit(main())
