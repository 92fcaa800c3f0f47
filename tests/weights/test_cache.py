"""From a name to a checked file: cache folder, import, verification, first use, no network."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from wholepose.errors import ConfigError, WeightsError
from wholepose.weights import (
    REGISTRY,
    RegistryEntry,
    cache_folder,
    cached_path,
    embedded_models,
    find_entry,
    import_file,
    resolve,
    resolve_model,
    verify,
)
from wholepose.weights.embedded_models import EMBEDDED_FOLDER

DATA = b"PK\x03\x04" + b"weights" * 9999
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WHOLEPOSE_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def entry(home: Path, file_server, monkeypatch: pytest.MonkeyPatch) -> RegistryEntry:
    """A registered file of which eight digits are known, on a server that has it."""
    file_server.files["toy-0-weights.pth"] = DATA
    toy = dataclasses.replace(
        next(iter(REGISTRY.values())),
        name="hrnet_w32_256x192.toy",
        file_name="toy-0-weights.pth",
        urls=(file_server.url("toy-0-weights.pth"),),
        sha256=SHA256[:8],
    )
    monkeypatch.setitem(REGISTRY, toy.name, toy)
    return toy


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("WHOLEPOSE_HOME", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("WHOLEPOSE_HOME")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "wholepose"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert cache_folder() == Path.home() / ".cache" / "wholepose"


def test_first_use_downloads_and_later_use_checks(entry: RegistryEntry, home: Path, file_server) -> None:
    path = resolve(entry.name)
    assert path == home / "weights" / "toy-0-weights.pth" == cached_path(entry)
    assert path.read_bytes() == DATA
    assert resolve(entry.name) == resolve(entry.file_name) == path
    assert len(file_server.requests) == 1
    path.write_bytes(b"bit rot")
    assert resolve(entry.name).read_bytes() == DATA
    assert len(file_server.requests) == 2


def test_a_wrong_file_says_both_hashes_and_the_way_by_hand(entry: RegistryEntry, home: Path, file_server) -> None:
    """FAULTS 26 through the front door."""
    file_server.files["toy-0-weights.pth"] = b"<html>gone</html>"
    with pytest.raises(WeightsError) as caught:
        resolve(entry.name)
    for words in (
        f"expected {SHA256[:8]}; what came is an HTML page",
        f"get {entry.urls[0]}, put it at {cached_path(entry)}",
        "wholepose models import FILE",
        f"sha256 {SHA256[:8]}... (only these digits are known)",
        "This host has not answered since June 2026",
    ):
        assert words in str(caught.value)
    assert list((home / "weights").iterdir()) == []


def test_without_network(entry: RegistryEntry, file_server, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 29: by argument and by environment; a cached file is used, a missing one is explained at once."""
    monkeypatch.setenv("WHOLEPOSE_OFFLINE", "1")
    for offline in (None, True):
        start = time.monotonic()
        with pytest.raises(WeightsError) as caught:
            resolve(entry.name, offline=offline)
        assert time.monotonic() - start < 2
        for words in (entry.urls[0], str(cached_path(entry)), f"sha256 {SHA256[:8]}"):
            assert words in str(caught.value)
    assert not file_server.requests
    cached_path(entry).parent.mkdir(parents=True)
    cached_path(entry).write_bytes(DATA)
    assert resolve(entry.name) == resolve(entry.name, offline=True) == cached_path(entry)
    cached_path(entry).write_bytes(DATA[:-1])
    with pytest.raises(WeightsError, match="in the cache is damaged"):
        resolve(entry.name)
    assert not file_server.requests


def test_a_file_that_no_host_has_is_imported(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = dataclasses.replace(
        next(iter(REGISTRY.values())), name="toy", file_name="toy.safetensors", urls=(), sha256=SHA256
    )
    monkeypatch.setitem(REGISTRY, "toy", toy)
    by_hand = r"get weights/toy\.safetensors from wholepose's repository, put it at .*wholepose models import FILE"
    with pytest.raises(WeightsError, match=rf"toy: not in the cache, and it cannot be downloaded; {by_hand}"):
        resolve("toy")
    (tmp_path / "renamed.safetensors").write_bytes(DATA)
    assert import_file(tmp_path / "renamed.safetensors") == (toy, cached_path(toy))
    assert resolve("toy") == cached_path(toy)
    cached_path(toy).write_bytes(b"bit rot")
    with pytest.raises(WeightsError, match="toy: the file in the cache is damaged"):
        resolve("toy")


def test_no_socket_is_opened_offline(tmp_path: Path) -> None:
    """FAULTS 29: importing and using what is there, under an audit hook that sees every socket."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "toy.pth").write_bytes(DATA)
    script = f"""
        import sys
        def hook(event, arguments):
            if event.startswith("socket."):
                print("FORBIDDEN", event, arguments)
        sys.addaudithook(hook)
        import dataclasses, time
        import wholepose
        from wholepose.errors import ConfigError, WeightsError
        from wholepose.weights import REGISTRY, resolve
        missing = next(iter(REGISTRY.values()))
        REGISTRY["toy"] = dataclasses.replace(missing, name="toy", file_name="toy.pth", sha256={SHA256!r})
        print(resolve("toy").name)
        start = time.monotonic()
        try:
            resolve(missing.name, offline=True)
        except WeightsError:
            print(time.monotonic() - start < 2, "torch" in sys.modules)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"WHOLEPOSE_HOME": str(tmp_path)},
    )
    assert answer.stdout == "toy.pth\nTrue False\n", answer.stderr


