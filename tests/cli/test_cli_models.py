"""`wholepose models`, as typed."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from wholepose.cli.main import main
from wholepose.weights import REGISTRY, ModelCard, cached_path, embedded_models

DATA = b"PK\x03\x04" + b"weights" * 99
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registered file, downloaded by hand; the network is forbidden."""
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WHOLEPOSE_OFFLINE", "1")
    entry = dataclasses.replace(next(iter(REGISTRY.values())), name="toy", file_name="toy.pth", sha256=SHA256)
    monkeypatch.setitem(REGISTRY, "toy", entry)
    (tmp_path / "toy.pth").write_bytes(DATA)
    return tmp_path / "toy.pth"


def test_list(toy: Path, capsys) -> None:
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(REGISTRY) + len(embedded_models())
    assert any(line.split() == ["toy", "not", "here", "hrnet_w48", "384x288", "halpe136"] for line in lines)
    assert main(["models", "import", str(toy)]) == 0
    assert main(["models", "list", "--json"]) == 0
    output = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(output[output.index("[\n") :])}
    assert rows["toy"]["where"] == "cache"
    assert rows["toy"]["input_size"] == [384, 288]
    assert set(rows) == {*REGISTRY, *embedded_models()}


def test_import_verify_info_download(toy: Path, capsys) -> None:
    assert main(["models", "verify", "toy"]) == 1
    assert "toy: not on this machine" in capsys.readouterr().err
    assert main(["models", "download", "toy"]) == 1
    assert f"put it at {cached_path(REGISTRY['toy'])}" in capsys.readouterr().err
    assert main(["models", "import", str(toy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "toy", "path": str(cached_path(REGISTRY["toy"]))}
    assert main(["models", "download", "toy"]) == 0
    assert capsys.readouterr().out == f"{cached_path(REGISTRY['toy'])}\n"
    assert main(["models", "verify"]) == 0
    assert "ok        toy  " in capsys.readouterr().out
    assert main(["models", "info", "toy"]) == 0
    answer = capsys.readouterr().out
    for words in ("skeleton:        halpe136", "input_size:      384 x 288", "in_cache:        yes", SHA256):
        assert words in answer
    cached_path(REGISTRY["toy"]).write_bytes(b"damaged")
    assert main(["models", "verify", "--json"]) == 1
    answer = capsys.readouterr()
    (row,) = (row for row in json.loads(answer.out) if row["name"] == "toy")
    assert (row["state"], row["expected"]) == ("damaged", SHA256)
    assert row["actual"] in answer.err
    assert SHA256 in answer.err


def test_info_of_a_file(tmp_path: Path, capsys) -> None:
    card = ModelCard(
        name="mine",
        arch="hrnet_w32",
        skeleton="coco17",
        input_size=(256, 192),
        training_data=("our gym, with consent", "COCO"),
        metrics={"ap": 0.5, "pck": 0.75},
        intervals={"ap": (0.4, 0.625)},
    )
    header = json.dumps({"__metadata__": card.to_metadata()}).encode()
    path = tmp_path / "mine.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert main(["models", "info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "mine"
    assert facts["metrics"] == {"ap": 0.5, "pck": 0.75}
    assert facts["intervals"] == {"ap": [0.4, 0.625]}
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert main(["models", "info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "input_size:      256 x 192" in lines
    assert lines[lines.index("training_data:") + 1 :][:2] == ["  our gym, with consent", "  COCO"]
    measured = [line.split() for line in lines[lines.index("metrics:") + 1 :][:2]]
    assert measured == [["ap:", "0.5", "[0.4,", "0.625]"], ["pck:", "0.75"]]
    assert main(["models", "info", str(tmp_path / "toy.pth")]) == 1
    assert "has no model card; convert it" in capsys.readouterr().err


def test_usage(capsys) -> None:
    assert main(["models"]) == 2
    assert main(["models", "info", "nothing"]) == 1
    assert "no weights are called 'nothing'" in capsys.readouterr().err
    assert main(["models", "--help"]) == 0
    assert "WHOLEPOSE_HOME" in capsys.readouterr().out


def test_info_of_embedded_models(capsys) -> None:
    for name, model in embedded_models().items():
        assert main(["models", "info", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["sha256"] == model.sha256
