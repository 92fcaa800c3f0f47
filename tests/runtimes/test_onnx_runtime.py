"""ONNX Runtime: models whose answers are known, and files that are not what they should be."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from wholepose.errors import ConfigError, WeightsError
from wholepose.heatmaps import decode, merge_flipped
from wholepose.runtimes import load_runtime
from wholepose.runtimes.onnx import OnnxRuntime
from wholepose.skeletons import HALPE136


@pytest.fixture(scope="module")
def centroid(tiny_models, tmp_path_factory):
    return OnnxRuntime(tiny_models.save_centroid_model(tmp_path_factory.mktemp("m") / "centroid.onnx"), device="cpu")


@pytest.fixture(scope="module")
def raw(tiny_models, tmp_path_factory):
    return OnnxRuntime(tiny_models.save_heatmap_model(tmp_path_factory.mktemp("m") / "raw.onnx"), device="cpu")


@pytest.fixture(scope="module")
def crops(tiny_models):
    places = [(20.0, 30.0), (48.3, 64.7), (70.0, 100.0), (33.3, 77.7)]
    return np.stack([tiny_models.blob_image((128, 96), place, sigma_px=9.0) for place in places]), np.array(places)


def test_known_answer(centroid, crops, tiny_models):
    images, places = crops
    result = centroid.predict(images)
    assert result.keypoints.shape == (4, 136, 2)
    assert result.scores.shape == (4, 136)
    assert result.covariances.shape == (4, 136, 2, 2)
    assert all(array.dtype == np.float32 for array in (result.keypoints, result.scores, result.covariances))
    np.testing.assert_allclose(result.keypoints[1:2, 0], places[1:2], atol=0.1)
    np.testing.assert_allclose(
        result.keypoints[:, 3, 0] - result.keypoints[:, 0, 0], 3 * tiny_models.OFFSET_PX, atol=1e-3
    )
    np.testing.assert_allclose(result.covariances[2, 7], tiny_models.COVARIANCE)
    assert centroid.name == "onnx-cpu"
    assert centroid.card == tiny_models.card_of()


def test_raw_scores_may_exceed_one(centroid, crops):
    assert centroid.predict(crops[0]).scores.max() > 1


def test_heatmaps_are_decoded(raw, crops):
    """A `--raw` export gives the keypoints that heatmaps.decode reads from its heatmaps."""
    images, places = crops
    result = raw.predict(images)
    np.testing.assert_allclose(result.keypoints[:, 5], places, atol=0.05)
    maps = np.repeat(images[:, None, ::4, ::4, 0].astype(np.float32) / np.float32(255), 136, axis=1)
    expected = decode(maps, kernel=17)
    np.testing.assert_allclose(result.keypoints, expected.coordinates * 4, atol=1e-4)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-6)
    np.testing.assert_allclose(result.covariances, expected.covariances * 16, rtol=1e-4)


def test_flip_test_of_heatmaps(raw, crops):
    """The flip test outside the graph: mirrored crops, pairs swapped, shifted, averaged."""
    images, _ = crops

    def maps(batch):
        return np.repeat(batch[:, None, ::4, ::4, 0].astype(np.float32) / np.float32(255), 136, axis=1)

    merged = merge_flipped(maps(images), maps(images[:, :, ::-1]), HALPE136.flip_indices)
    result = raw.predict(images, flip_test=True)
    np.testing.assert_allclose(result.keypoints, decode(merged).coordinates * 4, atol=1e-4)
    assert not np.allclose(result.keypoints, raw.predict(images).keypoints, atol=1e-3)


def test_card_decides_how_heatmaps_are_decoded(tiny_models, tmp_path, crops):
    kernel = OnnxRuntime(tiny_models.save_heatmap_model(tmp_path / "a.onnx", decode_kernel=11), device="cpu")
    mmpose0 = OnnxRuntime(tiny_models.save_heatmap_model(tmp_path / "b.onnx", protocol="mmpose0"), device="cpu")
    image = np.zeros((1, 128, 96, 3), np.uint8)
    image[0, 0:4, 40:48, 0] = 200  # a peak on the border, which mmpose0 leaves at its cell
    maps = np.repeat(image[:, None, ::4, ::4, 0].astype(np.float32) / np.float32(255), 136, axis=1)
    assert np.allclose(mmpose0.predict(image).keypoints, decode(maps, protocol="mmpose0").coordinates * 4)
    maps = np.repeat(crops[0][:, None, ::4, ::4, 0].astype(np.float32) / np.float32(255), 136, axis=1)
    assert np.allclose(kernel.predict(crops[0]).covariances, decode(maps, kernel=11).covariances * 16, rtol=1e-4)


def test_flip_test_is_what_the_call_says(tiny_models, tmp_path, crops):
    """A file exported with `--flip-test` answers the same as one without, since the call says whether to flip."""
    images, _ = crops
    off = OnnxRuntime(tiny_models.save_centroid_model(tmp_path / "off.onnx", flip_test=False), device="cpu")
    on = OnnxRuntime(tiny_models.save_centroid_model(tmp_path / "on.onnx", flip_test=True), device="cpu")
    for flip_test in (False, True):
        a, b = off.predict(images, flip_test=flip_test), on.predict(images, flip_test=flip_test)
        np.testing.assert_array_equal(a.scores, b.scores)
    difference = on.predict(images, flip_test=True).scores - on.predict(images).scores
    np.testing.assert_allclose(difference, 0.25, atol=1e-6)


def test_flip_test_that_the_file_lacks(tiny_models, tmp_path, crops):
    runtime = OnnxRuntime(tiny_models.save_centroid_model(tmp_path / "m.onnx", flip_test=None), device="cpu")
    assert len(runtime.predict(crops[0]).keypoints) == 4
    with pytest.raises(WeightsError, match="without a flip test"):
        runtime.predict(crops[0], flip_test=True)


def test_no_crops_do_not_reach_the_model(centroid, raw):
    """FAULTS 14: nobody gives arrays of length 0, and the engine is not called."""
    for runtime in (centroid, raw):
        session, runtime._session = runtime._session, None  # any call would fail
        try:
            result = runtime.predict(np.zeros((0, 128, 96, 3), np.uint8), flip_test=True)
        finally:
            runtime._session = session
        assert result.keypoints.shape == (0, 136, 2)
        assert result.scores.shape == (0, 136)
        assert result.covariances.shape == (0, 136, 2, 2)


def test_batches_do_not_change_results(raw, crops):
    """FAULTS 16: alone, together, in another order, with other neighbours."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (5, 128, 96, 3)).astype(np.uint8)
    together = raw.predict(np.concatenate([crops[0], noise]))
    for index, crop in enumerate(crops[0]):
        alone = raw.predict(crop[None])
        np.testing.assert_allclose(together.keypoints[index], alone.keypoints[0], atol=1e-3)
        np.testing.assert_allclose(together.covariances[index], alone.covariances[0], rtol=1e-3)
    backwards = raw.predict(crops[0][::-1])
    np.testing.assert_allclose(backwards.keypoints[::-1], together.keypoints[:4], atol=1e-3)


