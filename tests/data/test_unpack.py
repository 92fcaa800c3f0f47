"""Archives: what is asked for, nothing outside, nothing half done."""

import io
import stat
import tarfile
import zipfile

import pytest

from wholepose.data import unpack as unpack_module
from wholepose.data.unpack import unpack
from wholepose.errors import AnnotationError

CONTENT = {"val2017/1.jpg": b"one" * 500, "val2017/2.jpg": b"two" * 700, "other/3.txt": b"three", "val2017.txt": b"no"}


def make_zip(path, content=CONTENT, attributes=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("val2017") if hasattr(archive, "mkdir") else None
        for name, data in content.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (attributes or {}).get(name, 0) << 16
            archive.writestr(entry, data)
    return path


def make_tar(path, content=CONTENT, links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_only_what_is_asked_for(tmp_path, make, name):
    folder = tmp_path / "out"
    assert unpack(make(tmp_path / name), folder, "val2017") == 2
    assert files(folder) == {"val2017/1.jpg", "val2017/2.jpg"}
    assert (folder / "val2017" / "2.jpg").read_bytes() == CONTENT["val2017/2.jpg"]
    assert unpack(tmp_path / name, folder, "val2017.txt") == 1
    with pytest.raises(AnnotationError, match="holds no 'train2017'"):
        unpack(tmp_path / name, folder, "train2017")


@pytest.mark.parametrize("name", ["../evil.jpg", "val2017/../../evil.jpg", "/tmp/evil.jpg", "C:\\evil.jpg", "a\\..\\b"])
@pytest.mark.parametrize(("make", "archive"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_places_outside_the_folder_are_refused(tmp_path, make, archive, name):
    content = {"val2017/1.jpg": b"fine", name: b"evil"}
    with pytest.raises(AnnotationError, match="names a place outside"):
        unpack(make(tmp_path / archive, content), tmp_path / "out", "val2017")
    assert not any(path.name.startswith("evil") for path in tmp_path.rglob("*"))
    assert not (tmp_path / "out" / "val2017").exists()


def test_links_are_left_out(tmp_path):
    unpack(make_tar(tmp_path / "a.tgz", links=[("val2017/link.jpg", "/etc/passwd")]), tmp_path / "tar", "val2017")
    attributes = {"val2017/2.jpg": stat.S_IFLNK | 0o777}
    unpack(make_zip(tmp_path / "a.zip", attributes=attributes), tmp_path / "zip", "val2017")
    assert files(tmp_path / "tar") == {"val2017/1.jpg", "val2017/2.jpg"}
    assert files(tmp_path / "zip") == {"val2017/1.jpg"}


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_damage_is_reported_and_leaves_nothing_under_its_name(tmp_path, make, name):
    content = {f"val2017/{index}.jpg": bytes(range(256)) * 40 for index in range(5)}
    whole = make(tmp_path / name, content).read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"nonsense" * 100, whole[:200] + bytes(100) + whole[300:]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AnnotationError, match=f"{name}: is no archive, or is damaged"):
            unpack(tmp_path / name, tmp_path / "out", "val2017")
        assert not (tmp_path / "out" / "val2017").exists()
    (tmp_path / name).write_bytes(whole)
    assert unpack(tmp_path / name, tmp_path / "out", "val2017") == 5
    assert not any(path.name.startswith(".unpacking") for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damage_in_unusual_zips_is_reported(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("val2017/1.jpg", bytes(range(256)) * 400)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60:90] = bytes(byte ^ 0x5A for byte in data[60:90])
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"a\.zip: is no archive, or is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "val2017")


def test_what_the_disk_refuses_is_not_called_damage(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".unpacking-a.zip").write_bytes(b"in the way")
    with pytest.raises(OSError, match="unpacking-a") as refused:
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out", "val2017")
    assert refused.value.errno is not None


def test_files_listed_twice_are_unpacked_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("val2017/1.jpg", b"one")
        archive.writestr("val2017/2.jpg", b"two")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("val2017/1.jpg", b"three")
    assert unpack(tmp_path / "a.zip", tmp_path / "out", "val2017") == 2
    assert files(tmp_path / "out") == {"val2017/1.jpg", "val2017/2.jpg"}
    assert (tmp_path / "out" / "val2017" / "1.jpg").read_bytes() == b"three"


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "MAX_UNPACKED_BYTES", 10_000)
    bomb = make_zip(tmp_path / "a.zip", {f"val2017/{index}": bytes(6_000) for index in range(9)})
    with pytest.raises(AnnotationError, match="unpacks to more than 10000 bytes"):
        unpack(bomb, tmp_path / "out", "val2017")


def test_an_interrupted_run_goes_on(tmp_path):
    archive = make_zip(tmp_path / "a.zip")
    gathering = tmp_path / "out" / ".unpacking-a.zip" / "val2017"
    gathering.mkdir(parents=True)
    (gathering / "1.jpg").write_bytes(CONTENT["val2017/1.jpg"])
    (gathering / "2.jpg.part").write_bytes(b"tw")
    unpack(archive, tmp_path / "out", "val2017")
    assert files(tmp_path / "out") == {"val2017/1.jpg", "val2017/2.jpg"}
    assert (tmp_path / "out" / "val2017" / "2.jpg").read_bytes() == CONTENT["val2017/2.jpg"]