def test_names_and_paths(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"did you mean 'hrnet_w48_384x288.mmpose_halpe136'\? known are "):
        resolve("hrnet_w48_384x288.mmpose_halpe")
    for path in ("gone.onnx", "folder/gone", Path("gone.pth")):
        with pytest.raises(WeightsError, match="this weights file does not exist"):
            resolve(path)
    with pytest.raises(WeightsError, match=r"no weights are called"):
        resolve("a\0b")
    published = find_entry("hrnet_w48_384x288.mmpose_halpe136").file_name
    (tmp_path / published).write_bytes(DATA)
    assert resolve(published) == Path(published)  # the caller's own file of that name
    (tmp_path / "hrnet_w48_384x288.mmpose_halpe136").write_bytes(DATA)
    with pytest.raises(WeightsError, match="not in the cache"):
        resolve("hrnet_w48_384x288.mmpose_halpe136", offline=True)  # a stray file does not stand in for a name


@pytest.mark.parametrize("spelling", ["name", "file_name"])
def test_a_published_checkpoint_is_no_model_and_is_not_downloaded(
    spelling: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published = next(e for e in REGISTRY.values() if e.file_name.endswith(".pth"))
    published = dataclasses.replace(published, urls=("http://127.0.0.1:9/nobody-listens",))
    monkeypatch.setitem(REGISTRY, published.name, published)
    name = getattr(published, spelling)
    with pytest.raises(ConfigError, match=f"{name}: is a checkpoint, .* wholepose convert {name} --out"):
        resolve_model(name)
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1"):
        resolve(name)
    Path(published.file_name).write_bytes(DATA)  # from here on the file name is that of a file of one's own
    assert resolve_model(published.file_name) == Path(published.file_name)
    with pytest.raises(ConfigError, match="finds people, not keypoints"):
        resolve_model("detector")
    assert resolve_model("default") == resolve("default")


def test_import_recognises_a_file_by_its_hash(entry: RegistryEntry, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "renamed.bin"
    source.write_bytes(DATA)
    assert import_file(source) == (entry, cached_path(entry))
    assert cached_path(entry).read_bytes() == DATA
    assert source.exists()
    assert import_file(cached_path(entry)) == (entry, cached_path(entry))  # already there
    assert resolve(entry.name, offline=True) == cached_path(entry)
    assert [path.name for path in (home / "weights").iterdir()] == [entry.file_name]


def test_import_refuses_what_is_not_registered(entry: RegistryEntry, home: Path, tmp_path: Path) -> None:
    cut = tmp_path / entry.file_name
    cut.write_bytes(DATA[:-1])
    actual = hashlib.sha256(DATA[:-1]).hexdigest()
    with pytest.raises(
        WeightsError, match=rf"not the file that its name says \(sha256 {actual}, expected {SHA256[:8]}"
    ):
        import_file(cut)
    with pytest.raises(WeightsError, match="is not a registered file"):
        import_file(Path(__file__))
    with pytest.raises(WeightsError, match="does not exist"):
        import_file(tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        import_file(tmp_path)
    assert not home.exists()


def test_a_cache_that_cannot_be_made(entry: RegistryEntry, home: Path, tmp_path: Path) -> None:
    """FAULTS 28: the message names the folder and what helps."""
    home.write_text("a file where a folder should be")
    source = tmp_path / "renamed.bin"
    source.write_bytes(DATA)
    for function in (lambda: import_file(source), lambda: resolve(entry.name)):
        with pytest.raises(WeightsError, match="set WHOLEPOSE_HOME to a folder that can") as caught:
            function()
        assert str(home) in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="uses POSIX permissions")
def test_a_read_only_cache(file_server) -> None:
    """FAULTS 28: what is there is used, what is missing is refused with the remedy (as a user who may not write)."""
    file_server.files["toy.pth"] = DATA
    home = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    script = f"""
        import dataclasses, os, sys
        from wholepose.errors import ConfigError, WeightsError
        from wholepose.weights import REGISTRY, import_file, resolve
        import wholepose.weights.download
        if os.geteuid() == 0:
            os.seteuid(65534)
        some = next(iter(REGISTRY.values()))
        for name in ("here", "toy"):
            url = ({file_server.url("")!r} + name + ".pth",)
            REGISTRY[name] = dataclasses.replace(some, name=name, file_name=name + ".pth", urls=url, sha256={SHA256!r})
        print(resolve("here").name)
        del REGISTRY["here"]
        for action in (lambda: resolve("toy"), lambda: import_file({str(home / "weights" / "here.pth")!r})):
            try:
                print(action())
            except WeightsError as error:
                print("Permission denied" in str(error) and "set WHOLEPOSE_HOME to a folder that can" in str(error))
    """
    try:
        (home / "weights").mkdir()
        (home / "weights" / "here.pth").write_bytes(DATA)
        (home / "weights").chmod(0o555)
        home.chmod(0o555)
        answer = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"WHOLEPOSE_HOME": str(home)},
        )
    finally:
        for folder in (home, home / "weights"):
            folder.chmod(0o755)
        shutil.rmtree(home)
    assert answer.stdout == "here.pth\nTrue\nTrue\n", answer.stderr
    assert not file_server.requests


