"""Cards of released files with figures measured anew (scripts/update_card.py)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'wholepose[train]'")
from safetensors.numpy import load_file

from wholepose.weights import read_card

ROOT = Path(__file__).parent.parent.parent
NAME = "hrnet_w24_slim_f96_256x192.halpe136_clean_v2.safetensors"


def update(path, *options):
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "update_card.py", path, *options], check=True, capture_output=True
    )


@pytest.fixture
def report(tmp_path):
    numbers = {"AP": {"value": 0.98765, "interval": [0.91234, 0.99]}, "AP50": {"value": None, "interval": None}}
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps({"coco-detector": {"numbers": numbers}}))
    return path


def test_figures_of_an_onnx_file_change_and_nothing_else(tmp_path, report):
    source, path = ROOT / "src/wholepose/weights/embedded/default.onnx", tmp_path / "default.onnx"
    shutil.copyfile(source, path)
    update(path, "--metrics", report)
    before, after = read_card(source), read_card(path)
    assert after.metrics == {**before.metrics, "coco-detector/AP": 0.9877}
    assert after.intervals == {**before.intervals, "coco-detector/AP": (0.9123, 0.99)}
    assert (after.name, after.description) == (before.name, before.description)
    assert onnx.load(path).graph == onnx.load(source).graph


def test_texts_of_a_safetensors_file_change_and_nothing_else(tmp_path):
    source, path = ROOT / "weights" / NAME, tmp_path / NAME
    shutil.copyfile(source, path)
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"known_failures": "Everything."}))
    update(path, "--about", about)
    before, after = read_card(source), read_card(path)
    assert after.known_failures == "Everything."
    assert after.metrics == before.metrics
    weights, same = load_file(source), load_file(path)
    assert weights.keys() == same.keys()
    for name, values in weights.items():
        assert values.dtype == same[name].dtype
        np.testing.assert_array_equal(values, same[name])
