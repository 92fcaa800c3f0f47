"""The PyTorch runtime: the same answers as ONNX Runtime, in any batch, whatever the memory."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [train] extra")

from wholepose.errors import ConfigError, WeightsError  # noqa: E402
from wholepose.export.exporter import export_onnx  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.models.checkpoints import save_model  # noqa: E402
from wholepose.runtimes import load_runtime  # noqa: E402
from wholepose.runtimes.torch import TorchRuntime  # noqa: E402
from wholepose.weights import ModelCard  # noqa: E402

CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(96, 64))


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model("hrnet_w16_slim", 136)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "x.safetensors", model, CARD)
    export_onnx(model, CARD, folder / "x.onnx")
    return folder


@pytest.fixture(scope="module")
def runtime(folder):
    return load_runtime(folder / "x.safetensors", device="cpu")


@pytest.fixture(scope="module")
def crops():
    return draw_pictures(5, CARD.input_size)


def check_close(found, expected, tolerance_px, share=1.0):
    close = np.abs(found.keypoints - expected.keypoints).max(-1) <= tolerance_px
    assert close.mean() >= share
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flip_test", [False, True])
def test_agrees_with_onnx_runtime(folder, runtime, crops, flip_test):
    """FAULTS 11. Of 680 keypoints of random weights a few lie between two equally high peaks."""
    other = load_runtime(folder / "x.onnx", device="cpu", threads=1)
    found, expected = (engine.predict(crops, flip_test=flip_test) for engine in (runtime, other))
    check_close(found, expected, 0.05, share=0.99)
    close = np.abs(found.keypoints - expected.keypoints).max(-1) <= 0.05
    relative = np.abs(found.covariances - expected.covariances) / (1 + np.abs(expected.covariances))
    assert np.median(relative[close]) < 1e-4
    assert runtime.card == other.card == CARD
    assert runtime.name == "torch-cpu"


def test_shapes_and_types(runtime, crops):
    for count in (0, 1, 3):
        found = runtime.predict(crops[:count])
        assert found.keypoints.shape == (count, 136, 2)
        assert found.scores.shape == (count, 136)
        assert found.covariances.shape == (count, 136, 2, 2)
        assert {part.dtype for part in vars(found).values()} == {np.dtype(np.float32)}


def test_nobody_never_reaches_the_model(model, crops):
    """FAULTS 14."""
    runtime = TorchRuntime.from_model(model, CARD, device="cpu")
    runtime._model.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    runtime._model.backbone.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    assert runtime.predict(crops[:0], flip_test=True).keypoints.shape == (0, 136, 2)


def test_batch_and_neighbours_do_not_matter(runtime, crops):
    """FAULTS 16."""
    together = runtime.predict(crops)
    alone = [runtime.predict(crops[index : index + 1]) for index in range(len(crops))]
    np.testing.assert_allclose(np.concatenate([part.keypoints for part in alone]), together.keypoints, atol=1e-2)


def test_read_only_and_mirrored_views(runtime, crops):
    view = crops[:, :, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(runtime.predict(view).scores, runtime.predict(view.copy()).scores)


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("flip_test", [False, True])
def test_out_of_memory_halves_the_batch(model, runtime, crops, limit, flip_test):
    """FAULTS 17: a hook raises what CUDA raises, above a number of crops; the answer is the same."""
    small = TorchRuntime.from_model(model, CARD, device="cpu")
    sizes = []

    def refuse(_module, inputs):
        sizes.append(len(inputs[0]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    small._model.backbone.register_forward_pre_hook(refuse)
    found = small.predict(crops, flip_test=flip_test)
    check_close(found, runtime.predict(crops, flip_test=flip_test), 1e-2)
    assert sizes[0] == len(crops)
    assert 0 < sizes[-1] <= limit


def test_out_of_memory_for_one_crop(model, crops):
    small = TorchRuntime.from_model(model, CARD, device="cpu")

    def refuse(_module, _inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = small._model.backbone.register_forward_pre_hook(refuse)
    with pytest.raises(ConfigError, match="not even one crop"):
        small.predict(crops)
    handle.remove()
    assert small.predict(crops).scores.shape == (5, 136)  # the next call is right again


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(model, runtime, crops, precision):
    half = TorchRuntime.from_model(model, CARD, device="cpu", precision=precision)
    found, expected = half.predict(crops), runtime.predict(crops)
    distances = np.linalg.norm(found.keypoints - expected.keypoints, axis=-1)
    assert np.median(distances) < 0.5
    assert np.abs(found.scores - expected.scores).max() < 0.1 * np.abs(expected.scores).max()


def test_protocol_of_the_card(model, crops):
    default = TorchRuntime.from_model(model, CARD, device="cpu").predict(crops)
    mmpose0 = TorchRuntime.from_model(model, replace(CARD, protocol="mmpose0"), device="cpu").predict(crops)
    kernel11 = TorchRuntime.from_model(model, replace(CARD, decode_kernel=11), device="cpu").predict(crops)
    for other in (mmpose0, kernel11):
        np.testing.assert_array_equal(other.scores, default.scores)
        assert not np.array_equal(other.keypoints, default.keypoints)


def test_the_model_is_copied(filled_model, crops):
    model = filled_model("hrnet_w16_slim", 136)
    model.train()
    runtime = TorchRuntime.from_model(model, CARD, device="cpu")
    before = runtime.predict(crops)
    with torch.no_grad():
        model.head.final_layer.weight.zero_()
    np.testing.assert_array_equal(runtime.predict(crops).scores, before.scores)
    assert model.training


def test_damaged_numbers_are_refused(filled_model, crops):
    model = filled_model("hrnet_w16_slim", 136)
    with torch.no_grad():
        model.head.final_layer.bias[7] = torch.nan
    with pytest.raises(WeightsError, match="not all finite"):
        TorchRuntime.from_model(model, CARD, device="cpu").predict(crops)


def test_wrong_crops(runtime, crops):
    for wrong in (crops[:, :32], crops.astype(np.float32), crops[0], crops.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="crops must be uint8"):
            runtime.predict(wrong)


def test_devices_that_are_not_there(folder):
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            load_runtime(folder / "x.safetensors", device="cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="mps"):
            load_runtime(folder / "x.safetensors", device="mps")


def test_threads_share_a_runtime(runtime, crops):
    expected = runtime.predict(crops).keypoints
    answers = [None] * 4

    def work(index):
        answers[index] = runtime.predict(crops).keypoints

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(answers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-2)


def test_importing_the_runtimes_loads_no_pytorch():
    code = "import sys, wholepose.runtimes, wholepose.runtimes.torch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
