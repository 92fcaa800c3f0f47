"""What holds for each engine that is installed, on the same network: FAULTS 11 and 14 to 18."""

import importlib.util
import subprocess
import sys
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

from wholepose.errors import ConfigError, WeightsError  # noqa: E402
from wholepose.export.exporter import export_onnx  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.export.stored_weights import byte_weights, halve_weights  # noqa: E402
from wholepose.models.checkpoints import save_model  # noqa: E402
from wholepose.runtimes import load_runtime  # noqa: E402
from wholepose.runtimes.signal_stack import signal_stack  # noqa: E402
from wholepose.weights import ModelCard  # noqa: E402

CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(96, 64), licence="CC0-1.0")
MODULES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


def needs(name):
    return pytest.param(
        name,
        marks=pytest.mark.skipif(importlib.util.find_spec(MODULES[name]) is None, reason=f"needs the [{name}] extra"),
    )


@pytest.fixture(scope="module")
def files(filled_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    model = filled_model("hrnet_w16_slim", 136)
    save_model(folder / "tiny.safetensors", model, CARD)
    export_onnx(model, CARD, folder / "tiny.onnx")
    export_onnx(model, CARD, folder / "flipping.onnx", flip_test=True)
    export_onnx(model, CARD, folder / "raw.onnx", raw=True)
    return folder


@pytest.fixture(scope="module", params=[needs(name) for name in MODULES])
def engine(request, files):
    name = request.param
    return load_runtime(files / ("tiny.safetensors" if name == "torch" else "tiny.onnx"), runtime=name, device="cpu")


@pytest.fixture(scope="module")
def crops():
    return draw_pictures(5, CARD.input_size)


@pytest.fixture(scope="module")
def reference(files):
    return load_runtime(files / "tiny.onnx", runtime="onnx", device="cpu")


def assert_same(found, expected, limit=0.05):
    """Within a limit, but for keypoints that rounding alone moves between peaks of the same height."""
    distances = np.linalg.norm(found.keypoints - expected.keypoints, axis=-1)
    assert (distances < limit).mean() > 0.98
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flip_test", [False, True])
def test_answers_as_onnx_runtime_does(engine, reference, crops, flip_test):
    """FAULTS 11, between engines."""
    found, expected = (each.predict(crops, flip_test=flip_test) for each in (engine, reference))
    assert_same(found, expected)
    near = np.linalg.norm(found.keypoints - expected.keypoints, axis=-1) < 1e-3
    share = np.isclose(found.covariances[near], expected.covariances[near], rtol=0.02, atol=0.02).mean()
    assert share > 0.98
    assert engine.card == CARD
    assert engine.name.endswith("-cpu")
    assert {array.dtype for array in (found.keypoints, found.scores, found.covariances)} == {np.dtype(np.float32)}


def test_nobody(engine):
    """FAULTS 14."""
    found = engine.predict(np.zeros((0, 96, 64, 3), np.uint8), flip_test=True)
    assert [part.shape for part in (found.keypoints, found.scores, found.covariances)] == [
        (0, 136, 2),
        (0, 136),
        (0, 136, 2, 2),
    ]


def test_batch_and_neighbours_do_not_matter(engine, crops):
    """FAULTS 15 and 16: alone, together, in another order, in batches of sizes that vary."""
    together = engine.predict(crops)
    for index in (0, 3):
        assert_same(engine.predict(crops[index : index + 1]), _only(together, [index]), 1e-3)
    backwards = engine.predict(crops[::-1])  # a view with negative strides
    assert_same(backwards, _only(together, [4, 3, 2, 1, 0]), 1e-3)
    many = engine.predict(crops[np.arange(23) % 5])
    assert_same(_only(many, range(20, 23)), _only(together, range(3)), 1e-3)


def _only(predictions, rows):
    rows = list(rows)
    return type(predictions)(predictions.keypoints[rows], predictions.scores[rows], predictions.covariances[rows])


def test_threads_share_a_runtime(engine, crops):
    """FAULTS 18, the short form; batches of different sizes at once."""
    expected = [engine.predict(crops[: index + 1]).keypoints for index in range(4)]
    wrong = []

    def work(index):
        for _ in range(4):
            found = engine.predict(crops[: index % 4 + 1]).keypoints
            if not np.allclose(found, expected[index % 4], atol=1e-3):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_answers_stay_as_they_are(engine, crops):
    """An answer is the caller's: the next call does not write into it, and the crops are only read."""
    first = engine.predict(crops[:1])
    kept = [part.copy() for part in (first.keypoints, first.scores, first.covariances)]
    frozen = crops[1:2].copy()
    frozen.flags.writeable = False
    engine.predict(frozen)
    np.testing.assert_array_equal(frozen, crops[1:2])
    for part, copy in zip((first.keypoints, first.scores, first.covariances), kept, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_wrong_crops(engine):
    with pytest.raises(ValueError, match=r"crops must be uint8 of shape \(B, 96, 64, 3\)"):
        engine.predict(np.zeros((1, 64, 96, 3), np.uint8))


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
from wholepose.export.pictures import draw_pictures
from wholepose.runtimes import load_runtime

path, name = sys.argv[1:]
runtime = load_runtime(path, runtime=name, device="cpu", threads=1)
crops = draw_pictures(5, (96, 64))[np.arange(192) % 5]
expected = np.concatenate([runtime.predict(crops[i : i + 4]).keypoints for i in range(0, 192, 4)])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20,) * 2)
result = runtime.predict(crops).keypoints
print((np.abs(result - expected).max(-1) < 1e-3).mean() > 0.98)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("name", [needs("onnx"), needs("openvino")])
def test_batch_that_does_not_fit_into_memory(files, name):
    """FAULTS 17: the batch halves, retries, and gives the same result. PyTorch's is in its own tests."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(files / "tiny.onnx"), name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["True"]


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs the [openvino] extra")
class TestOpenVino:
    def load(self, path, **options):
        return load_runtime(path, runtime="openvino", **options)

    def test_flip_test_is_what_the_call_says(self, files, crops):
        off, on = self.load(files / "tiny.onnx"), self.load(files / "flipping.onnx")
        for flip_test in (False, True):
            first, second = (each.predict(crops, flip_test=flip_test) for each in (off, on))
            np.testing.assert_array_equal(first.scores, second.scores)
        assert not np.allclose(on.predict(crops).scores, on.predict(crops, flip_test=True).scores)

    @pytest.mark.parametrize("flip_test", [False, True])
    def test_raw_heatmaps(self, files, reference, crops, flip_test):
        found = self.load(files / "raw.onnx").predict(crops, flip_test=flip_test)
        assert_same(found, reference.predict(crops, flip_test=flip_test))

    @pytest.mark.parametrize("stored", [halve_weights, byte_weights])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_weights_stored_smaller(self, files, crops, tmp_path, stored, threads):
        """With one thread a call, several streams share the weights."""
        path = tmp_path / "small.onnx"
        onnx.save(stored(onnx.load(files / "tiny.onnx")), path)
        expected = load_runtime(path, runtime="onnx", device="cpu").predict(crops)
        runtime = self.load(path, threads=threads)
        for _ in range(4):  # each in the next stream
            assert_same(runtime.predict(crops), expected)

    def test_bf16(self, files, reference, crops):
        """The network in bf16, its last layer and the decoding in float32."""
        from wholepose.runtimes.openvino import shared_core

        if "BF16" not in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            with pytest.raises(ConfigError, match="no bf16"):
                self.load(files / "tiny.onnx", precision="bf16")
            return
        runtime = self.load(files / "tiny.onnx", precision="bf16")
        for flip_test in (False, True):
            found, expected = (each.predict(crops, flip_test=flip_test) for each in (runtime, reference))
            distances = np.linalg.norm(found.keypoints - expected.keypoints, axis=-1)
            assert np.median(distances) < 0.2
            assert distances.max() > 0.01  # it did run in bf16
            scale = np.abs(expected.scores).max()
            np.testing.assert_allclose(found.scores, expected.scores, atol=0.03 * scale)
        assert load_runtime(files / "tiny.onnx", precision="bf16").name == "openvino-cpu"
        raw = self.load(files / "raw.onnx", precision="bf16").predict(crops)
        assert np.median(np.linalg.norm(raw.keypoints - reference.predict(crops).keypoints, axis=-1)) < 0.2

    def test_a_file_that_is_another_by_now(self, files, tmp_path):
        path = tmp_path / "tiny.onnx"
        path.write_bytes((files / "tiny.onnx").read_bytes())
        runtime = self.load(path, threads=2)
        path.unlink()
        assert runtime.with_threads(1) is runtime

    def test_calls_at_once_share_the_cores(self, files, crops):
        runtime = self.load(files / "tiny.onnx", threads=2)
        single = runtime.with_threads(1)
        assert (runtime.threads, single.threads) == (2, 1)
        assert runtime.with_threads(2) is runtime
        assert runtime.with_threads(1) is single
        assert_same(single.predict(crops), runtime.predict(crops), 1e-3)

    def test_damaged_weights(self, files, tmp_path):
        """No NaN in results: damaged weights are an error, not a pose."""
        broken = onnx.load(files / "tiny.onnx")
        for tensor in broken.graph.initializer:
            if list(tensor.dims) == [16, 16, 3, 3]:
                values = np.full((16, 16, 3, 3), np.nan, np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(broken, tmp_path / "broken.onnx")
        with pytest.raises(WeightsError, match="not all finite"):
            self.load(tmp_path / "broken.onnx")

    @pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 100])
    def test_not_onnx(self, tmp_path, content):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.onnx"):
            self.load(tmp_path / "model.onnx")

    def test_damaged_file(self, files, tmp_path):
        whole = (files / "tiny.onnx").read_bytes()
        for share in (0.1, 0.5, 0.9):
            (tmp_path / "model.onnx").write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(WeightsError, match=r"model\.onnx"):
                self.load(tmp_path / "model.onnx")

    def test_card_that_does_not_fit_the_graph(self, files, tmp_path):
        model = onnx.load(files / "tiny.onnx")
        del model.metadata_props[:]
        card = ModelCard(name="odd", arch="x", skeleton="coco17", input_size=(96, 64))
        onnx.helper.set_model_props(model, card.to_metadata())
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(WeightsError, match=r"'keypoints' is float32 .*136.*must be float32 .*17"):
            self.load(tmp_path / "odd.onnx")

    def test_options_that_do_not_fit(self, files):
        with pytest.raises(ConfigError, match="fp16"):
            self.load(files / "tiny.onnx", precision="fp16")
        with pytest.raises(ConfigError, match="CPU only"):
            self.load(files / "tiny.onnx", device="cuda")
        with pytest.raises(ConfigError, match=r"reads \.onnx files"):
            self.load(files / "tiny.safetensors")


def test_engine_that_is_not_installed(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'wholepose\[openvino\]'"):
        load_runtime(files / "tiny.onnx", runtime="openvino")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the stack of signals")
@pytest.mark.parametrize("name", [needs(name) for name in MODULES])
def test_signals_are_handled_where_they_were(files, crops, name):
    """An engine that leaves another stack behind, and frees it, ends the process at the next Ctrl-C."""
    before = signal_stack()
    runtime = load_runtime(files / ("tiny.safetensors" if name == "torch" else "tiny.onnx"), runtime=name, device="cpu")
    runtime.predict(crops)
    after = signal_stack()
    assert (after.address, after.flags, after.size) == (before.address, before.flags, before.size)
