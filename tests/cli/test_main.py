"""The command line as a whole: help, version, exit codes, and what an import costs."""

import re
import subprocess
import sys

import pytest

from wholepose.cli.main import COMMANDS, main


def run_python(*words, **kwargs):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        **kwargs,
    )


def imported(stderr):
    """Top-level names of the packages in the report of `python -X importtime`."""
    return {
        line.rsplit("|", 1)[1].strip().split(".")[0] for line in stderr.splitlines() if line.startswith("import time:")
    }


HEAVY = {"torch", "onnx", "onnxruntime", "cv2", "av", "PIL", "numpy", "transformers", "faster_coco_eval"}


@pytest.mark.parametrize(
    "words", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "wholepose"
)
def test_help_loads_nothing_heavy(words):
    """Help answers at once: it exits 0, shows examples, and imports no package that takes its time."""
    done = run_python("-X", "importtime", "-m", "wholepose", *words, "--help")
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
    assert "usage: wholepose" in done.stdout
    if words:
        assert f"wholepose {words[0]} " in done.stdout.split("examples:")[1]
    assert not imported(done.stderr) & HEAVY


def test_every_command_is_listed(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert re.search(rf"^ +{name} +{re.escape(summary)}", text, re.MULTILINE)


def test_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wholepose {version('wholepose')}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["--nonsense"], ["predict"], ["predict", "a.jpg", "--nonsense"]])
def test_bad_usage(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: wholepose" in err


def test_options_are_not_guessed(capsys):
    """`--boxe` is an error, not `--boxes`: scripts that abbreviate would break with the next option."""
    assert main(["predict", "a.jpg", "--boxe", "x.csv"]) == 2
    assert "--boxe" in capsys.readouterr().err


def test_import_is_light():
    """`import wholepose` loads neither PyTorch nor anything else that is heavy."""
    done = run_python("-X", "importtime", "-c", "import wholepose")
    assert done.returncode == 0, done.stderr
    assert not imported(done.stderr) & HEAVY


NO_SOCKET = """
import socket, sys

def refuse(*words, **more):
    raise AssertionError("a socket was opened")

socket.socket = socket.create_connection = socket.getaddrinfo = refuse
import wholepose
for name in wholepose.__all__:
    getattr(wholepose, name)
assert "torch" not in sys.modules
assert set(dir(wholepose)) >= set(wholepose.__all__)
"""


def test_the_whole_library_opens_no_socket():
    """FAULTS 29: every exported name can be had offline, and without PyTorch."""
    done = run_python("-c", NO_SOCKET)
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_attribute_errors():
    import wholepose

    with pytest.raises(AttributeError, match="nonsense"):
        _ = wholepose.nonsense
    assert wholepose.PoseEstimator is __import__("wholepose.estimator").estimator.PoseEstimator


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_reader_of_the_help_goes_away():
    """FAULTS 35: EPIPE ends quietly."""
    program = subprocess.Popen(
        [sys.executable, "-m", "wholepose", "predict", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait(timeout=30) in (0, 1)
    program.stderr.close()
