"""Measured choices of engines: followed where they hold, named where they do not, and never in the way."""

import json
import warnings
from dataclasses import replace

import pytest

from wholepose.errors import ConfigError
from wholepose.runtimes import choices, load_runtime
from wholepose.runtimes.choices import Choice, choices_path, engine_versions, find_choice, save_choice, this_machine
from wholepose.weights import sha256_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def model(tiny_models, tmp_path):
    return tiny_models.save_centroid_model(tmp_path / "centroid.onnx")


@pytest.fixture
def choice(model):
    return Choice(
        model_sha256=sha256_of(model),
        size_bytes=model.stat().st_size,
        device="auto",
        precision="fp32",
        runtime="openvino",
        threads=1,
        milliseconds=3.5,
        measured="2026-11-25T12:00:00+00:00",
        machine=this_machine(),
        versions=engine_versions(),
    )


def test_saved_and_found(model, choice):
    assert find_choice(model, "auto", "fp32") is None
    assert save_choice(choice) == choices_path()
    assert find_choice(model, "auto", "fp32") == choice
    assert find_choice(model, "cpu", "fp32") is None
    assert find_choice(model, "auto", "bf16") is None
    save_choice(replace(choice, runtime="onnx"))  # a later one takes its place
    save_choice(replace(choice, precision="bf16"))
    assert find_choice(model, "auto", "fp32").runtime == "onnx"
    assert len(json.loads(choices_path().read_text())["choices"]) == 2


def test_the_machine_and_the_versions_are_known(choice):
    assert choice.machine["cpu"]
    assert choice.machine["cores"] >= 1
    assert "onnxruntime" in choice.versions


def test_auto_follows(model, choice):
    pytest.importorskip("openvino", reason="needs the [openvino] extra")
    assert load_runtime(model, device="auto").name == "onnx-cpu"
    save_choice(choice)
    followed = load_runtime(model)
    assert (followed.name, followed.threads) == ("openvino-cpu", 1)
    assert load_runtime(model, threads=2).threads == 2
    assert load_runtime(model, runtime="onnx").name == "onnx-cpu"
    assert load_runtime(model, device="cpu").name == "onnx-cpu"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine": {"cpu": "Another", "cores": 96, "gpu": ""}}, "cpu is .* and was Another"),
        ({"versions": {"onnxruntime": "0.1"}}, r"onnxruntime is .* and was 0\.1"),
        ({"versions": {}}, "onnxruntime is .* and was not installed"),
    ],
)
def test_stale_ones_are_named_and_not_followed(model, choice, changes, message):
    save_choice(replace(choice, **changes))
    with pytest.warns(UserWarning, match=f"choice of openvino of 2026-11-25 is not used, since .*{message}"):
        assert load_runtime(model).name == "onnx-cpu"


def test_another_file_of_the_same_size(model, choice):
    save_choice(replace(choice, model_sha256="0" * 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_choice(model, "auto", "fp32") is None


def test_a_file_without_choice_is_not_hashed(model, choice, monkeypatch):
    save_choice(replace(choice, size_bytes=choice.size_bytes + 1))
    monkeypatch.setattr(choices, "sha256_of", None)  # a call would fail
    assert load_runtime(model).name == "onnx-cpu"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b'{"choices": 1}',
        b'{"choices": [{"runtime": "onnx"}]}',
        b'{"choices": [' + b"[" * 5000 + b"]}",
    ],
)
def test_damaged_choices_are_named_and_in_nobodys_way(model, choice, content):
    choices_path().parent.mkdir(parents=True)
    choices_path().write_bytes(content)
    with pytest.warns(UserWarning, match=r"runtimes\.json: the measured choices"):
        assert load_runtime(model).name == "onnx-cpu"
    with pytest.warns(UserWarning, match="the measured choices"):
        save_choice(choice)
    assert find_choice(model, "auto", "fp32") == choice


def test_a_choice_of_an_engine_that_cannot_read_the_file(model, choice):
    save_choice(replace(choice, runtime="torch"))
    assert load_runtime(model).name == "onnx-cpu"


def test_no_home(model, monkeypatch, choice):
    """Without a place for a cache, auto works as if nothing had been measured."""

    def nowhere():
        raise RuntimeError

    monkeypatch.delenv("WHOLEPOSE_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", nowhere)
    assert load_runtime(model).name == "onnx-cpu"


def test_options_are_still_checked(model, choice):
    save_choice(choice)
    with pytest.raises(ConfigError, match="threads"):
        load_runtime(model, threads=0)
