"""Finding pictures by file, folder and pattern."""

import errno
import os
from pathlib import Path

import pytest

from wholepose.images import find_images


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos/{b,a,c10,c9}.jpg, text, a hidden file and a sub-folder."""
    for name in ("photos/b.JPG", "photos/a.jpg", "photos/c10.png", "photos/c9.webp", "photos/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos/.hidden.jpg").touch()
    (tmp_path / "photos/more").mkdir()
    (tmp_path / "photos/more/d.jpg").touch()
    (tmp_path / "photos/folder.jpg").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*words: str, **options: object) -> list[str]:
    found = find_images(words, **options)
    assert not found.problems
    return [path.as_posix() for path in found.paths]


def test_files_keep_their_order_and_come_once(here: Path) -> None:
    assert names("photos/b.JPG", "photos/a.jpg", "photos/../photos/b.JPG", str(here / "photos/a.jpg")) == [
        "photos/b.JPG",
        "photos/a.jpg",
    ]
    assert names("photos/notes.txt") == ["photos/notes.txt"]  # named by hand: reading it will tell


def test_folders_give_their_pictures_sorted(here: Path) -> None:
    assert names("photos") == ["photos/a.jpg", "photos/b.JPG", "photos/c10.png", "photos/c9.webp"]
    assert names("photos/c9.webp", "photos/")[0] == "photos/c9.webp"
    assert names("photos", suffixes={".txt", ".png"}) == ["photos/c10.png", "photos/notes.txt"]


def test_patterns_that_the_shell_left(here: Path) -> None:
    assert names("photos/*.jpg") == ["photos/a.jpg"]  # of folder.jpg there is nothing to take
    assert names("photos/c*") == ["photos/c10.png", "photos/c9.webp"]
    assert names("photos/[ab].*") == ["photos/a.jpg", "photos/b.JPG"]
    assert names("**/*.jpg") == ["photos/a.jpg", "photos/more/d.jpg"]
    assert names("photos/**/d.*") == ["photos/more/d.jpg"]
    assert names("photos/**") == [
        *("photos/a.jpg", "photos/b.JPG", "photos/c10.png", "photos/c9.webp", "photos/more/d.jpg"),
    ]
    assert names("ph*/**/*.jpg") == ["photos/a.jpg", "photos/more/d.jpg"]
    assert names("./**/d.jpg") == ["photos/more/d.jpg"]
    assert names(str(here / "**" / "d.jpg")) == [(here / "photos/more/d.jpg").as_posix()]


def test_a_file_whose_name_looks_like_a_pattern(here: Path) -> None:
    (here / "photo[1].jpg").touch()
    assert names("photo[1].jpg") == ["photo[1].jpg"]


def test_what_leads_nowhere_is_listed_and_the_rest_found(here: Path) -> None:
    """FAULTS 12: reported, the rest done."""
    found = find_images(
        ["gone.jpg", "photos/a.jpg", "*.gif", "https://example.org/a.jpg", "nul\0.jpg", "x" * 300, "photos/a.jpg/b.jpg"]
    )
    assert [path.as_posix() for path in found.paths] == ["photos/a.jpg"]
    assert dict(found.problems) == {
        "gone.jpg": "does not exist",
        "*.gif": "no file has such a name",
        "https://example.org/a.jpg": "is an address; save the picture and name the file",
        "nul\0.jpg": "is no path (it holds a NUL character)",
        "x" * 300: "cannot be reached (File name too long)",
        "photos/a.jpg/b.jpg": "cannot be reached (Not a directory)",
    }


def test_empty_folder_is_no_failure(here: Path) -> None:
    """FAULTS 14: an empty folder is nobody."""
    found = find_images(["empty", "photos/more"])
    assert found.empty_folders == ("empty",)
    assert not found.problems
    assert len(found.paths) == 1
    assert find_images([]).paths == ()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_pictures_of_kinds_that_are_not_read_are_found(here: Path) -> None:
    """Reading them says what they are; a folder of a telephone's pictures is not passed over in silence."""
    (here / "photos/IMG_1.HEIC").touch()
    (here / "photos/more/e.avif").touch()
    assert "photos/IMG_1.HEIC" in names("photos")
    assert names("photos/**")[-1] == "photos/more/e.avif"
    assert names("photos", suffixes={".png"}) == ["photos/c10.png"]


def test_links_that_lead_in_circles(here: Path) -> None:
    """FAULTS 12: loops of links between folders and of a file to itself."""
    for name in ("one", "two"):
        (here / name).mkdir()
    for name in ("one", "two"):
        for target in ("one", "two"):
            (here / name / f"to_{target}").symlink_to(here / target)
    (here / "one/real.jpg").touch()
    (here / "loop.jpg").symlink_to("loop.jpg")
    (here / "dead.jpg").symlink_to("nowhere.jpg")
    assert names("one/**/*.jpg") == ["one/real.jpg"]
    assert names("loop.jpg", ".") == ["loop.jpg", "dead.jpg"]  # taken, so that reading reports them


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folder(here: Path) -> None:
    (here / "empty").chmod(0)
    try:
        found = find_images(["empty", "empty/a.jpg", "photos/a.jpg"])
    finally:
        (here / "empty").chmod(0o700)
    assert [reason for _, reason in found.problems] == [
        "cannot be listed (Permission denied)",
        "lies in a folder that this user may not open (permission denied)",
    ]
    assert len(found.paths) == 1


def test_unreadable_folder_below_a_pattern(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path).endswith("empty"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(["**"])
    assert found.problems == ((os.path.join(".", "empty"), "cannot be listed (Permission denied)"),)  # noqa: PTH118
    assert found.paths


@pytest.mark.parametrize("name", ["👩‍🎤 Ünï.jpg", os.fsdecode(b"caf\xe9.jpg"), "line\nbreak.jpg"])
def test_names_of_any_characters(here: Path, name: str) -> None:
    """FAULTS 12: emoji, bytes that are not UTF-8, control characters."""
    try:
        (here / "empty" / name).touch()
    except OSError:
        pytest.skip("this file system refuses the name")
    for word in ("empty", "empty/*", "empty/**"):
        assert names(word) == [f"empty/{name}"]
