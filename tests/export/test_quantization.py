"""int8: a quarter of the file, keypoints near the float model's, and refusals."""

import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

from wholepose import save_image  # noqa: E402
from wholepose.cli.main import main  # noqa: E402
from wholepose.errors import ConfigError, WeightsError  # noqa: E402
from wholepose.export.exporter import export_onnx, halve_onnx  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.export.quantization import quantize_onnx  # noqa: E402
from wholepose.export.stored_weights import byte_weights, widen_weights  # noqa: E402
from wholepose.models.checkpoints import save_model  # noqa: E402
from wholepose.models.posenet import build_model  # noqa: E402
from wholepose.runtimes import load_runtime  # noqa: E402
from wholepose.skeletons import HALPE136  # noqa: E402
from wholepose.weights import ModelCard, read_card  # noqa: E402

CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(96, 64), metrics={"dev/ap": 0.5})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    torch.manual_seed(0)
    model = build_model("hrnet_w16_slim", 136).eval()
    for module in model.modules():  # so that the picture, and not the biases, decides about the keypoints
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    save_model(folder / "tiny.safetensors", model, CARD)
    export_onnx(model, CARD, folder / "full.onnx")
    halve_onnx(folder / "full.onnx", folder / "half.onnx")
    return folder


@pytest.fixture(scope="module")
def crops():
    return draw_pictures(12, CARD.input_size)


@pytest.fixture(scope="module")
def report(folder, crops):
    return quantize_onnx(folder / "full.onnx", folder / "int8.onnx", crops, max_change_px=1000)


def test_what_is_written(folder, report):
    assert report.size_bytes == report.path.stat().st_size < 0.4 * (folder / "full.onnx").stat().st_size
    assert report.calibration_crops == 9
    assert report.change.keypoints == 3 * 136
    card = read_card(report.path)
    assert (card.name, card.metrics, card.input_size) == ("tiny_int8", {}, CARD.input_size)
    assert "9 crops" in card.description
    model = onnx.load(report.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}["outputs"] == "keypoints"


