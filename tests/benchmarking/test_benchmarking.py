"""Timing the engines: what is listed, how it is compared, what is named the fastest and remembered."""

import json
from dataclasses import replace

import numpy as np
import pytest

from wholepose import load_image
from wholepose.benchmarking import forms as forms_module
from wholepose.benchmarking.forms import forms_of, load_forms
from wholepose.benchmarking.stages import draw_photo, time_stages
from wholepose.benchmarking.timing import Timing, fastest, time_forms
from wholepose.benchmarking.workflow import reference_of
from wholepose.cli.main import main
from wholepose.export.change import KeypointChange
from wholepose.runtimes.choices import choices_path, find_choice


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def model(tiny_models, tmp_path):
    return tiny_models.save_centroid_model(tmp_path / "centroid.onnx")


@pytest.fixture
def crops(tiny_models):
    return np.stack([tiny_models.blob_image((128, 96), (x, 60.0)) for x in (20.0, 48.0, 70.0)])


def test_engines_of_a_file(model, monkeypatch):
    """What is not installed is named with its extra."""
    monkeypatch.setattr(forms_module, "_is_installed", lambda runtime: runtime != "openvino")
    forms, absent = forms_of(model, device="cpu", threads=3)
    assert [(form.name, form.threads) for form in forms] == [("onnx-cpu fp32", 3)]
    assert {each.name for each in absent} == {"openvino-cpu fp32", "openvino-cpu bf16"}
    assert all("pip install 'wholepose[openvino]'" in each.reason for each in absent)
    monkeypatch.setattr(forms_module, "_is_installed", lambda runtime: True)
    forms, _ = forms_of(model, device="cpu")
    assert [form.name for form in forms] == ["onnx-cpu fp32", "openvino-cpu fp32", "openvino-cpu bf16"]


