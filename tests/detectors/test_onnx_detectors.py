"""YOLOX and RTMDet layouts, as tiny graphs whose outputs are known."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wholepose.detectors import load_detector
from wholepose.detectors.onnx_detectors import OnnxDetector
from wholepose.errors import ConfigError, WeightsError

SIDE = 64
CELLS = 8 * 8 + 4 * 4 + 2 * 2
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def save(path: Path, nodes: list[onnx.NodeProto], outputs: list[tuple[str, int]], shape: list[object]) -> Path:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def constant_model(path: Path, *arrays: NDArray[np.generic], shape: list[object] | None = None) -> Path:
    """A detector that sees the same in every picture."""
    nodes = [
        helper.make_node("Constant", [], [f"output{i}"], value=numpy_helper.from_array(array))
        for i, array in enumerate(arrays)
    ]
    outputs = [(f"output{i}", TYPES[array.dtype]) for i, array in enumerate(arrays)]
    return save(path, nodes, outputs, shape or [1, 3, SIDE, SIDE])


def yolox_cells(*, decoded: bool) -> NDArray[np.float32]:
    """One person around (44, 28), 16 wide and 32 high, seen by two cells, and a dog."""
    cells = np.zeros((1, CELLS, 85), dtype=np.float32)
    if decoded:
        cells[0, :, :2] = 30.0
    for row, column, score in ((3, 5, 0.9), (3, 4, 0.5)):
        cell = cells[0, row * 8 + column]
        cell[:2] = (44, 28) if decoded else (5.5 - column, 3.5 - row)
        cell[2:4] = (16, 32) if decoded else (np.log(2), np.log(4))
        cell[4:6] = score, 0.8
    dog = cells[0, 64 + 2]
    dog[:5] = (40, 8, 16, 16, 1) if decoded else (0.5, 0.5, 0, 0, 1)
    dog[5 + 16] = 1
    coarse = cells[0, 80 + 3]  # row 1, column 1 of stride 32
    coarse[:5] = (48, 48, 32, 32, 0.5) if decoded else (0.5, 0.5, 0, 0, 0.5)
    coarse[5] = 1
    return cells


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox_cells_are_decoded_and_suppressed(tmp_path: Path, decoded: bool) -> None:
    detector = load_detector(constant_model(tmp_path / "any.onnx", yolox_cells(decoded=decoded)))
    assert isinstance(detector, OnnxDetector)
    assert detector.layout == ("decoded cells" if decoded else "cells")
    assert (detector.name, detector.family) == ("any", "yolox")
    # The photo is twice the input, and its lower half is padding.
    (found,) = detector.detect([np.zeros((96, 128, 3), dtype=np.uint8)])
    np.testing.assert_allclose(found.boxes, [[72, 24, 104, 88], [64, 64, 128, 96]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.72, 0.5], rtol=1e-6)
    assert len(load_detector(tmp_path / "any.onnx", threshold=0.6).detect([np.zeros((64, 64, 3), np.uint8)])[0]) == 1


def test_yolox_of_one_class_and_open_sizes(tmp_path: Path) -> None:
    cells = np.zeros((1, 80 * 80 + 40 * 40 + 20 * 20, 6), dtype=np.float32)
    cells[0, 0, 4:] = 0.9
    path = constant_model(tmp_path / "people.onnx", cells, shape=["batch", 3, "height", "width"])
    detector = OnnxDetector(path)
    assert detector.input_size == (640, 640)
    (found,) = detector.detect([np.zeros((640, 640, 3), dtype=np.uint8)])
    np.testing.assert_allclose(found.boxes, [[0, 0, 4, 4]])
    np.testing.assert_allclose(found.scores, [0.81], rtol=1e-6)


def rtmdet_outputs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    boxes = np.array([[[1, 2, 11, 22, 0.9], [5, 5, 20, 20, 0.8], [30, 30, 90, 50, 0.4], [0, 0, 9, 9, 0.1]]], np.float32)
    return boxes, np.array([[0, 1, 0, 0]])


def test_rtmdet_boxes_and_labels(tmp_path: Path) -> None:
    detector = OnnxDetector(constant_model(tmp_path / "RTMDet_nano.onnx", *rtmdet_outputs()))
    assert (detector.layout, detector.family) == ("boxes and labels", "rtmdet")
    (found,) = detector.detect([np.zeros((64, 64, 3), dtype=np.uint8)])
    np.testing.assert_allclose(found.boxes, [[1, 2, 11, 22], [30, 30, 64, 50]])
    np.testing.assert_allclose(found.scores, [0.9, 0.4])


def test_counted_and_row_layouts(tmp_path: Path) -> None:
    boxes, labels = rtmdet_outputs()
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    counted = constant_model(tmp_path / "rtmdet.onnx", np.array([[2]]), boxes[..., :4], boxes[..., 4], labels)
    np.testing.assert_allclose(OnnxDetector(counted).detect([image])[0].boxes, [[1, 2, 11, 22]])
    people = constant_model(tmp_path / "yolox_people.onnx", boxes)
    assert [len(found) for found in OnnxDetector(people).detect([image, image])] == [3, 3]
    classes = np.concatenate([boxes, labels[..., None].astype(np.float32)], axis=2)
    rows = constant_model(tmp_path / "yolox_rows.onnx", classes)
    assert OnnxDetector(rows).layout == "rows"
    np.testing.assert_allclose(OnnxDetector(rows).detect([image])[0].scores, [0.9, 0.4])
    nobody = constant_model(tmp_path / "yolox_none.onnx", boxes[:, :0], labels[:, :0])
    assert len(OnnxDetector(nobody).detect([image])[0]) == 0


def test_the_family_comes_from_the_name_or_the_user(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "people.onnx", *rtmdet_outputs())
    with pytest.raises(ConfigError, match=r"people\.onnx: could be YOLOX or RTMDet.*'rtmdet:.*people\.onnx'"):
        load_detector(path)
    detector = load_detector(f"rtmdet:{path}")
    assert isinstance(detector, OnnxDetector)
    assert detector.family == "rtmdet"


@pytest.mark.parametrize("family", ["yolox", "rtmdet"])
def test_each_family_gets_its_pixels(tmp_path: Path, family: str) -> None:
    """A graph that answers with the mean of its three channels as x1, y1, x2."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.array([[63, 0.9]], np.float32))),
        helper.make_node("Concat", ["mean", "rest"], ["row"], axis=1),
        helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([1]))),
        helper.make_node("Unsqueeze", ["row", "axes"], ["dets"]),
    ]
    path = save(tmp_path / f"{family}.onnx", nodes, [("dets", TensorProto.FLOAT)], [1, 3, SIDE, SIDE])
    image = np.full((SIDE, SIDE, 3), (250, 130, 120), dtype=np.uint8)
    (found,) = OnnxDetector(path).detect([image])
    if family == "yolox":  # x1, y1, x2 = 120, 130, 250, of which nothing is inside the image
        assert len(found) == 0
        image[:] = (60, 20, 10)
        np.testing.assert_allclose(OnnxDetector(path).detect([image])[0].boxes, [[10, 20, 60, 63]], rtol=1e-5)
    else:
        expected = [(120 - 103.53) / 57.375, (130 - 116.28) / 57.12, (250 - 123.675) / 58.395, 63]
        np.testing.assert_allclose(found.boxes, [expected], rtol=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros((1, 136, 16, 12), np.float32),), r"outputs of shapes \[\(1, 136, 16, 12\)\]"),
        ((np.zeros((1, 100, 85), np.float32),), "outputs of shapes"),
        ((np.zeros((2, 100, 5), np.float32),), "outputs of shapes"),
        ((np.zeros((1, 10, 5), np.float32), np.zeros((1, 9), np.int64)), "outputs of shapes"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, arrays: tuple[NDArray[np.generic], ...], message: str) -> None:
    with pytest.raises(WeightsError, match=rf"yolox\.onnx: {message}.*export it again"):
        OnnxDetector(constant_model(tmp_path / "yolox.onnx", *arrays))