def test_what_stays_in_float(report):
    """The first and the last convolution, and the decoder."""
    graph = onnx.load(report.path).graph
    made = {node.output[0]: node.op_type for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    quantized = [made.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    assert not quantized[0]
    assert not quantized[-1]
    assert all(quantized[1:-1])
    per_channel = [
        tensor
        for tensor in graph.initializer
        if tensor.name.endswith("_scale") and tensor.dims and tensor.dims[0] >= 16
    ]
    assert len(per_channel) > 50
    last = next(index for index, node in enumerate(graph.node) if node is convolutions[-1])
    assert not any(node.op_type in ("QuantizeLinear", "QLinearConv") for node in list(graph.node)[last:])


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_runs_on(name, folder, report, crops):
    if name == "openvino":
        pytest.importorskip("openvino", reason="needs the [openvino] extra")
    float_model = load_runtime(folder / "full.onnx", runtime="onnx", device="cpu")
    int8_model = load_runtime(report.path, runtime=name, device="cpu")
    for flip_test in (False, True):
        before, after = (each.predict(crops, flip_test=flip_test) for each in (float_model, int8_model))
        assert np.corrcoef(before.scores.ravel(), after.scores.ravel())[0, 1] > 0.9
    alone = int8_model.predict(crops[:1])
    np.testing.assert_allclose(alone.scores[0], int8_model.predict(crops[:5]).scores[0], rtol=1e-3, atol=1e-3)


def test_half_weights_are_widened_first(folder, crops, tmp_path):
    """The same quantisation, up to the rounding of the weights."""
    widened = widen_weights(onnx.load(folder / "half.onnx"))
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in widened.graph.initializer)
    onnx.checker.check_model(widened, full_check=True)
    report = quantize_onnx(folder / "half.onnx", tmp_path / "x.onnx", crops, max_change_px=1000)
    assert report.size_bytes < 0.4 * (folder / "full.onnx").stat().st_size


def test_byte_weights_are_widened_first(folder, crops, tmp_path):
    """Their values come back, and the quantisation starts from those."""
    full = onnx.load(folder / "full.onnx")
    onnx.save(byte_weights(full), tmp_path / "byte.onnx")
    widened = widen_weights(onnx.load(tmp_path / "byte.onnx"))
    onnx.checker.check_model(widened, full_check=True)
    arrays = [
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for model in (full, widened)
    ]
    assert arrays[1].keys() == arrays[0].keys()
    assert {array.dtype for array in arrays[1].values()} == {array.dtype for array in arrays[0].values()}
    for name, before in arrays[0].items():
        if before.ndim == 4:
            largest = np.abs(before).max(axis=(1, 2, 3), keepdims=True)
            assert (np.abs(arrays[1][name] - before) <= largest / 253).all()
    report = quantize_onnx(tmp_path / "byte.onnx", tmp_path / "x.onnx", crops, max_change_px=1000)
    assert report.size_bytes < 0.4 * (folder / "full.onnx").stat().st_size


def test_refuses_what_moves_too_far(folder, crops, tmp_path):
    """Calibrated by grey crops, the ranges fit nothing else."""
    calibrated = (np.arange(12) % 4 != 3)[:, None, None, None]
    crops = np.where(calibrated, 124, crops).astype(np.uint8)
    (tmp_path / "x.onnx").write_bytes(b"what was there before")
    with pytest.raises(
        WeightsError, match=r"x\.onnx: not written: in int8 .* px \(at most 0\.001\); calibrate with more"
    ):
        quantize_onnx(folder / "full.onnx", tmp_path / "x.onnx", crops, max_change_px=1e-3)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there before"]


def test_refuses_what_it_cannot_do(report, folder, crops, tmp_path):
    with pytest.raises(ConfigError, match="at least 8 crops"):
        quantize_onnx(folder / "full.onnx", tmp_path / "x.onnx", crops[:7])
    with pytest.raises(ConfigError, match="quantised already"):
        quantize_onnx(report.path, tmp_path / "x.onnx", crops)
    assert not list(tmp_path.iterdir())


class TestCommand:
    @pytest.fixture
    def photos(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for index, picture in enumerate(draw_pictures(9, (120, 80))):
            save_image(folder / f"{index}.png", picture)
        return folder

    def test_quantises(self, folder, photos, tmp_path, capsys):
        (photos / "damaged.png").write_bytes(b"no picture")
        words = ["export", str(folder / "full.onnx"), "--out", str(tmp_path / "x.onnx"), "--int8"]
        assert main([*words, "--calibration", str(photos), "--max-change", "1000"]) == 1
        out, err = capsys.readouterr()
        assert "calibrated by" in out
        assert "9 pictures" in out
        assert "damaged.png" in err
        assert read_card(tmp_path / "x.onnx").name == "tiny_int8"

    def test_from_safetensors_with_labels(self, folder, photos, tmp_path, capsys):
        """The float file in between is left nowhere, and AP is told of both."""
        person = {"category_id": 1, "area": 5000.0, "iscrowd": 0, "bbox": [5, 5, 70, 110]}
        keypoints = np.column_stack([np.random.default_rng(0).uniform(10, 70, (136, 2)), np.full(136, 2)])
        document = {
            "images": [{"id": i, "file_name": f"{i}.png", "height": 120, "width": 80} for i in range(3)],
            "annotations": [
                {**person, "id": i + 1, "image_id": i, "keypoints": keypoints.ravel().tolist()} for i in range(3)
            ],
            "categories": [{"id": 1, "name": "person", "keypoints": list(HALPE136.keypoint_names)}],
        }
        (tmp_path / "labels.json").write_text(json.dumps(document))
        words = ["export", str(folder / "tiny.safetensors"), "--out", str(tmp_path / "x.onnx"), "--int8"]
        words += ["--max-change", "1000", "--calibration", str(photos)]
        assert main([*words, "--labels", str(tmp_path / "labels.json"), "--images", str(photos)]) == 0
        out = capsys.readouterr().out
        assert "largest difference between ONNX Runtime and PyTorch" in out
        assert re.search(r"AP of labels\.json: 0\.\d{4} in float, 0\.\d{4} in int8 \([+-]0\.\d{4}\)", out)
        assert {path.name for path in tmp_path.iterdir()} == {"labels.json", "x.onnx", "photos"}

    def test_halves_an_onnx_file(self, folder, tmp_path, capsys):
        assert main(["export", str(folder / "full.onnx"), "--out", str(tmp_path / "x.onnx"), "--half-weights"]) == 0
        assert "half weights move keypoints by" in capsys.readouterr().out
        assert (tmp_path / "x.onnx").read_bytes() == (folder / "half.onnx").read_bytes()

    def test_the_model_itself_is_not_written_over(self, folder, tmp_path, capsys):
        path = tmp_path / "mine.onnx"
        path.write_bytes((folder / "full.onnx").read_bytes())
        assert main(["export", str(path), "--out", f"{tmp_path}/./mine.onnx", "--half-weights"]) == 2
        assert "is the model itself" in capsys.readouterr().err
        assert path.read_bytes() == (folder / "full.onnx").read_bytes()

    def test_a_detector_has_no_half_weights(self, tmp_path, capsys):
        assert main(["export", "detector", "--out", str(tmp_path / "x.onnx"), "--half-weights"]) == 1
        assert "embedded/detector.onnx" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--int8"], "--calibration FOLDER"),
            (["--calibration", "photos"], "are for --int8"),
            (["--half-weights", "--raw"], "is an ONNX file, whose ending"),
            ([], "is an ONNX file already"),
            (["--int8", "--half-weights"], "not allowed with"),
            (["--int8", "--calibration", "nowhere"], "no picture there can be read"),
            (["--int8", "--calibration", "x", "--max-change", "0"], "above 0"),
        ],
    )
    def test_says_what_is_wrong(self, folder, tmp_path, capsys, monkeypatch, words, message):
        monkeypatch.chdir(tmp_path)
        assert main(["export", str(folder / "full.onnx"), "--out", "x.onnx", *words]) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