def test_threads_share_a_runtime(raw, crops):
    """FAULTS 18, the short form: threads that share a runtime get what a serial caller gets."""
    expected = [raw.predict(crop[None]).keypoints for crop in crops[0]]
    wrong = []

    def work(index):
        for _ in range(10):
            if not np.array_equal(raw.predict(crops[0][index % 4][None]).keypoints, expected[index % 4]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 128, 96, 3), np.float32),
        np.zeros((1, 3, 128, 96), np.uint8),
        np.zeros((128, 96, 3), np.uint8),
        np.zeros((1, 96, 128, 3), np.uint8),
    ],
)
def test_wrong_crops(centroid, bad):
    with pytest.raises(ValueError, match=r"crops must be uint8 of shape \(B, 128, 96, 3\)"):
        centroid.predict(bad)


def test_weights_that_answer_nan(tiny_models, tmp_path):
    """No NaN in results: damaged weights are an error, not a pose."""
    runtime = OnnxRuntime(tiny_models.save_heatmap_model(tmp_path / "nan.onnx", scale=float("nan")), device="cpu")
    with pytest.raises(WeightsError, match="not all finite"):
        runtime.predict(np.ones((1, 128, 96, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 100, b"<html></html>" * 50])
def test_not_onnx(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.onnx"):
        load_runtime(path)


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.onnx"):
        load_runtime(tmp_path / "absent.onnx")


def test_damaged_file(tiny_models, tmp_path):
    path = tiny_models.save_centroid_model(tmp_path / "model.onnx")
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match=r"model\.onnx"):
            load_runtime(path)


def test_no_model_card(tiny_models, tmp_path):
    import onnx

    path = tiny_models.save_centroid_model(tmp_path / "bare.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=r"bare\.onnx.*no wholepose model card"):
        load_runtime(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": "coco17"}, r"'keypoints' is .*136.*must be .*17"),
        ({"input_size": (256, 192)}, r"'crops' is .*128, 96.*must be .*256, 192"),
        ({"skeleton": "martian"}, "martian"),
    ],
)
def test_card_that_does_not_fit_the_graph(tiny_models, tmp_path, changes, message):
    import onnx

    path = tiny_models.save_centroid_model(tmp_path / "odd.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, tiny_models.card_of(**changes).to_metadata())
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=message):
        load_runtime(path)


def test_fixed_batch_size(tiny_models, tmp_path):
    import onnx

    path = tiny_models.save_heatmap_model(tmp_path / "fixed.onnx")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)
    with pytest.raises(WeightsError, match="only batches of 4"):
        load_runtime(path)