def test_inputs_that_are_no_picture_are_refused(tmp_path: Path) -> None:
    boxes, labels = rtmdet_outputs()
    with pytest.raises(WeightsError, match=r"one input \(1, 3, height, width\), this takes images \[1, 64\]"):
        OnnxDetector(constant_model(tmp_path / "yolox.onnx", boxes, labels, shape=[1, 64]))
    with pytest.raises(WeightsError, match=r"one input"):
        OnnxDetector(constant_model(tmp_path / "yolox.onnx", boxes, labels, shape=[1, 64, 64, 3]))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing\.onnx"):
        load_detector(tmp_path / "missing.onnx")
    (tmp_path / "page.onnx").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match=r"page\.onnx"):
        load_detector(tmp_path / "page.onnx")


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    """FAULTS 30."""
    (tmp_path / "secret.bin").write_bytes(np.zeros(4 * 5, np.float32).tobytes())
    (tmp_path / "models").mkdir()
    path = constant_model(tmp_path / "models" / "yolox.onnx", *rtmdet_outputs())
    model = onnx.load(path)
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type = "outside", TensorProto.FLOAT
    tensor.dims.extend([1, 4, 5])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"secret\.bin"):
        OnnxDetector(path)


def test_wild_numbers_give_no_people_and_no_warning(tmp_path: Path) -> None:
    """FAULTS 13."""
    cells = yolox_cells(decoded=False)
    cells[0, :20, 2:4] = 500.0  # exp overflows
    cells[0, 20:30, 0] = np.nan
    cells[0, :30, 4:6] = 1.0
    cells[0, 27] = 0
    detector = OnnxDetector(constant_model(tmp_path / "yolox.onnx", cells))
    (found,) = detector.detect([np.zeros((64, 64, 3), dtype=np.uint8)])
    assert np.isfinite(found.boxes).all()
    assert len(found) == 1
    boxes, labels = rtmdet_outputs()
    boxes[0, 0] = np.nan
    boxes[0, 2, 2] = np.inf
    assert (
        len(
            OnnxDetector(constant_model(tmp_path / "yolox.onnx", boxes, labels)).detect(
                [np.zeros((9, 9, 3), np.uint8)]
            )[0]
        )
        == 0
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (33_000, 3), (3, 2)])
def test_pictures_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """FAULTS 5."""
    boxes = np.array([[[0, 0, 64, 64, 0.9]]], dtype=np.float32)
    detector = OnnxDetector(constant_model(tmp_path / "yolox.onnx", boxes))
    (found,) = detector.detect([np.zeros((*size, 3), dtype=np.uint8)])
    np.testing.assert_allclose(found.boxes, [[0, 0, size[1], size[0]]])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, image: object) -> None:
    """FAULTS 10."""
    detector = OnnxDetector(constant_model(tmp_path / "yolox.onnx", *rtmdet_outputs()))
    with pytest.raises(ValueError, match="image 0"):
        detector.detect([image])  # type: ignore[list-item]
    assert detector.detect([]) == []