def test_verify(entry: RegistryEntry, home: Path) -> None:
    states = {item.name: item for item in verify()}
    assert set(states) == {*embedded_models(), *REGISTRY}
    assert {item.state for name, item in states.items() if name in REGISTRY} == {"missing"}
    assert {states[name].state for name in embedded_models()} <= {"ok"}
    resolve(entry.name)
    assert [(item.state, item.actual) for item in verify(entry.name)] == [("ok", SHA256)]
    cached_path(entry).write_bytes(b"changed")
    (found,) = verify(entry.file_name)
    assert (found.state, found.actual) == ("damaged", hashlib.sha256(b"changed").hexdigest())
    cached_path(entry).unlink()
    cached_path(entry).mkdir()
    assert [(item.state, item.actual) for item in verify(entry.name)] == [("damaged", None)]
    with pytest.raises(WeightsError, match="no model is called 'nothing'"):
        verify("nothing")


def test_embedded_models_are_what_was_shipped() -> None:
    """The table has the hashes of the files beside it; `python scripts/embed_weights.py --refresh` writes it."""
    models = embedded_models()
    for name, model in models.items():
        assert resolve(name) == model.path
        assert model.path.stat().st_size == model.size_bytes
    if models:
        assert {path.stem for path in EMBEDDED_FOLDER.glob("*.onnx")} == set(models)


def test_an_embedded_model_that_changed_is_refused(tmp_path: Path) -> None:
    """Weights that are not what was shipped do not run."""
    (tmp_path / "toy.onnx").write_bytes(DATA)
    table = {"toy": {"sha256": SHA256, "size_bytes": len(DATA)}}
    (tmp_path / "embedded.json").write_text(json.dumps(table))
    toy = embedded_models(tmp_path)["toy"]
    toy.check()
    (tmp_path / "toy.onnx").write_bytes(DATA + b"!")
    with pytest.raises(WeightsError, match=rf"'toy' is not the one that was shipped \(sha256 .*, expected {SHA256}\)"):
        toy.check()
    for text in ("[]", "{", '{"toy": {}}', '{"toy": 3}'):
        (tmp_path / "embedded.json").write_text(text)
        with pytest.raises(WeightsError, match="table of embedded models is damaged"):
            embedded_models(tmp_path)


def test_the_script_that_embeds(tmp_path: Path) -> None:
    """scripts/embed_weights.py copies a model, writes its hash, and refuses what is no model."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    script = Path(__file__).resolve().parents[2] / "scripts" / "embed_weights.py"
    folder = tmp_path / "embedded"

    def embed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *words, "--folder", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert embed(str(tmp_path / "model.onnx"), "detector").returncode == 0
    model = embedded_models(folder)["detector"]
    model.check()
    assert model.path.read_bytes() == (tmp_path / "model.onnx").read_bytes()
    answer = embed(str(tmp_path / "model.onnx"), "default")
    assert answer.returncode == 1
    assert "has no wholepose model card" in answer.stderr
    assert embed(__file__, "default").returncode == 1
    model.path.write_bytes(model.path.read_bytes() + b"\x2a\x00")
    assert embed("--refresh").returncode == 0
    embedded_models(folder)["detector"].check()
