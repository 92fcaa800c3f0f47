"""Files by address: what is listed, how it is read, and that a file is whole or absent."""

import pickle
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the [ray] extra")

from wholepose.distributed.storage import (
    Source,
    fetch_picture,
    is_address,
    list_sources,
    local_copy,
    open_store,
    whole_file,
)
from wholepose.errors import ConfigError, ImageError, VideoError
from wholepose.images import load_image


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "clip.mp4", "notes.txt", ".hidden.jpg", "code.ts"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.webp").write_bytes(b"xyz")
    return tmp_path


def test_what_is_an_address():
    for name in ("s3://bucket/folder", "gs://b", "file:///x", "simplecache::s3://b/x", "local:///x", "dir::file:///x"):
        assert is_address(name)
    for name in ("photo.jpg", "/a/b", "a:b.jpg", "C:\\photos", "photos/**"):
        assert not is_address(name)


def test_folders_here_are_listed_as_predict_lists_them(folder):
    listing = list_sources([str(folder), str(folder / "b.jpg"), str(folder / "none.jpg")])
    assert [Path(source.name).name for source in listing.sources] == ["a.PNG", "b.jpg", "clip.mp4"]
    assert [source.is_video for source in listing.sources] == [False, False, True]
    assert listing.problems == [(str(folder / "none.jpg"), "does not exist")]
    assert listing.store.is_local


def test_addresses_are_listed_with_all_below(folder, place):
    for scheme, root in (("file://", str(folder)), ("", place("memory"))):
        listing = list_sources([f"{scheme}{root}", f"{scheme}{root}/nothing"])
        assert [source.name for source in listing.sources] == [
            f"{root}/{name}" for name in ("a.PNG", "b.jpg", "below/c.webp", "clip.mp4")
        ]
        assert listing.sources[2].size_bytes == 3
        assert listing.problems == [(f"{scheme}{root}/nothing", "no picture and no video is there")]
        assert listing.store.is_local == (scheme == "file://")
        assert pickle.loads(pickle.dumps(listing.store)) == listing.store  # it travels to the workers


def test_a_single_address(folder, place):
    assert [source.path for source in list_sources([f"{place('memory')}/b.jpg"]).sources] == ["/bucket/b.jpg"]


def test_addresses_that_nobody_understands(folder):
    with pytest.raises(ConfigError, match="nosuchscheme://x"):
        open_store("nosuchscheme://x/y")
    with pytest.raises(ConfigError, match="different file systems"):
        list_sources([str(folder), "memory://x"])
    with pytest.raises(ConfigError, match="name at least one"):
        list_sources([])


def test_pictures_come_as_bytes_that_know_their_name(tmp_path, write_pictures, place):
    (path,) = write_pictures(tmp_path, 1)
    (tmp_path / "bad.jpg").write_bytes(b"nothing of the kind")
    listing = list_sources([place("memory")])
    bad, good = listing.sources
    assert load_image(fetch_picture(listing.store, good, 10**6)).tolist() == load_image(path).tolist()
    with pytest.raises(ImageError, match=r"memory:///bucket/bad\.jpg: is"):
        load_image(fetch_picture(listing.store, bad, 10**6))
    with pytest.raises(ImageError, match="are the limit"):
        fetch_picture(listing.store, good, 10)
    with pytest.raises(ImageError, match="gone"):
        fetch_picture(listing.store, Source("memory:///gone.jpg", "/gone.jpg", 1), 10)


def test_videos_come_as_files_that_go_again(folder, place):
    listing = list_sources([f"{place('memory')}/clip.mp4"])
    with local_copy(listing.store, listing.sources[0]) as path:
        assert Path(path).read_bytes() == b"x"
        assert path.endswith(".mp4")
    assert not Path(path).exists()
    with pytest.raises(VideoError, match="gone"), local_copy(listing.store, Source("gone", "/gone.mp4", 1)):
        pass


@pytest.mark.parametrize("kind", ["here", "memory"])
def test_files_are_whole_or_absent(tmp_path, place, kind):
    store = open_store(f"{place(kind)}/new/out")

    def contents():
        from pyarrow.fs import FileSelector, FileType

        infos = store.filesystem.get_file_info(FileSelector(store.path, recursive=True, allow_not_found=True))
        return [store.filesystem.open_input_stream(info.path).read() for info in infos if info.type == FileType.File]

    with pytest.raises(ZeroDivisionError), whole_file(store, "part-1.parquet") as path:
        path.write_bytes(b"half" * (1 // 0))
    assert contents() == []
    with whole_file(store, "part-1.parquet") as path:
        path.write_bytes(b"whole")
        assert b"whole" not in contents() or kind == "here"
        assert not (tmp_path / "new/out/part-1.parquet").exists()
    assert contents() == [b"whole"]
    with whole_file(store, "part-1.parquet") as path:  # made twice, it replaces itself
        path.write_bytes(b"again")
    assert contents() == [b"again"]
