"""The path of a GPU, run on the CPU: images go to the device, crops are cut there, the answer is the same.

On a machine with an NVIDIA GPU the same tests run there too, through CUDA graphs.
"""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [train] extra")

from wholepose import PoseEstimator  # noqa: E402
from wholepose.errors import ConfigError, WeightsError  # noqa: E402
from wholepose.export.pictures import draw_pictures  # noqa: E402
from wholepose.geometry import crop_image, crop_matrices, crop_regions  # noqa: E402
from wholepose.runtimes.torch import TorchRuntime  # noqa: E402
from wholepose.runtimes.torch_crops import crop_on_device, upload  # noqa: E402
from wholepose.weights import ModelCard  # noqa: E402

CARD = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(96, 64))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def photo(size, seed=0):
    """Noise with edges and large patches: what interpolation shows its differences on."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    smooth[size[0] // 3 : size[0] // 2] = rng.integers(0, 256, (1, size[1], 3), dtype=np.uint8)
    return smooth


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model("hrnet_w16_slim", 136)


@pytest.fixture(scope="module", params=DEVICES)
def runtime(model, request):
    return TorchRuntime.from_model(model, CARD, device=request.param)


class OnDevice:
    """The runtime as an estimator sees it on a GPU."""

    crops_on_device = True

    def __init__(self, runtime):
        self.card, self.name, self.predict_in_images = runtime.card, runtime.name, runtime.predict_in_images

    def predict(self, *_args, **_more):
        raise AssertionError("the crops were cut on the host")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(480, 640), (37, 900), (2000, 1500), (1, 1)])
def test_crops_are_those_of_the_host(device, size):
    image = photo(size)
    rng = np.random.default_rng(1)
    height, width = size
    boxes = np.array(
        [[0, 0, width, height], [-30, -20, width / 2, height / 2], [width * 0.3, 5, width * 0.9, height + 9]]
    )
    boxes = np.concatenate([boxes, boxes[:1] + 5000, rng.uniform(0, 1, (3, 4)) * 10 + [5, 5, 40, 60]])
    for crop_size in ((96, 64), (384, 288)):
        rotations = np.array([0, 0, 0, 0, 0, 33.0, -170.0])
        matrices = crop_matrices(*crop_regions(boxes, crop_size[1] / crop_size[0]), crop_size, rotations)
        found = crop_on_device(upload(image, torch.device(device)), matrices, crop_size).cpu().numpy()
        expected = np.stack([crop_image(image, matrix, crop_size) for matrix in matrices])
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_images_of_other_layouts_travel_too():
    image = photo((60, 50))
    device = torch.device("cpu")
    for view in (image[:, ::-1], image.transpose(1, 0, 2), image[::2, ::3]):
        view.flags.writeable = False
        np.testing.assert_array_equal(upload(view, device).numpy(), view)


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_estimator_answers_as_with_crops_of_the_host(runtime, model, flip_test):
    images = [photo((240, 320), 1), photo((100, 400), 2), photo((50, 50), 3)]
    boxes = [
        [[10, 10, 200, 230], [-20, 30, 90, 300], [100, 0, 319, 239]],
        [],
        [[0, 0, 50, 50], [10, 5, 40, 45]],
    ]
    host = PoseEstimator(TorchRuntime.from_model(model, CARD, device="cpu"), batch_size=2)
    expected = host.predict_batch(images, boxes, flip_test=flip_test)
    for batch_size in (1, 2, 16):  # persons 2 and 3 of a batch of two are in different images
        device = PoseEstimator(OnDevice(runtime), batch_size=batch_size)
        found = device.predict_batch(images, boxes, flip_test=flip_test)
        assert [len(poses) for poses in found] == [3, 0, 2]
        for ours, theirs in zip(found, expected, strict=True):
            # a grey level moves keypoints of random weights a little, and a few from one peak to another
            distances = np.linalg.norm(ours.keypoints - theirs.keypoints, axis=-1)
            assert np.quantile(distances, 0.9) < 0.5 if len(ours) else True
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.05)
            np.testing.assert_array_equal(ours.boxes, theirs.boxes)


def test_each_image_travels_once(runtime, monkeypatch):
    from wholepose.runtimes import torch as module

    sizes = []
    monkeypatch.setattr(module, "upload", lambda image, device: sizes.append(image.shape) or upload(image, device))
    images = [photo((64, 48), 1), photo((32, 80), 2)]
    PoseEstimator(OnDevice(runtime), batch_size=2).predict_batch(images, [[[0, 0, 40, 60]] * 5, [[0, 0, 30, 30]] * 2])
    assert sizes == [(64, 48, 3), (32, 80, 3)]


def test_nobody(runtime):
    """FAULTS 14."""
    poses = PoseEstimator(OnDevice(runtime)).predict(photo((64, 48)), [])
    assert poses.keypoints.shape == (0, 136, 2)


@pytest.mark.parametrize("limit", [1, 3])
def test_out_of_memory_halves_the_batch(model, limit):
    """FAULTS 17, with what CUDA raises."""
    small = TorchRuntime.from_model(model, CARD, device="cpu")
    expected = PoseEstimator(OnDevice(small)).predict(photo((240, 320)), [[10, 10, 200, 230]] * 6)

    def refuse(_module, inputs):
        if len(inputs[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = small._model.backbone.register_forward_pre_hook(refuse)
    found = PoseEstimator(OnDevice(small)).predict(photo((240, 320)), [[10, 10, 200, 230]] * 6)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-2)
    handle.remove()
    small._model.backbone.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(ConfigError, match="not even one crop"):
        PoseEstimator(OnDevice(small)).predict(photo((240, 320)), [[10, 10, 200, 230]])


def test_damaged_numbers_are_refused(filled_model):
    model = filled_model("hrnet_w16_slim", 136)
    with torch.no_grad():
        model.head.final_layer.bias[7] = torch.nan
    with pytest.raises(WeightsError, match="not all finite"):
        PoseEstimator(OnDevice(TorchRuntime.from_model(model, CARD, device="cpu"))).predict(
            photo((64, 48)), [[0, 0, 40, 60]]
        )


def share_near(found, expected):
    return (np.abs(found - expected).max(-1) < 0.1).mean()


@pytest.mark.skipif("cuda" not in DEVICES, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_answer_as_the_function_does(model, precision):
    """In bf16, whose rounding depends on the batch, they need only be as near to the answer in fp32."""
    runtime = TorchRuntime.from_model(model, CARD, device="cuda", precision=precision)
    exact = TorchRuntime.from_model(model, CARD, device="cuda")
    crops = draw_pictures(7, CARD.input_size)
    for count in (7, 1, 3, 7, 4):
        found = runtime.predict(crops[:count], flip_test=True).keypoints
        batch = torch.from_numpy(crops[:count]).cuda()
        with torch.inference_mode():
            same, expected = (made._answer(batch, flip_test=True).cpu().numpy()[..., :2] for made in (runtime, exact))
        if precision == "fp32":
            assert share_near(found, same) > 0.97
        else:
            assert share_near(found, expected) > share_near(same, expected) - 0.1


def test_a_cpu_cuts_on_the_host(model):
    assert not TorchRuntime.from_model(model, CARD, device="cpu").crops_on_device