def test_other_graphs_are_refused(tiny_models, tmp_path):
    import onnx

    path = tiny_models.save_heatmap_model(tmp_path / "other.onnx")
    model = onnx.load(path)
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    renamed.graph.node[-1].output[0] = renamed.graph.output[0].name = "logits"
    onnx.save(renamed, path)
    with pytest.raises(WeightsError, match="lacks the output 'keypoints'"):
        load_runtime(path)
    renamed.CopyFrom(model)
    renamed.graph.node[0].input[0] = renamed.graph.input[0].name = "pixels"
    onnx.save(renamed, path)
    with pytest.raises(WeightsError, match="input is 'crops', not pixels"):
        load_runtime(path)


def test_external_data_is_refused(tiny_models, tmp_path):
    """FAULTS 30: weights in another file, inside or outside the folder, are not read."""
    import onnx

    path = tiny_models.save_heatmap_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    outside = tmp_path / "outside"
    outside.mkdir()
    onnx.save_model(model, outside / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    moved = onnx.load(outside / "m.onnx", load_external_data=False)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside/w.bin"
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "model.onnx").write_bytes(moved.SerializeToString())
    with pytest.raises(WeightsError, match=r"model\.onnx"):
        load_runtime(tmp_path / "inside" / "model.onnx")


def test_options_that_do_not_fit(tiny_models, tmp_path):
    path = tiny_models.save_centroid_model(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="fp16"):
        load_runtime(path, precision="fp16")
    with pytest.raises(ConfigError, match="mps"):
        load_runtime(path, device="mps")
    with pytest.raises(ConfigError, match="this file runs on 'onnx' or 'openvino'"):
        load_runtime(path, runtime="torch")
    with pytest.raises(ConfigError, match="does not exist"):
        load_runtime(path, runtime="tensorflow")
    with pytest.raises(ConfigError, match="threads"):
        load_runtime(path, threads=0)
    with pytest.raises(ConfigError, match="wholepose convert"):
        load_runtime(tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=r"only \.onnx"):
        load_runtime(tmp_path / "model")


