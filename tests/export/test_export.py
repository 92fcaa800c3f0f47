"""Exported files: what is in them, and that they answer as PyTorch does."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

import onnxruntime  # noqa: E402

from wholepose import heatmaps as reference  # noqa: E402
from wholepose.cli.main import main  # noqa: E402
from wholepose.errors import WeightsError  # noqa: E402
from wholepose.export import exporter  # noqa: E402
from wholepose.export.exporter import export_onnx  # noqa: E402
from wholepose.export.graph import GraphBuilder  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.models.checkpoints import save_model  # noqa: E402
from wholepose.models.decode import normalize  # noqa: E402
from wholepose.skeletons import get_skeleton  # noqa: E402
from wholepose.weights import ModelCard, read_card  # noqa: E402

SIZE = (96, 64)
CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=SIZE, licence="CC0-1.0")


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model("hrnet_w16_slim", 136)


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def torch_heatmaps(model, crops, flip_test):
    with torch.inference_mode():
        maps = model(normalize(torch.from_numpy(crops))).numpy()
        if not flip_test:
            return maps
        mirrored = model(normalize(torch.from_numpy(crops[:, :, ::-1].copy()))).numpy()
    return reference.merge_flipped(maps, mirrored, get_skeleton("halpe136").flip_indices)


def determined(maps, **options):
    """(N, K) bool: keypoints that a change of the heatmaps far above rounding does not move."""
    first = reference.decode(maps, **options).coordinates
    noise = np.random.default_rng(0).normal(0, 2e-5 * np.abs(maps).max(), maps.shape).astype(np.float32)
    return np.abs(first - reference.decode(maps + noise, **options).coordinates).max(-1) < 2e-3


@pytest.fixture(scope="module")
def sessions(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    result = {}
    for protocol, kernel in (("default", 17), ("default", 11), ("mmpose0", 17)):
        path = folder / f"{protocol}_{kernel}.onnx"
        report = export_onnx(model, replace(CARD, protocol=protocol, decode_kernel=kernel), path)
        assert report.comparison.max_difference_px <= 0.05
        assert report.comparison.keypoints > 400
        assert report.size_bytes == path.stat().st_size
        result[protocol, kernel] = open_session(path)
    return result


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("protocol", "kernel"), [("default", 17), ("default", 11), ("mmpose0", 17)])
def test_answers_as_pytorch_and_numpy_do(model, sessions, protocol, kernel, batch, flip_test):
    """FAULTS 11: ONNX = PyTorch within 0.05 px; here a hundredth of that, and covariances too."""
    crops = draw_pictures(3, SIZE)[:batch]
    maps = torch_heatmaps(model, crops, flip_test)
    expected = reference.decode(maps, kernel=kernel, protocol=protocol)
    keypoints, scores, covariances = sessions[protocol, kernel].run(
        ["keypoints", "scores", "covariances"], {"crops": crops, "flip_test": np.array(flip_test)}
    )
    settled = determined(maps, kernel=kernel, protocol=protocol)
    assert settled.mean() > 0.8
    assert np.abs(keypoints - expected.coordinates * 4)[settled].max() < 5e-3
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(covariances[settled], expected.covariances[settled] * 16, rtol=0.02, atol=0.02)
    assert (keypoints.dtype, scores.dtype, covariances.dtype) == (np.float32,) * 3


def test_decoder_in_the_graph_on_degenerate_maps(tmp_path):
    """Borders, ridges, flat and empty maps: the graph's decoder is NumPy's, map by map."""
    random = np.random.default_rng(1)
    size = (24, 18)
    corners = np.array([[0, 0], [17, 0], [0, 23], [17, 23], [1, 12], [16, 12], [9, 1], [9, 22]]) * 4.0
    maps, _ = reference.encode(np.concatenate([corners, corners + 1])[None], np.ones((1, 16)), size)
    odd = np.zeros((1, 6, *size), np.float32)
    odd[0, 1], odd[0, 2], odd[0, 3, 7], odd[0, 4, 0, 0] = -1, 0.5, 1, 1
    odd[0, 5] = random.normal(size=size)
    maps = np.concatenate([maps, odd], axis=1)
    for protocol in ("default", "mmpose0"):
        graph = GraphBuilder()
        name = graph.input("heatmaps", onnx.TensorProto.FLOAT, ["batch", *maps.shape[1:]])
        doubt = graph.float32(np.zeros((1, 1, 1)))
        shape = exporter.HeatmapShape(*maps.shape[1:])
        exporter.add_decode(graph, name, doubt, shape, kernel=17, stride=4, protocol=protocol)
        outputs = {"keypoints": ["batch", 22, 2], "scores": ["batch", 22], "covariances": ["batch", 22, 2, 2]}
        onnx.save(graph.build(outputs, {}), tmp_path / "decoder.onnx")
        found = open_session(tmp_path / "decoder.onnx").run(list(outputs), {"heatmaps": maps})
        expected = reference.decode(maps, protocol=protocol)
        np.testing.assert_allclose(found[0], expected.coordinates * 4, atol=2e-3)
        np.testing.assert_array_equal(found[1], expected.scores)
        np.testing.assert_allclose(found[2], expected.covariances * 16, rtol=1e-3, atol=1e-3)


def test_flip_test_may_be_left_out(model, sessions, tmp_path):
    crops = draw_pictures(2, SIZE)
    plain = sessions["default", 17]
    export_onnx(model, CARD, tmp_path / "flip.onnx", flip_test=True)
    flipping = open_session(tmp_path / "flip.onnx")
    for flip_test, default in ((False, plain), (True, flipping)):
        expected = default.run(None, {"crops": crops})
        for session in (plain, flipping):
            found = session.run(None, {"crops": crops, "flip_test": np.array(flip_test)})
            for first, second in zip(found, expected, strict=True):
                np.testing.assert_array_equal(first, second)


def test_batch_and_neighbours_do_not_matter(sessions):
    """FAULTS 16, in the graph; and nobody is nobody."""
    crops = draw_pictures(3, SIZE)
    session = sessions["default", 17]
    together = session.run(None, {"crops": crops})
    for index in range(3):
        for alone, all_of_them in zip(session.run(None, {"crops": crops[index : index + 1]}), together, strict=True):
            np.testing.assert_allclose(alone[0], all_of_them[index], rtol=1e-3, atol=1e-3)
    shapes = [part.shape for part in session.run(None, {"crops": crops[:0], "flip_test": np.array(True)})]
    assert shapes == [(0, 136, 2), (0, 136), (0, 136, 2, 2)]


def test_raw_heatmaps(model, tmp_path):
    report = export_onnx(model, CARD, tmp_path / "raw.onnx", raw=True)
    assert report.comparison.max_difference_px <= 0.05
    session = open_session(tmp_path / "raw.onnx")
    assert [node.name for node in session.get_inputs()] == ["crops"]
    crops = draw_pictures(2, SIZE)
    (maps,) = session.run(None, {"crops": crops})
    np.testing.assert_allclose(maps, torch_heatmaps(model, crops, False), rtol=1e-4, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["outputs"] == "heatmaps"
    with pytest.raises(ValueError, match="raw"):
        export_onnx(model, CARD, tmp_path / "x.onnx", raw=True, flip_test=True)


def test_card_travels_in_one_file(model, tmp_path):
    card = replace(CARD, metrics={"dev/ap": 0.5}, training_data=("lsp",), description="Ünïcode, too.")
    export_onnx(model, card, tmp_path / "x.onnx")
    assert read_card(tmp_path / "x.onnx") == card
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    loaded = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    assert {entry.key: entry.value for entry in loaded.metadata_props}["outputs"] == "keypoints"


def test_weights_that_overflow_are_seen(filled_model, tmp_path):
    """A NaN in the features makes the scores NaN, which every runtime refuses."""
    model = filled_model("hrnet_w16_slim", 136)
    export_onnx(model, CARD, tmp_path / "x.onnx")
    broken = onnx.load(tmp_path / "x.onnx")
    for tensor in broken.graph.initializer:
        if list(tensor.dims) == [16, 16, 3, 3]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((16, 16, 3, 3), np.nan, np.float32), tensor.name))
    onnx.save(broken, tmp_path / "broken.onnx")
    scores = open_session(tmp_path / "broken.onnx").run(["scores"], {"crops": draw_pictures(1, SIZE)})[0]
    assert np.isnan(scores).all()


def test_a_network_with_more_features_than_its_width(filled_model, tmp_path):
    """Its last exchange has a convolution for the finest branch too."""
    model = filled_model("hrnet_w24_slim_f96", 136)
    card = replace(CARD, arch="hrnet_w24_slim_f96")
    export_onnx(model, card, tmp_path / "x.onnx")  # which compares both on pictures
    crops = draw_pictures(2, SIZE)
    with torch.inference_mode():
        heatmaps = model(normalize(torch.from_numpy(crops))).numpy()
    keypoints = open_session(tmp_path / "x.onnx").run(["keypoints"], {"crops": crops})[0]
    np.testing.assert_allclose(
        keypoints, reference.decode(heatmaps, kernel=card.decode_kernel).coordinates * 4, atol=1e-2
    )


def test_a_file_that_differs_does_not_appear(model, tmp_path, monkeypatch):
    def add_shifted(graph, *arguments, **options):
        options["stride"] += 0.01  # keypoints up to 0.24 px off
        exporter_add_decode(graph, *arguments, **options)

    exporter_add_decode = exporter.add_decode
    monkeypatch.setattr(exporter, "add_decode", add_shifted)
    (tmp_path / "x.onnx").write_bytes(b"what was there before")
    with pytest.raises(WeightsError, match=r"x\.onnx: not written: .* differ by 0\.\d+ px"):
        export_onnx(model, CARD, tmp_path / "x.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there before"]


def test_card_of_another_model(model, tmp_path):
    with pytest.raises(WeightsError, match="17"):
        export_onnx(model, replace(CARD, skeleton="coco17"), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, model, CARD)
    return path


class TestCommand:
    def test_exports(self, path, tmp_path, capsys):
        words = ["export", str(path), "--out", str(tmp_path / "x.onnx"), "--flip-test", "--protocol", "mmpose0"]
        assert main(words) == 0
        assert "largest difference between ONNX Runtime and PyTorch: " in capsys.readouterr().out
        assert read_card(tmp_path / "x.onnx") == replace(CARD, protocol="mmpose0")

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["missing.safetensors"], 1, "missing.safetensors"),
            (["{path}", "--out", "x.pb"], 2, ".onnx"),
            (["{path}", "--raw", "--flip-test"], 2, "not allowed with"),
        ],
    )
    def test_says_what_is_wrong(self, path, tmp_path, capsys, monkeypatch, words, code, message):
        monkeypatch.chdir(tmp_path)
        assert main(["export", "--out", "x.onnx", *(word.format(path=path) for word in words)]) == code
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def test_either_of_two_equal_peaks_is_a_right_answer():
    """A hundred keypoints with two equal peaks each: whichever a program takes, it is not called different."""
    from wholepose.export.verification import _compare

    rows, columns = np.mgrid[:24, :16]
    peaks = [np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8) for y, x in ((6, 4), (17, 11))]
    heatmaps = torch.tensor(np.maximum(*peaks), dtype=torch.float32).expand(1, 136, 24, 16)
    answered = torch.tensor([44.0, 68.0]).expand(1, 136, 2)
    compared = _compare(heatmaps, answered, torch.ones(1, 136), CARD, "default")
    assert compared.undetermined == 136
    assert compared.max_difference_px == 0
