"""Official data sets: instructions, downloads from a server of our own, checks."""

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest
from PIL import Image

from wholepose.cli.main import main
from wholepose.data.prepare import DATA_SETS, Archive, DataSet, Piece, get_data_set, instructions, prepare
from wholepose.errors import ConfigError
from wholepose.skeletons import COCO17


def photo():
    stream = io.BytesIO()
    Image.new("RGB", (60, 40)).save(stream, "JPEG")
    return stream.getvalue()


def annotations(count):
    images = [{"id": index, "file_name": f"{index}.jpg", "height": 40, "width": 60} for index in range(count)]
    row = {"image_id": 0, "category_id": 1, "keypoints": [5, 6, 2] * 17, "bbox": [1, 1, 30, 30], "area": 500}
    people = [{**row, "id": index, "image_id": index} for index in range(count)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    return json.dumps({"images": images, "annotations": people, "categories": [category]}).encode()


def pack(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def server(tmp_path):
    """A local server of the folder `served`; gives its address."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def small_set(address, tmp_path, *, pictures=3, **changes):
    """A data set of our own, laid out as COCO is: an archive of pictures, one of annotations, and boxes by hand."""
    packs = {
        "val.zip": pack({f"val/{index}.jpg": photo() for index in range(pictures)} | {"other/x.txt": b"x"}),
        "labels.zip": pack({"labels/val.json": annotations(3), "labels/captions.json": b"{}"}),
    }
    archives = {}
    for name, data in packs.items():
        (tmp_path / "served" / name).write_bytes(data)
        archives[name] = Archive(name, f"{address}/{name}", len(data), hashlib.sha256(data).hexdigest())
    pieces = (
        Piece("labels/val.json", "val", archives["labels.zip"]),
        Piece("val", "val", archives["val.zip"], images=3),
        Piece("boxes.json", "val", pages=(("Drive", "https://drive/boxes"),), boxes=2),
        Piece("train", "train", Archive("train.tar.gz"), (("Drive", "https://drive/train"),), images=1),
    )
    return DataSet("small", "free", pieces, (("labels/val.json", "val"),))


def states(*args, **options):
    return {state.piece.path: state for state in prepare(*args, progress=False, **options)}


def test_what_is_missing_comes_with_its_remedy(tmp_path, server):
    found = states(small_set(server, tmp_path), tmp_path / "root")
    assert not (tmp_path / "root").exists()
    assert "run again with --download" in found["labels/val.json"].problem
    assert "0 of 3 pictures are there: run again with --download" in found["val"].problem
    assert "fetch it in a browser from Drive (https://drive/boxes)" in found["boxes.json"].problem
    assert "fetch train.tar.gz in a browser from Drive (https://drive/train)" in found["train"].problem
    assert str(tmp_path / "root" / "downloads" / "train.tar.gz") in found["train"].problem


def test_download_unpack_and_check(tmp_path, server):
    data_set, root = small_set(server, tmp_path), tmp_path / "root"
    found = states(data_set, root, fetch=True, splits=("val",))
    # The labels come before their pictures; they are read against them once these are there.
    assert found["labels/val.json"].note == "3 people on 3 pictures"
    assert found["val"].note == "3 pictures"
    assert found["boxes.json"].problem
    assert sorted(path.name for path in root.iterdir()) == ["downloads", "labels", "val"]
    assert not (root / "labels" / "captions.json").exists()
    (root / "boxes.json").write_text(json.dumps([{"category_id": 1}] * 2 + [{"category_id": 3}]))
    (tmp_path / "served" / "val.zip").unlink()
    again = states(data_set, root, fetch=True, splits=("val",))  # all in place: nothing is fetched
    assert [state.note for state in again.values()] == ["3 people on 3 pictures", "3 pictures", "2 boxes"]


def test_archives_put_there_by_hand_are_unpacked(tmp_path, server):
    root = tmp_path / "root"
    (root / "downloads").mkdir(parents=True)
    with tarfile.open(root / "downloads" / "train.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("train/0.jpg")
        member.size = len(photo())
        archive.addfile(member, io.BytesIO(photo()))
    assert states(small_set(server, tmp_path), root, splits=("train",))["train"].note == "1 pictures"
    (root / "downloads" / "val.zip").write_bytes(b"PK\x03\x04 something else")
    problem = states(small_set(server, tmp_path), root)["val"].problem
    assert "is not the official archive: sha256" in problem


def test_wrong_content_is_told(tmp_path, server):
    root = tmp_path / "root"
    data_set = small_set(server, tmp_path)
    states(data_set, root, fetch=True)
    (root / "boxes.json").write_text("[]")
    (root / "labels" / "val.json").write_bytes(annotations(5))
    found = states(data_set, root)
    assert "holds 0 boxes of people, expected 2" in found["boxes.json"].problem
    assert "2 of its 5 pictures are not in" in found["labels/val.json"].problem
    (root / "boxes.json").write_text("[[1, 2], [3, 4]]")
    assert "holds 0 boxes of people, expected 2" in states(data_set, root)["boxes.json"].problem
    (root / "labels" / "val.json").write_text("{")
    assert "is not JSON" in states(data_set, root)["labels/val.json"].problem


def test_a_wrong_archive_on_a_mirror_is_refused(tmp_path, server, capsys):
    """Fault 26: both hashes are shown, and nothing is left."""
    (tmp_path / "served" / "zips").mkdir()
    (tmp_path / "served" / "zips" / "val2017.zip").write_bytes(b"<html>moved</html>")
    root = tmp_path / "root"
    words = ["data", "prepare", "coco", "--root", str(root), "--split", "val", "--download", "--mirror", server]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert f"{server}/zips/val2017.zip" in captured.out
    assert "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05" in captured.err
    assert hashlib.sha256(b"<html>moved</html>").hexdigest() in captured.err
    assert "not ready: 3" in captured.err
    assert not list(root.rglob("*.zip"))


@pytest.mark.parametrize("name", DATA_SETS)
def test_instructions_name_every_file_with_its_source(name, tmp_path):
    lines = "\n".join(instructions(DATA_SETS[name], tmp_path))
    for piece in DATA_SETS[name].pieces:
        assert piece.path in lines
        assert piece.pages or (piece.archive is not None and piece.archive.url in lines)
    pairs = {path for pair in DATA_SETS[name].pairs for path in pair}
    assert pairs <= {piece.path for piece in DATA_SETS[name].pieces}
    assert "train" not in "\n".join(instructions(DATA_SETS[name], tmp_path, ("val",))).replace("trainval", "")


def test_unknown_data_sets_are_refused():
    with pytest.raises(ConfigError, match="there are halpe, coco, coco-wholebody"):
        get_data_set("mpii")