def test_no_gpu(model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    forms, absent = forms_of(model, device="cuda")
    assert not forms
    assert "onnxruntime-gpu" in absent[0].reason


def test_times_and_compares(model, tiny_models, tmp_path, crops):
    """A form whose keypoints are elsewhere is measured, and its distance is told."""
    forms, _ = forms_of(model, device="cpu")
    loaded, _ = load_forms(forms[:1])
    other = replace(forms[0], path=tiny_models.save_heatmap_model(tmp_path / "other.onnx"))
    loaded |= load_forms([other])[0]
    timings, failed = time_forms(loaded, crops, reference=forms[0], batch_sizes=[1, 5], seconds=0.03)
    assert not failed
    assert [each.form for each in timings] == [forms[0], other]
    assert timings[0].change.max_px == 0
    assert timings[1].change.median_px > 0.3  # a centroid model shifts keypoints by up to 1.75 px
    assert all(took > 0 for each in timings for took in each.milliseconds.values())
    assert set(timings[0].spread) == set(timings[0].processor) == {1, 5}
    assert all(spent > 0 for each in timings for spent in each.processor.values())


def test_a_form_that_fails_is_told_of(model, tiny_models, tmp_path, crops):
    forms, _ = forms_of(model, device="cpu")
    loaded, _ = load_forms(forms[:1])
    broken = replace(forms[0], path=tiny_models.save_heatmap_model(tmp_path / "nan.onnx", scale=float("nan")))
    loaded |= load_forms([broken])[0]
    timings, failed = time_forms(loaded, crops, reference=forms[0], batch_sizes=[1], seconds=0.01)
    assert len(timings) == 1
    assert "not all finite" in failed[0].reason
    gone = replace(forms[0], path=tmp_path / "gone.onnx")
    loaded, failed = load_forms([gone])
    assert not loaded
    assert "gone.onnx" in failed[0].reason


def test_the_fastest_has_to_answer_the_same(model):
    form = forms_of(model, device="cpu")[0][0]

    def timing(median_px, took, option=""):
        change = KeypointChange(136, median_px, 1.0, 2.0, 0.0)
        return Timing(
            replace(form, option=option), change, {1: took, 8: 100 - took}, {1: 0.0, 8: 0.0}, {1: took, 8: took}
        )

    timings = [timing(0, 30), timing(0.04, 20), timing(0.3, 10), timing(0, 5, "compiled")]
    assert fastest(timings, 1, 0.05) is timings[1]
    assert fastest(timings, 1, 0.5) is timings[2]
    assert fastest(timings, 8, 0.05) is timings[0]
    assert fastest(timings[2:3], 1, 0.05) is None


def test_stages(model):
    photo = draw_photo()
    assert load_image(photo).shape == (480, 640, 3)
    runtime = load_forms(forms_of(model, device="cpu")[0][:1])[0].popitem()[1]
    stages, people = time_stages(photo, runtime, None, seconds=0.01)
    assert people == 1
    assert list(stages) == ["decode image", "cut crops", "infer, with decoding", "draw"]
    assert all(took > 0 for took in stages.values())


class TestCommand:
    def test_measures_and_remembers(self, model, tmp_path, capsys):
        words = ["bench", str(model), "--seconds", "0.02", "--batch", "1,2", "--json", str(tmp_path / "b.json")]
        assert main([*words, "--device", "cpu"]) == 0
        out = capsys.readouterr().out
        assert "onnx-cpu fp32" in out
        assert "fastest at 1 a call with keypoints within 0.05 px: centroid.onnx" in out
        for step in ("decode image", "detect people", "cut crops", "infer, with decoding", "draw"):
            assert step in out
        document = json.loads((tmp_path / "b.json").read_text())
        assert document["timings"][0]["form"] == "onnx-cpu fp32"
        assert set(document["timings"][0]["milliseconds_a_crop"]) == {"1", "2"}
        assert document["machine"]["cores"] >= 1
        assert document["command"].startswith("wholepose bench")
        assert all(row["same_keypoints"] for row in document["timings"] if "bf16" not in row["form"])
        assert str(choices_path()) in out
        assert find_choice(model, "cpu", "fp32").runtime in ("onnx", "openvino")
        assert find_choice(model, "auto", "fp32") is None

    def test_pictures_of_the_user(self, model, tiny_models, tmp_path, capsys):
        from wholepose import save_image

        save_image(tmp_path / "a.png", tiny_models.blob_image((200, 150), (70.0, 100.0)))
        (tmp_path / "b.png").write_bytes(b"no picture")
        words = ["bench", str(model), "--seconds", "0.01", "--batch", "1", "--images", str(tmp_path), "--no-save"]
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert "1 crops of 1 pictures" in out
        assert "b.png" in err
        assert not choices_path().exists()

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["{model}", "{other}"], 2, "is another model"),
            (["missing.onnx"], 1, "missing.onnx"),
            (["{model}", "--batch", "8,1"], 2, "must rise"),
            (["{model}", "--seconds", "0"], 2, "above 0"),
            (["{model}", "--images", "nowhere"], 2, "no picture there"),
            (["{model}", "--json", "nowhere/x.json"], 2, "there is no folder nowhere"),
        ],
    )
    def test_says_what_is_wrong(self, model, tiny_models, tmp_path, capsys, words, code, message):
        other = tiny_models.save_centroid_model(tmp_path / "other.onnx", input_size=(64, 48))
        assert main(["bench", *(word.format(model=model, other=other) for word in words)]) == code
        assert message in capsys.readouterr().err


def test_pytorch_alone(tmp_path):
    """A safetensors file runs in PyTorch's forms; that ONNX engines want another file is told."""
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    from wholepose.benchmarking.workflow import run_benchmark
    from wholepose.export.pictures import draw_pictures
    from wholepose.models.checkpoints import save_model
    from wholepose.models.posenet import build_model
    from wholepose.weights import ModelCard

    torch.manual_seed(0)
    card = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(64, 64))
    save_model(tmp_path / "tiny.safetensors", build_model("hrnet_w16_slim", 136).eval(), card)
    found = run_benchmark(
        [tmp_path / "tiny.safetensors"],
        draw_pictures(2, (64, 64)),
        draw_photo(),
        source="2 drawn pictures",
        device="cpu",
        threads=1,
        batch_sizes=(1,),
        seconds=0.01,
    )
    names = [each.form.name for each in found.timings]
    assert names == ["torch-cpu fp32", "torch-cpu bf16", "torch-cpu fp32 plain layout"]
    assert found.timings[2].change.p95_px < 0.05
    assert [each.name for each in found.absent] == ["onnx, openvino"]


def test_the_reference_is_plain_float32_wherever_it_is_named(model):
    form = forms_of(model, device="cpu")[0][0]
    int8, half, laid_out = replace(form, int8=True), replace(form, precision="bf16"), replace(form, option="compiled")
    assert reference_of([int8, half, laid_out, form]) == form
    assert reference_of([int8, half]) == int8
