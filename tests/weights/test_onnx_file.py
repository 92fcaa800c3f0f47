"""What is read from an ONNX file without running it, against files that the onnx package writes."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.errors import WeightsError
from wholepose.weights import ModelCard, check_onnx_file, read_card

onnx = pytest.importorskip("onnx")
helper = onnx.helper

CARD = ModelCard(name="tiny", arch="hrnet_w48", skeleton="halpe136", input_size=(384, 288), description="naïve 👍")


def small_model() -> "onnx.ModelProto":
    """y = x @ w, with our metadata."""
    weight = onnx.numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, [2, 4])],
        [weight],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, CARD.to_metadata())
    return model


def outside(location: str) -> "onnx.TensorProto":
    """A tensor whose numbers lie in another file."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[3, 4], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "48")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_metadata_and_card(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "a.onnx")
    found = check_onnx_file(tmp_path / "a.onnx")
    assert found.metadata == CARD.to_metadata()
    assert not found.external_files
    assert read_card(tmp_path / "a.onnx") == CARD


def test_field_numbers_beyond_32_bits_hide_nothing(tmp_path: Path) -> None:
    """Readers drop the higher bits of a tag, and would find weights outside where this check sees an unknown field."""
    model = small_model()
    model.graph.initializer.pop()
    tensor = outside("../secret.bin").SerializeToString()
    tag = 5 << 3 | 2 | 1 << 32
    hidden = bytes([tag & 0x7F | 0x80, 0x80, 0x80, 0x80, tag >> 28]) + bytes([len(tensor)]) + tensor
    graph = model.graph.SerializeToString() + hidden
    model.ClearField("graph")
    size = len(graph)
    data = model.SerializeToString() + bytes([7 << 3 | 2, size & 0x7F | 0x80, size >> 7]) + graph
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=r"a\.onnx"):
        check_onnx_file(tmp_path / "a.onnx")


def test_weights_beside_the_model_are_its_own(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    assert check_onnx_file(tmp_path / "a.onnx").external_files == {"a.data"}
    assert check_onnx_file(os.path.relpath(tmp_path / "a.onnx")).external_files == {"a.data"}
    (tmp_path / "a.data").unlink()
    with pytest.raises(WeightsError, match=r"a.onnx: keeps weights in 'a.data', which does not exist; put that file"):
        check_onnx_file(tmp_path / "a.onnx")


OUTSIDE = [
    "../secret.bin",
    "sub/../../secret.bin",
    "/etc/passwd",
    "\\\\server\\share\\w",
    "C:\\w.bin",
    "c:w.bin",
    "..\\w.bin",
    "",
    "*/_ORT_MEM_ADDR_/*",
    ".",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    """FAULTS 30: the place is named, and nothing is opened there."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    model = small_model()
    model.graph.initializer[0].CopyFrom(outside(location))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"a\.onnx: keeps weights in ") as caught:
        check_onnx_file(folder / "a.onnx")
    assert repr(location) in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """FAULTS 30: a link inside the folder, to a file and through a folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "w.bin").symlink_to("../secret.bin")
    (folder / "up").symlink_to("..")
    for location in ("w.bin", "up/secret.bin"):
        model = small_model()
        model.graph.initializer[0].CopyFrom(outside(location))
        (folder / "a.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(WeightsError, match="is a link that leads outside its folder"):
            check_onnx_file(folder / "a.onnx")


def in_attribute(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.graph.node.add(op_type="Constant").attribute.add(name="value", type=4, t=tensor)


def in_attribute_list(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.graph.node.add(op_type="Odd").attribute.add(name="value", type=9).tensors.add().CopyFrom(tensor)


def in_branch(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    branch = onnx.GraphProto(name="then")
    branch.initializer.add().CopyFrom(tensor)
    model.graph.node.add(op_type="If").attribute.add(name="then_branch", type=5, g=branch)


def in_graph_list(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.graph.node.add(op_type="Odd").attribute.add(name="many", type=10).graphs.add().initializer.add().CopyFrom(
        tensor
    )


def in_sparse_initializer(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.graph.sparse_initializer.add(values=tensor)


def in_sparse_indices(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.graph.node.add(op_type="Constant").attribute.add(name="value", type=11).sparse_tensor.indices.CopyFrom(tensor)


def in_function(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    function = model.functions.add(name="f", domain="d")
    function.node.add(op_type="Constant").attribute.add(name="value", type=4, t=tensor)


def in_training(model: "onnx.ModelProto", tensor: "onnx.TensorProto") -> None:
    model.training_info.add().algorithm.initializer.add().CopyFrom(tensor)


@pytest.mark.parametrize(
    "hide",
    [
        *(in_attribute, in_attribute_list, in_branch, in_graph_list, in_sparse_initializer, in_sparse_indices),
        *(in_function, in_training),
    ],
)
def test_no_hiding_place_is_overlooked(tmp_path: Path, hide: Callable[..., None]) -> None:
    """FAULTS 30: wherever ONNX allows a tensor."""
    model = small_model()
    hide(model, outside("../secret.bin"))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"'\.\./secret\.bin', outside its folder, which is never opened"):
        check_onnx_file(tmp_path / "a.onnx")


def test_graphs_nested_without_end(tmp_path: Path) -> None:
    data = b""
    for _ in range(3000):  # graph (1: node (5: attribute (6: graph ...)))
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            data = tag + varint(len(data)) + data
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08\x3a" + varint(len(data)) + data)
    with pytest.raises(WeightsError, match="nested too deep"):
        check_onnx_file(tmp_path / "a.onnx")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no graph"),
        (b"\x08\x08", "holds no graph"),
        (b"<!doctype html><html>", r"not a sound ONNX model .*; the file is an HTML page"),
        (b"PK\x03\x04" + bytes(40), r"the file is a ZIP archive"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "more than 64 bits"),
        (b"\x3a\xff\xff\x03\x00", "a field is longer than the file"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x08", "cut short"),
        (b"\x09\x00", "cut short"),
        (b"\x72\x04\x0a\x02\xff\xfe", "not a sound ONNX model"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        check_onnx_file(tmp_path / "a.onnx")


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "gone.onnx", "does not exist"),
        ("a\0.onnx", "read"),
    ):
        with pytest.raises(WeightsError, match=message):
            check_onnx_file(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutations_give_a_weights_error_or_an_answer(tmp_path_factory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    sound = bytearray(small_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 5))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(sound[: data.draw(st.integers(1, len(sound)))]))
    with contextlib.suppress(WeightsError):
        check_onnx_file(path)
