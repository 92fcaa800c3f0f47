"""What a weights file is, by its ending and its content; nothing in it ever runs."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from wholepose.errors import WeightsError
from wholepose.weights import ModelCard, read_card, resolve, sha256_of, weights_format

CARD = ModelCard(name="a", arch="hrnet_w48", skeleton="halpe136", input_size=(384, 288))


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def safetensors_bytes(metadata: dict[str, str]) -> bytes:
    header = json.dumps({"__metadata__": metadata}).encode()
    return len(header).to_bytes(8, "little") + header


def zip_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def test_formats(tmp_path: Path) -> None:
    for name, data, expected in (
        ("a.safetensors", safetensors_bytes(CARD.to_metadata()), "safetensors"),
        ("a.onnx", b"\x08\x08\x3a\x00", "onnx"),
        ("A.PTH", zip_of("archive/data.pkl", b""), "checkpoint"),
        ("a.pt", pickle.dumps({}, protocol=2), "checkpoint"),
        ("a.pth.tar", bytes(257) + b"ustar" + bytes(250), "checkpoint"),
    ):
        (tmp_path / name).write_bytes(data)
        assert weights_format(tmp_path / name) == expected
        assert resolve(tmp_path / name) == tmp_path / name
        assert resolve(str(tmp_path / name)) == tmp_path / name


def test_card_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(CARD.to_metadata()))
    assert read_card(path) == CARD
    (tmp_path / "a.pth").write_bytes(zip_of("data.pkl", b""))
    with pytest.raises(WeightsError, match="a PyTorch checkpoint has no model card; convert it"):
        read_card(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.onnx", "a.safetensors", "a.pkl", "a.pth", "a"])
def test_code_in_a_file_never_runs(tmp_path: Path, name: str) -> None:
    """FAULTS 24: pickles under any name, bare, in an array of objects, in a ZIP archive."""
    trap = tmp_path / "sprung"
    array = io.BytesIO()
    np.save(array, np.array([Trap(trap)], dtype=object), allow_pickle=True)
    code = pickle.dumps(Trap(trap), protocol=2)
    for data in (array.getvalue(), code, zip_of("archive/data.pkl", code), zip_of("a.npy", array.getvalue())):
        (tmp_path / name).write_bytes(data)
        if name == "a.pth" and not data.startswith(b"\x93"):
            assert weights_format(tmp_path / name) == "checkpoint"
        else:
            with pytest.raises(WeightsError):
                weights_format(tmp_path / name)
        with pytest.raises(WeightsError, match=str(tmp_path / name)):
            read_card(tmp_path / name)
        assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.npy", b"\x93NUMPY", r"is no weights file by its ending; those end in .onnx, .safetensors, .pth"),
        ("a.onnx", b"\x80\x02}q\x00.", "is called like an ONNX file but is a PyTorch checkpoint; it is not opened"),
        ("a.onnx", safetensors_bytes({}), "is called like an ONNX file but is a safetensors file"),
        ("a.pth", safetensors_bytes({}), "is called like a PyTorch checkpoint but is a safetensors file"),
        ("a.safetensors", b"<html></html>", "is called like a safetensors file but is an HTML page"),
        ("a.safetensors", b"\x93NUMPY\1\0", "but is a NumPy array"),
        ("a.pth", b"", "but is empty"),
        ("a.pth", b"\x08\x08\x3a\x00", "but may be an ONNX file"),
    ],
)
def test_name_and_content_must_agree(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        weights_format(tmp_path / name)
    with pytest.raises(WeightsError, match=message):
        resolve(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((50).to_bytes(8, "little") + b'{"__meta', "cut short in its header"),
        ((9).to_bytes(8, "little") + b'{"__meta}', "is not JSON"),
        ((2000).to_bytes(8, "little") + b'{"a":' + b"[" * 1995, "is not JSON"),
        (safetensors_bytes({}), "has no wholepose model card"),
        ((24).to_bytes(8, "little") + b'{"__metadata__":{"a":1}}', "is no map of texts"),
        ((20).to_bytes(8, "little") + b'{"__metadata__": []}', "is no map of texts"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, data: bytes, message: str) -> None:
    """FAULTS 25: the part that is read without the safetensors package."""
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        read_card(tmp_path / "a.safetensors")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    paths = [(tmp_path / "folder.onnx", "is a folder, not a file"), (tmp_path / "gone.onnx", "does not exist")]
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe.onnx")
        paths.append((tmp_path / "pipe.onnx", "is a special file, not a file"))
    for path, message in paths:
        for function in (weights_format, read_card, sha256_of, resolve):
            with pytest.raises(WeightsError, match=message):
                function(path)