def test_cuda_where_there_is_none(tiny_models, tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    path = tiny_models.save_centroid_model(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="onnxruntime-gpu"):
        load_runtime(path, device="cuda")
    assert load_runtime(path, device="auto").name == "onnx-cpu"


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
from wholepose.runtimes.onnx import OnnxRuntime

runtime = OnnxRuntime(sys.argv[1], device="cpu", threads=1)
crops = np.random.default_rng(0).integers(0, 255, (256, 128, 96, 3)).astype(np.uint8)
expected = np.concatenate([runtime.predict(crops[i : i + 8]).keypoints for i in range(0, 256, 8)])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20,) * 2)  # 256 crops need over 300 MB
sizes = []
run = runtime._run_heatmaps
runtime._run_heatmaps = lambda part, flip_test: sizes.append(len(part)) or run(part, flip_test)
result = runtime.predict(crops).keypoints
print(sizes[0], sizes[-1] < 256, np.abs(result - expected).max() < 1e-3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_batch_that_does_not_fit_into_memory(tiny_models, tmp_path):
    """FAULTS 17: the batch halves, retries, and gives the same result."""
    path = tiny_models.save_heatmap_model(tmp_path / "raw.onnx")
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["256", "True", "True"]


def test_with_threads(tiny_models, tmp_path):
    """The same answers; each number of threads is loaded once."""
    runtime = OnnxRuntime(tiny_models.save_heatmap_model(tmp_path / "tiny.onnx"), threads=2)
    other = runtime.with_threads(1)
    assert (runtime.threads, other.threads) == (2, 1)
    assert other is runtime.with_threads(1)
    assert runtime.with_threads(2) is runtime
    crops = np.random.default_rng(0).integers(0, 256, (2, *runtime.card.input_size, 3), dtype=np.uint8)
    np.testing.assert_allclose(runtime.predict(crops).keypoints, other.predict(crops).keypoints, atol=1e-4)


def test_a_file_that_took_the_place_of_the_model(tiny_models, tmp_path):
    """Whatever becomes of the file, one model answers."""
    path = tiny_models.save_heatmap_model(tmp_path / "tiny.onnx")
    runtime = OnnxRuntime(path, threads=2)
    path.unlink()
    assert runtime.with_threads(1) is runtime
    tiny_models.save_heatmap_model(path, card=tiny_models.card_of(name="another"))
    assert runtime.with_threads(1) is runtime
    crops = np.random.default_rng(0).integers(0, 256, (5, *runtime.card.input_size, 3), dtype=np.uint8)
    assert len(runtime.predict(crops, flip_test=1).keypoints) == 5  # an int will do


@pytest.mark.parametrize(
    ("options", "message"), [({"device": "gpu"}, "device must be one of auto, cpu"), ({"precision": "fp8"}, "'fp8'")]
)
def test_options_of_no_engine(tiny_models, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        load_runtime(tiny_models.save_heatmap_model(tmp_path / "tiny.onnx"), **options)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("count", [3, 4, 7])
def test_batches_are_split_among_cores(tiny_models, tmp_path, count, flip_test):
    """FAULTS 15, 16: each core takes a share of the crops, in order, and the answer is that of one by one."""
    runtime = OnnxRuntime(tiny_models.save_centroid_model(tmp_path / "tiny.onnx"), device="cpu", threads=2)
    crops = np.random.default_rng(0).integers(0, 256, (count, *runtime.card.input_size, 3), dtype=np.uint8)
    found = runtime.predict(crops, flip_test=flip_test)
    assert (1 in runtime._siblings) == (count >= 4)
    for index in range(count):
        alone = runtime.predict(crops[index : index + 1], flip_test=flip_test)
        np.testing.assert_allclose(found.keypoints[index], alone.keypoints[0], atol=1e-4)
        np.testing.assert_allclose(found.scores[index], alone.scores[0], atol=1e-5)


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_file_that_changes_meanwhile_is_not_loaded_again(tiny_models, tmp_path, change):
    path = tiny_models.save_centroid_model(tmp_path / "tiny.onnx")
    runtime = OnnxRuntime(path, device="cpu", threads=2)
    crops = np.random.default_rng(0).integers(0, 256, (6, *runtime.card.input_size, 3), dtype=np.uint8)
    expected = np.concatenate([runtime.predict(crop[None]).keypoints for crop in crops])
    path.unlink()
    if change == "another":
        tiny_models.save_heatmap_model(path)
    np.testing.assert_allclose(runtime.predict(crops).keypoints, expected, atol=1e-4)


def test_onnx_runtime_is_told_to_report_to_nobody_before_it_loads():
    code = "import os, sys, wholepose; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    asked = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    silent = {name: value for name, value in asked.items() if name != "ORT_DISABLE_TELEMETRY"}
    for environment, expected in ((silent, "1 False"), (asked, "0 False")):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[0] == expected
