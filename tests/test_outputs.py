import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.errors import AnnotationError
from wholepose.outputs import atomic_path, poses_document, read_poses, to_json, write_coco_results, write_json
from wholepose.poses import Poses
from wholepose.skeletons import COCO17, HALPE136, SKELETONS

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and signals")


def make_poses(people=2, skeleton=HALPE136, seed=0, **changes):
    random = np.random.default_rng(seed)
    count = skeleton.num_keypoints
    spread = random.normal(size=(people, count, 2, 2))
    fields = {
        "keypoints": random.uniform(-10, 5000, (people, count, 2)),
        "scores": random.random((people, count)),
        "boxes": random.uniform(0, 5000, (people, 4)),
        "box_scores": random.random(people),
        "skeleton": skeleton,
        "covariances": spread @ np.swapaxes(spread, -1, -2),
        "track_ids": np.arange(people) * 2**40,
    }
    return Poses(**{**fields, **changes})


def document_of(poses, **options):
    return poses_document(poses, **{"image": "a.jpg", "size": (480, 640), "model": "default", **options})


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


class TestAtomicPath:
    def test_the_file_appears_when_it_is_complete(self, tmp_path):
        path = tmp_path / "out.png"
        with atomic_path(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".png"
            assert temporary.name.startswith(".")
            temporary.write_bytes(b"new")
            assert not path.exists()
        assert path.read_bytes() == b"new"
        assert names_in(tmp_path) == ["out.png"]

    @pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(1), OSError(5, "other")])
    def test_any_exception_leaves_the_old_file(self, tmp_path, error):
        path = tmp_path / "out.json"
        path.write_text("old")
        with pytest.raises(type(error)), atomic_path(path) as temporary:  # noqa: PT012
            temporary.write_text("new")
            raise error
        assert path.read_text() == "old"
        assert names_in(tmp_path) == ["out.json"]

    def test_new_files_have_usual_permissions(self, tmp_path):
        write_json(tmp_path / "a.json", {})
        (tmp_path / "b.json").write_text("")
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "b.json")}
        assert len(modes) == 1

    @pytest.mark.parametrize("name", ["a", ".hidden", "x." + "y" * 240, "\N{PILE OF POO}.json", "two.parts.tar.gz"])
    def test_odd_names(self, tmp_path, name):
        """FAULT 12."""
        write_json(tmp_path / name, {"a": 1})
        assert names_in(tmp_path) == [name]

    @linux
    def test_name_that_is_not_utf8(self, tmp_path):
        """FAULT 12."""
        path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.json")  # noqa: PTH118
        write_json(os.fsdecode(path), {"image": os.fsdecode(b"\xff.jpg")})
        with open(path, "rb") as file:  # noqa: PTH123
            assert json.loads(file.read())["image"] == os.fsdecode(b"\xff.jpg")

    def test_missing_folder_and_folder_as_file_name_the_path(self, tmp_path):
        path = tmp_path / "none" / "out.json"
        with pytest.raises(FileNotFoundError) as caught:
            write_json(path, {})
        assert caught.value.filename == str(path)
        (tmp_path / "folder").mkdir()
        with pytest.raises(IsADirectoryError) as caught:
            write_json(tmp_path / "folder", {})
        assert caught.value.filename == str(tmp_path / "folder")
        assert names_in(tmp_path) == ["folder"]

    @linux
    def test_devices_and_pipes_are_left_alone(self, tmp_path):
        """Root could otherwise turn /dev/null into a file."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        link = tmp_path / "link"
        link.symlink_to("/dev/null")
        for path in (pipe, link, Path("/dev/null")):
            with pytest.raises(OSError, match="device or a pipe"):
                write_json(path, {})
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_failure_to_sync_or_rename_keeps_the_old_file(self, tmp_path, monkeypatch, step):
        """FAULT 37 for any file: the error is visible, names the file, and the old file stays."""
        path = tmp_path / "out.json"
        path.write_text("old")

        def fail(*_):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail) if step == "fsync" else monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match=r"Input/output error: .*out\.json"):
            write_json(path, {"new": 1})
        assert path.read_text() == "old"
        assert names_in(tmp_path) == ["out.json"]

    def test_file_and_folder_are_forced_to_disk_in_order(self, tmp_path, monkeypatch):
        events = []
        real_sync, real_replace = os.fsync, Path.replace

        def sync(descriptor):
            events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            real_sync(descriptor)

        def replace(source, target):
            events.append("rename")
            return real_replace(source, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        write_json(tmp_path / "out.json", {})
        assert events == ["file", "rename", "folder"]

    @linux
    def test_no_descriptor_leaks(self, tmp_path):
        before = len(names_in("/proc/self/fd"))
        for _ in range(20):
            write_json(tmp_path / "out.json", {})
            with pytest.raises(ValueError), atomic_path(tmp_path / "out.json"):
                raise ValueError
        assert len(names_in("/proc/self/fd")) == before


class TestInterruptedWriting:
    @linux
    def test_file_size_limit(self, tmp_path):
        """FAULT 35: the system refuses to write on, half way."""
        path = tmp_path / "out.json"
        path.write_text("old")
        done = run_python(
            """
            import resource, sys
            from wholepose.outputs import write_json
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            try:
                write_json(sys.argv[1], list(range(100_000)))
            except OSError as error:
                print(error.errno, error.filename)
            write_json(sys.argv[1] + ".small", [1])  # the next call is right
            """,
            path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(errno.EFBIG), str(path)]
        assert path.read_text() == "old"
        assert names_in(tmp_path) == ["out.json", "out.json.small"]

    @linux
    def test_full_disk(self, tmp_path):
        """FAULT 35: a real file system of 64 kB runs full; the old file stays whole, and there is room again."""
        script = """
            mount -t tmpfs -o size=64k tmpfs "$1" 2>/dev/null || exit 77
            exec "$2" -c '
            import os, sys
            from wholepose.outputs import write_json
            path = sys.argv[1] + "/out.json"
            write_json(path, ["old"])
            try:
                write_json(path, list(range(100_000)))
            except OSError as error:
                print(error.strerror, error.filename, sep="|")
            print(open(path).read().strip(), os.listdir(sys.argv[1]), sep="|")
            write_json(path, ["next"])
            print(open(path).read().strip())
            ' "$1"
        """
        script = textwrap.dedent(script)
        for unshare in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
            command = [*unshare, "sh", "-c", script, "sh", str(tmp_path), sys.executable]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            except FileNotFoundError:
                pytest.skip("needs the unshare program to mount a small disk")
            if done.returncode == 0:
                break
        else:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        assert done.stdout.splitlines() == [
            f"No space left on device|{tmp_path}/out.json",
            "[\"old\"]|['out.json']",
            '["next"]',
        ]

    @linux
    @pytest.mark.parametrize("old", [None, "old"])
    def test_killed_half_way(self, tmp_path, old):
        """FAULT 35: SIGKILL between two writes of one file."""
        path = tmp_path / "out.json"
        if old:
            path.write_text(old)
        code = """
            import sys, time
            from wholepose.outputs import atomic_path
            with atomic_path(sys.argv[1]) as temporary, open(temporary, "w") as file:
                file.write("half")
                file.flush()
                print("half", flush=True)
                time.sleep(60)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "half\n"
            child.kill()
        assert (path.read_text() if path.exists() else None) == old
        write_json(path, {"next": 1})
        assert json.loads(path.read_text()) == {"next": 1}

    @linux
    def test_killed_at_any_time(self, tmp_path):
        """FAULT 35: SIGKILL at varied instants of repeated saves; what lies there is always one of them, whole."""
        path = tmp_path / "out.json"
        code = """
            import sys
            from wholepose.outputs import write_json
            version = 0
            while True:
                write_json(sys.argv[1], {"version": version, "numbers": [version] * 20_000})
                if version == 0:
                    print("first", flush=True)
                version += 1
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        for delay_ms in (0, 7, 23, 61):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout.readline() == "first\n"
                time.sleep(delay_ms / 1000)
                child.send_signal(signal.SIGKILL)
            document = json.loads(path.read_text())
            assert document["numbers"] == [document["version"]] * 20_000


class TestJson:
    def test_compact_ascii_with_a_line_end(self, tmp_path):
        write_json(tmp_path / "a.json", {"name": "é", "n": [1, 2.5]})
        assert (tmp_path / "a.json").read_bytes() == b'{"name":"\\u00e9","n":[1,2.5]}\n'

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_no_nan(self, tmp_path, number):
        with pytest.raises(ValueError):
            to_json([number])
        with pytest.raises(ValueError):
            write_json(tmp_path / "a.json", [number])
        assert names_in(tmp_path) == []


class TestPosesDocument:
    def test_is_as_documented(self):
        poses = make_poses(2)
        document = document_of(poses, uncertainty=True)
        assert list(document) == ["image", "height", "width", "skeleton", "model", "people"]
        head = {key: document[key] for key in ("image", "height", "width", "skeleton", "model")}
        assert head == {"image": "a.jpg", "height": 480, "width": 640, "skeleton": "halpe136", "model": "default"}
        person = document["people"][1]
        assert list(person) == ["box", "box_score", "score", "keypoints", "covariances", "track_id"]
        np.testing.assert_allclose(person["box"], poses.boxes[1], atol=6e-4)
        assert person["score"] == pytest.approx(float(poses.instance_scores()[1]), abs=1e-5)
        np.testing.assert_allclose(np.array(person["keypoints"])[:, :2], poses.keypoints[1], atol=8e-4)
        np.testing.assert_allclose(np.array(person["keypoints"])[:, 2], poses.scores[1], atol=1e-5)
        xx, xy, yy = person["covariances"][3]
        np.testing.assert_allclose([[xx, xy], [xy, yy]], poses.covariances[1, 3], atol=1e-4)
        assert person["track_id"] == 2**40

    def test_optional_fields(self):
        plain = make_poses(1, covariances=None, track_ids=None)
        for document in (document_of(plain, uncertainty=True), document_of(make_poses(1, track_ids=None))):
            assert list(document["people"][0]) == ["box", "box_score", "score", "keypoints"]

    def test_numbers_are_short(self):
        text = to_json(document_of(make_poses(1), uncertainty=True)["people"])
        decimals = [len(word.partition(".")[2]) for word in text.replace("]", ",").split(",") if "." in word]
        assert max(decimals) <= 5
        assert "e" not in text.replace("keypoints", "").replace("score", "").replace("covariances", "")
        assert "-0.0," not in to_json(document_of(make_poses(1, keypoints=np.full((1, 136, 2), -1e-5)))["people"])

    @pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
    @pytest.mark.parametrize("people", [0, 1, 3])
    def test_reads_back(self, tmp_path, skeleton, people):
        poses = make_poses(people, skeleton)
        write_json(tmp_path / "a.json", document_of(poses, uncertainty=True))
        again, fields = read_poses(tmp_path / "a.json")
        assert fields == {"image": "a.jpg", "height": 480, "width": 640, "skeleton": skeleton.name, "model": "default"}
        assert again.skeleton is skeleton
        np.testing.assert_allclose(again.keypoints, poses.keypoints, atol=8e-4)
        np.testing.assert_allclose(again.scores, poses.scores, atol=6e-6)
        np.testing.assert_allclose(again.boxes, poses.boxes, atol=8e-4)
        np.testing.assert_allclose(again.box_scores, poses.box_scores, atol=6e-6)
        np.testing.assert_allclose(again.covariances, poses.covariances, atol=6e-5)
        if people:
            np.testing.assert_array_equal(again.track_ids, poses.track_ids)

    def test_part_and_bare_documents_read_back(self, tmp_path):
        hand = make_poses(2, covariances=None, track_ids=None).part("left_hand")
        write_json(tmp_path / "a.json", document_of(hand))
        again, _ = read_poses(tmp_path / "a.json")
        assert again.skeleton is hand.skeleton
        assert again.covariances is None
        assert again.track_ids is None

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=34, max_size=34), st.floats(0, 1, width=32))
    def test_any_finite_numbers_survive(self, tmp_path_factory, numbers, score):
        path = tmp_path_factory.mktemp("outputs") / "a.json"
        poses = make_poses(1, COCO17, keypoints=np.reshape(numbers, (1, 17, 2)), scores=np.full((1, 17), score))
        write_json(path, document_of(poses))
        again, _ = read_poses(path)
        np.testing.assert_allclose(again.keypoints, poses.keypoints, atol=5.1e-4, rtol=1e-6)


class TestBadDocuments:
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"[]",
            b"5",
            b"null",
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"skeleton": "halpe136", "people": NaN}',
            b"<html></html>",
            b"{}",
            b'{"skeleton": "coco17"}',
            b'{"skeleton": 5, "people": []}',
            b'{"skeleton": "halpe137", "people": []}',
            b'{"skeleton": "coco17", "people": {}}',
            b'{"skeleton": "coco17", "people": [5]}',
        ],
    )
    def test_other_files_are_refused_by_name(self, tmp_path, text):
        path = tmp_path / "bad.json"
        path.write_bytes(text)
        with pytest.raises(AnnotationError, match=r"bad\.json: not "):
            read_poses(path)

    def test_missing_file(self, tmp_path):
        with pytest.raises(AnnotationError, match=r"none\.json: cannot be read: No such file"):
            read_poses(tmp_path / "none.json")

    @pytest.mark.parametrize("field", ["box", "box_score", "keypoints"])
    @pytest.mark.parametrize("value", ["missing", None, "word", [], [1, 2], [[1, 2], [3]], {}, 1e300, 10**400])
    def test_bad_field_is_named(self, tmp_path, field, value):
        document = document_of(make_poses(3, COCO17))
        if value == "missing":
            del document["people"][2][field]
        else:
            document["people"][2][field] = value
        (tmp_path / "bad.json").write_text(json.dumps(document))
        with pytest.raises(AnnotationError, match=rf"bad\.json: .*person 2: field '{field}'"):
            read_poses(tmp_path / "bad.json")

    @pytest.mark.parametrize("field", ["covariances", "track_id"])
    def test_field_that_some_lack_is_named(self, tmp_path, field):
        document = document_of(make_poses(3, COCO17), uncertainty=True)
        del document["people"][1][field]
        write_json(tmp_path / "bad.json", document)
        with pytest.raises(AnnotationError, match=rf"person 1: field '{field}'"):
            read_poses(tmp_path / "bad.json")

    def test_score_outside_the_range(self, tmp_path):
        document = document_of(make_poses(1, COCO17))
        document["people"][0]["keypoints"][4][2] = 1.5
        write_json(tmp_path / "bad.json", document)
        with pytest.raises(AnnotationError, match=r"scores must lie in \[0, 1\]"):
            read_poses(tmp_path / "bad.json")


class TestCocoResults:
    def test_file(self, tmp_path):
        first, second = make_poses(2, COCO17), make_poses(1, COCO17, seed=1, track_ids=None)
        write_coco_results(tmp_path / "results.json", [*first.to_coco(10), *second.to_coco(11)])
        results = json.loads((tmp_path / "results.json").read_text())
        assert [result["image_id"] for result in results] == [10, 10, 11]
        triples = np.reshape(results[2]["keypoints"], (17, 3))
        np.testing.assert_allclose(triples[:, :2], second.keypoints[0], atol=8e-4)
        np.testing.assert_allclose(triples[:, 2], second.scores[0], atol=6e-6)
        assert results[0]["track_id"] == 0
        assert max(len(str(number).partition(".")[2]) for number in results[2]["keypoints"]) <= 5

    def test_generators_and_nobody(self, tmp_path):
        write_coco_results(tmp_path / "results.json", iter([]))
        assert (tmp_path / "results.json").read_text() == "[]\n"

    def test_pycocotools_reads_it(self, tmp_path, capsys):
        coco = pytest.importorskip("pycocotools.coco")
        truth = {"images": [{"id": 7}], "annotations": [], "categories": [{"id": 1, "name": "person"}], "info": {}}
        write_json(tmp_path / "truth.json", truth)
        write_coco_results(tmp_path / "results.json", make_poses(2, COCO17).to_coco(7))
        loaded = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "results.json"))
        assert len(loaded.getAnnIds()) == 2
        capsys.readouterr()
