"""`wholepose synth`: data sets and clips, resumed, refused, interrupted, on a full disk."""

import errno
import itertools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from wholepose.cli.main import main
from wholepose.data.annotations import read_annotations
from wholepose.data.check import check_annotations
from wholepose.errors import ConfigError
from wholepose.images import load_image
from wholepose.skeletons import HALPE136
from wholepose.synth import SynthPeople, dataset
from wholepose.synth.dataset import write_dataset

OPTIONS = ["--size", "64x96", "--people", "1..2", "--seed", "5"]


@pytest.fixture(scope="module")
def people(body) -> SynthPeople:
    return SynthPeople(5, (64, 96), people=(1, 2))


@pytest.fixture(scope="module")
def folder(body, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "out"
    assert main(["synth", "--count", "4", "--out", str(out), *OPTIONS]) == 0
    return out


def test_data_set_is_halpe_and_passes_the_check(folder):
    document = json.loads((folder / "annotations.json").read_text())
    assert document["info"]["labelled_keypoints"] == list(range(136))
    assert document["categories"][0]["keypoints"] == list(HALPE136.keypoint_names)
    assert [image["file_name"] for image in document["images"]] == [f"images/{n:06d}.jpg" for n in range(4)]
    annotations = read_annotations(folder / "annotations.json")
    assert not check_annotations(annotations).problems
    for row in document["annotations"]:
        assert row["iscrowd"] == 0
        assert 0 < row["area"] <= row["bbox"][2] * row["bbox"][3] + 1e-6
        points = np.array(row["keypoints"]).reshape(136, 3)
        assert set(points[:, 2]) <= {0, 1, 2}
        assert row["num_keypoints"] == (points[:, 2] > 0).sum()
        assert (points[points[:, 2] == 0, :2] == 0).all()
        assert row["bbox"][0] >= 0
        assert row["bbox"][0] + row["bbox"][2] <= 96
    assert load_image(folder / "images" / "000000.jpg").shape == (64, 96, 3)
    assert load_image(folder / "contact_sheet.jpg").ndim == 3


def test_annotations_are_the_samples(folder, people):
    document = json.loads((folder / "annotations.json").read_text())
    sample = people.sample(1)
    rows = [row for row in document["annotations"] if row["image_id"] == 2]
    assert len(rows) == len(sample)
    for person, row in enumerate(rows):
        points = np.array(row["keypoints"]).reshape(136, 3)
        seen = points[:, 2] > 0
        np.testing.assert_array_equal(points[:, 2], sample.visibility[person])
        np.testing.assert_allclose(points[seen, :2], sample.keypoints[person][seen], atol=0.006)
        assert row["area"] == sample.areas[person]


def test_second_run_goes_on_or_is_refused(folder, tmp_path, capsys):
    before = (folder / "annotations.json").read_bytes()
    assert main(["synth", "--count", "4", "--out", str(folder), *OPTIONS]) == 0
    assert (folder / "annotations.json").read_bytes() == before
    assert main(["synth", "--count", "4", "--out", str(folder), *OPTIONS[:-1], "6"]) == 2
    assert "other options (seed)" in capsys.readouterr().err
    assert main(["synth", "--count", "2", "--out", str(folder), *OPTIONS]) == 2
    assert "more than --count 2" in capsys.readouterr().err
    (tmp_path / "something.txt").write_text("mine")
    assert main(["synth", "--count", "1", "--out", str(tmp_path), *OPTIONS]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    (tmp_path / "annotations.json").write_text("{}")
    assert main(["synth", "--count", "1", "--out", str(tmp_path), *OPTIONS]) == 2
    assert "was not written by wholepose synth" in capsys.readouterr().err


def test_interrupted_run_leaves_whole_json_and_is_resumed_the_same(folder, people, tmp_path, monkeypatch):
    """Ctrl-C (and SIGTERM) in mid-run: the JSON describes exactly the pictures that are there."""
    options = json.loads((folder / "annotations.json").read_text())["info"]["synth"]
    out = tmp_path / "out"
    draw = people.sample

    def stop(index: int) -> object:
        if index == 2:
            raise KeyboardInterrupt
        return draw(index)

    monkeypatch.setattr(people, "sample", stop)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(people, out, 4, options)
    found = read_annotations(out / "annotations.json")
    assert not check_annotations(found).problems
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == 2
    monkeypatch.undo()
    write_dataset(people, out, 4, options)
    for name in ["annotations.json", *(f"images/{n:06d}.jpg" for n in range(4))]:
        assert (out / name).read_bytes() == (folder / name).read_bytes(), name


def test_killed_run_is_gone_on_with(folder, people, tmp_path, monkeypatch):
    """Nothing can be written any more when a process is killed: what was written before says whose folder it is."""
    options = json.loads((folder / "annotations.json").read_text())["info"]["synth"]
    out = tmp_path / "out"
    monkeypatch.setattr(dataset, "_save_what_fits", lambda *_: None)
    draw = people.sample
    monkeypatch.setattr(people, "sample", lambda index: 1 / 0 if index == 1 else draw(index))
    with pytest.raises(ZeroDivisionError):
        write_dataset(people, out, 4, options)
    monkeypatch.undo()
    write_dataset(people, out, 4, options)
    assert (out / "annotations.json").read_bytes() == (folder / "annotations.json").read_bytes()


def test_other_files_are_another_option(tmp_path):
    assert dataset.fingerprint(None) is False
    (tmp_path / "a.jpg").write_bytes(b"1")
    first = dataset.fingerprint(tmp_path)
    assert first == dataset.fingerprint(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"12")
    assert dataset.fingerprint(tmp_path) != first


def test_full_disk_keeps_what_is_written_valid(people, tmp_path, monkeypatch):
    """FAULT 35: no room for a picture, nor for the JSON until a picture has made room."""
    out = tmp_path / "out"
    write_picture, write_text = dataset.save_image, dataset.write_json
    refused = []

    def no_room(path: Path, image: np.ndarray, quality: int) -> None:
        if path.name == "000003.jpg":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_picture(path, image, quality=quality)

    def little_room(path: Path, document: dict) -> None:
        if len(document["images"]) == 3:
            refused.append(path)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_text(path, document)

    monkeypatch.setattr(dataset, "save_image", no_room)
    monkeypatch.setattr(dataset, "write_json", little_room)
    with pytest.raises(OSError, match="No space"):
        write_dataset(people, out, 5, {"seed": 5})
    assert refused
    document = json.loads((out / "annotations.json").read_text())
    assert len(document["images"]) == 2
    assert sorted(path.name for path in (out / "images").iterdir()) == ["000000.jpg", "000001.jpg"]
    assert not check_annotations(read_annotations(out / "annotations.json")).problems


def test_two_runs_at_once_into_one_folder(people, tmp_path):
    """The second is refused and changes nothing; once the first is over, it may go on."""
    out = tmp_path / "out"
    refused = []

    def second(done: int) -> None:
        if done == 1:
            with pytest.raises(ConfigError, match="another run writes there now"):
                write_dataset(people, out, 2, {"seed": 5})
            refused.append(done)

    write_dataset(people, out, 2, {"seed": 5}, advance=second)
    assert refused
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == 2
    assert len(write_dataset(people, out, 3, {"seed": 5}).images) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64"], "HEIGHTxWIDTH"),
        (["--size", "8x9"], "between 32 and 4096"),
        (["--people", "4..1"], "least <= most"),
        (["--people", "many"], "range such as"),
        (["--count", "0"], "from 1 on"),
        (["--seed", "-3"], "--seed"),
        (["--effects", "2"], "from 0 to 1"),
        (["--frames", "5"], "add --video"),
        (["--video", "--size", "65x96"], "even sides"),
        (["--assets", "nowhere"], "index.json is missing"),
        (["--backgrounds", "nowhere"], "is not a folder"),
        (["--device", "abacus"], "Warp finds cpu"),
        (["--hand-poses", "nowhere.npz"], "not a file of hand poses"),
        (["--hand-poses", "a.npz", "--clean"], "research licence"),
    ],
)
def test_bad_usage_exits_2(words, message, tmp_path, capsys):
    assert main(["synth", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_clip_keeps_identities(body, tmp_path, capsys):
    words = ["synth", "--video", "--frames", "4", "--size", "64x96", "--people", "2", "--out", str(tmp_path)]
    assert main(words) == 0
    with av.open(str(tmp_path / "clip_000000.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    document = json.loads((tmp_path / "clip_000000.json").read_text())
    assert [image["frame_index"] for image in document["images"]] == [0, 1, 2, 3]
    places = {}
    for row in document["annotations"]:
        places.setdefault(row["track_id"], []).append(np.array(row["keypoints"]).reshape(136, 3))
    assert set(places) <= {0, 1}
    for track in places.values():
        for before, after in itertools.pairwise(track):
            both = (before[:, 2] > 0) & (after[:, 2] > 0)
            assert np.linalg.norm(before[both, :2] - after[both, :2], axis=1).max() < 12, "nobody jumps"
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
