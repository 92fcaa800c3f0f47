"""Weights stored as float16 or int8: a smaller file, the same graph, keypoints within parts of a pixel."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

from wholepose.cli.main import main  # noqa: E402
from wholepose.errors import WeightsError  # noqa: E402
from wholepose.export import exporter  # noqa: E402
from wholepose.export.exporter import export_onnx  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.export.stored_weights import byte_weights, halve_weights  # noqa: E402
from wholepose.models.checkpoints import save_model  # noqa: E402
from wholepose.runtimes.onnx import OnnxRuntime  # noqa: E402
from wholepose.weights import ModelCard, read_card  # noqa: E402

CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(96, 64), licence="CC0-1.0")


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model("hrnet_w16_slim", 136)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    full = export_onnx(model, CARD, folder / "full.onnx")
    half = export_onnx(model, CARD, folder / "half.onnx", weights="half")
    return full, half


def test_half_the_file_and_the_same_keypoints(files):
    full, half = files
    assert full.rounding is None
    assert half.size_bytes < 0.56 * full.size_bytes
    assert half.comparison == full.comparison  # with PyTorch, before rounding
    assert half.rounding.median_px < 0.05
    assert half.rounding.max_px > 0  # the rounded weights are the ones that run
    assert half.rounding.median_px <= half.rounding.p95_px <= half.rounding.max_px
    assert read_card(half.path) == CARD
    onnx.checker.check_model(onnx.load(half.path), full_check=True)
    crops = draw_pictures(2, CARD.input_size)
    for flip_test in (False, True):
        before, after = (
            OnnxRuntime(report.path, device="cpu").predict(crops, flip_test=flip_test) for report in (full, half)
        )
        assert np.median(np.abs(before.keypoints - after.keypoints)) < 0.05
        np.testing.assert_allclose(after.scores, before.scores, atol=0.01 * np.abs(before.scores).max())


def test_what_is_halved(files):
    """Weights alone; the decoder keeps its float64, and weights beyond float16 stay as they are."""
    full, half = (onnx.load(report.path) for report in files)
    kinds = [{tensor.data_type for tensor in graph.graph.initializer} for graph in (full, half)]
    assert kinds[1] - kinds[0] == {onnx.TensorProto.FLOAT16}
    assert onnx.TensorProto.DOUBLE in kinds[1]
    widened = [node for node in half.graph.node if node.op_type == "Cast" and node.input[0].endswith("_half")]
    assert len(widened) > 50

    large = next(tensor for tensor in full.graph.initializer if list(tensor.dims) == [16, 16, 3, 3])
    values = onnx.numpy_helper.to_array(large).copy()
    values.flat[0] = 1e5
    large.CopyFrom(onnx.numpy_helper.from_array(values, large.name))
    again = halve_weights(full)
    kept = next(tensor for tensor in again.graph.initializer if tensor.name == large.name)
    assert kept.data_type == onnx.TensorProto.FLOAT
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), values)


def test_a_quarter_of_the_file(model, files, tmp_path):
    full = files[0]
    byte = export_onnx(model, CARD, tmp_path / "byte.onnx", weights="byte")
    assert byte.size_bytes < 0.35 * full.size_bytes
    assert byte.rounding.median_px < 0.25
    assert byte.rounding.max_px > 0
    assert read_card(byte.path) == CARD
    graph = onnx.load(byte.path)
    onnx.checker.check_model(graph, full_check=True)
    crops = draw_pictures(2, CARD.input_size)
    before, after = (OnnxRuntime(path, device="cpu").predict(crops) for path in (full.path, byte.path))
    np.testing.assert_allclose(after.scores, before.scores, atol=0.05 * np.abs(before.scores).max())

    weights = [node.input[1] for node in onnx.load(full.path).graph.node if node.op_type == "Conv"]
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    assert kinds[f"{weights[0]}_half"] == kinds[f"{weights[-1]}_half"] == onnx.TensorProto.FLOAT16
    stored = [name for name in weights if f"{name}_byte" in kinds]
    assert len(stored) > 50
    assert all(kinds[f"{name}_byte"] == onnx.TensorProto.INT8 for name in stored)
    again = byte_weights(onnx.load(full.path))
    assert again.SerializeToString() == graph.SerializeToString()


def test_raw_graphs_too(model, tmp_path):
    report = export_onnx(model, CARD, tmp_path / "raw.onnx", raw=True, weights="half")
    assert report.rounding.median_px < 0.05


def test_weights_that_do_not_bear_it(model, tmp_path, monkeypatch):
    """Nothing is written where half of the keypoints move."""

    def spoil(graph):
        spoilt = halve_weights(graph)
        for tensor in spoilt.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT16:
                coarse = np.round(onnx.numpy_helper.to_array(tensor), 1)
                tensor.CopyFrom(onnx.numpy_helper.from_array(coarse, tensor.name))
        return spoilt

    monkeypatch.setattr(exporter, "halve_weights", spoil)
    with pytest.raises(WeightsError, match=r"x\.onnx: not written: with half weights .* px \(at most 0\.05\)"):
        export_onnx(model, CARD, tmp_path / "x.onnx", weights="half")
    assert not list(tmp_path.iterdir())


def test_command(model, tmp_path, capsys):
    save_model(tmp_path / "tiny.safetensors", model, CARD)
    words = ["export", str(tmp_path / "tiny.safetensors"), "--out", str(tmp_path / "x.onnx"), "--half-weights"]
    assert main(words) == 0
    assert "half weights move keypoints by 0" in capsys.readouterr().out
