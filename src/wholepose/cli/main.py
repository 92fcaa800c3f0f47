"""Entry point: finds the sub-command, imports it alone, and turns errors into exit codes.

A sub-command is a module in this package with ``SUMMARY``, ``configure(parser)`` and ``run(arguments) -> int``. It
imports what is heavy inside ``run``, so that help answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence

from wholepose.errors import ConfigError, WholeposeError

COMMANDS = {
    "predict": "find people in pictures and write their keypoints",
    "train": "train a model from a recipe",
    "evaluate": "score a model, or a results file, against annotations",
    "reproduce": "run the published Halpe row end to end",
    "export": "write a model as one ONNX file that ends in keypoints",
    "bench": "time a model in every engine here, and remember the fastest",
    "serve": "answer over HTTP, with a page to try it",
    "convert": "turn a checkpoint into safetensors with a model card",
    "plot": "draw keypoints and joint angles over time",
    "models": "list, describe, verify and import weights",
    "data": "check and prepare datasets",
    "synth": "draw synthetic people with exact keypoints",
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
        allow_abbrev=False,  # an abbreviation that works today would mean something else with the next option
        description="Whole-body 2D human pose estimation: 136 keypoints a person.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="store_true", help="print the version and exit")
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
            allow_abbrev=False,
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
    options.command_line = shlex.join(["wholepose", *words])
    return _run(modules[options.command].run, options)


def _run(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Runs a sub-command and turns what it raises into a message and an exit code."""
    # Only the main thread may set handlers; a caller that runs commands in another keeps its own.
    own_signals = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _raise_terminated) if own_signals else None
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            return run(options)
    except ConfigError as error:
        _say(str(error))
        return 2
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        _drop_stdout()
        return 1
    except WholeposeError as error:
        _say(str(error))
        return 1
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        _say(f"{where}{error.strerror or error}")
        try:
            sys.stdout.flush()
        except OSError:  # it was stdout that could not be written
            _drop_stdout()
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Terminated:
        _say("terminated")
        return 143
    finally:
        if previous is not None:  # as it is where the handler was not set from Python
            signal.signal(signal.SIGTERM, previous)


def _drop_stdout() -> None:
    """Sends what is still buffered nowhere, so that nothing more fails at exit."""
    with contextlib.suppress(OSError, ValueError):  # no real file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens; the exit code still tells
        print(f"wholepose: {message}", file=sys.stderr)


def _print_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    """Prints a warning for the user, without the line of code that it came from."""
    _say(f"warning: {message}")


class Terminated(BaseException):
    """SIGTERM arrived; derives from BaseException so that no handler of errors swallows it."""


def _raise_terminated(_signal: int, _frame: object) -> None:
    raise Terminated


def entry_point() -> None:
    """What the installed ``wholepose`` script calls."""
    code = 1
    try:
        code = main()
        sys.stdout.flush()  # here, since Python's own flush at the end complains where the reader is gone
    except BrokenPipeError:  # also while help is printed
        _drop_stdout()
        code = code or 1
    except OSError as error:
        _say(f"the output could not be written: {error.strerror}")
        _drop_stdout()
        code = code or 1
    sys.exit(code)
