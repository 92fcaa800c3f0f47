"""Parts without Ray: planned, made, skipped, damaged, refused."""

import sys

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the [ray] extra")

import pyarrow as pa
import pyarrow.parquet as pq

from wholepose import HALPE136, PoseEstimator, load_image, save_image
from wholepose.distributed import predict_dataset
from wholepose.distributed.blame import BlameLedger
from wholepose.distributed.parts import PartPlan, open_part, plan_parts, read_footer, read_footers
from wholepose.distributed.storage import Source, list_sources, open_store
from wholepose.distributed.worker import DatasetOptions, PartMaker
from wholepose.errors import AnnotationError, ConfigError

WHOLE = DatasetOptions(whole_image=True)


def sources_of(*names):
    return [Source(name, name, 1) for name in sorted(names)]


def test_plans_are_the_same_each_time_and_leave_out_what_is_done():
    sources = sources_of(*(f"{index:03}.jpg" for index in range(10)), "a.mp4", "b.mov")
    plans = plan_parts(sources, set(), 4)
    assert [len(plan.sources) for plan in plans] == [4, 4, 2, 1, 1]
    assert sorted(source for plan in plans for source in plan.sources) == sources
    assert plan_parts(sources, set(), 4) == plans
    assert len({plan.name for plan in plans}) == 5
    again = plan_parts(sources, {"000.jpg", "004.jpg", "005.jpg", "006.jpg", "007.jpg", "a.mp4"}, 4)
    assert [[source.name for source in plan.sources] for plan in again] == [
        ["001.jpg", "002.jpg", "003.jpg"],
        ["008.jpg", "009.jpg"],
        ["b.mov"],
    ]
    assert again[1:] == plans[2:3] + plans[4:]  # untouched groups keep their names


@pytest.fixture
def maker(make_estimator, tmp_path):
    def make(names, options=WHOLE, *, threads=1, estimator=make_estimator, ledger=None):
        listing = list_sources(names)
        out = open_store(str(tmp_path / "out"))
        made = PartMaker(estimator, options, listing.store, out, threads, ledger or BlameLedger())
        return made, PartPlan("part-x.parquet", tuple(listing.sources)), out

    return make


@pytest.mark.parametrize("kind", ["here", "memory"])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_what_the_estimator_finds(maker, make_estimator, write_pictures, tmp_path, place, kind, threads):
    """FAULTS 11: the same file gives the same keypoints here."""
    names = write_pictures(tmp_path / "in", 20)
    root = place(kind)
    made, plan, out = maker([f"{root}/in"], threads=threads)
    result = made.make(plan)
    assert (result.sources, result.pictures, result.people, result.failures) == (20, 20, 20, {})
    table = pq.read_table(tmp_path / "out").to_pydict()
    assert table["source"] == [f"{root}/in/p{index:03}.png" for index in range(20)]
    estimator = make_estimator()
    for row, name in enumerate(names):
        image = load_image(name)
        expected = estimator.predict(image, [[0, 0, 96, 128]])
        np.testing.assert_array_equal(np.stack([table["x"][row], table["y"][row]], -1), expected.keypoints[0])
        np.testing.assert_array_equal(table["score"][row], expected.scores[0])
        np.testing.assert_array_equal(table["box"][row], expected.boxes[0])
        assert (table["height"][row], table["width"][row], table["person"][row]) == (128, 96, 0)
        assert (table["is_video"][row], table["track_id"][row]) == (False, None)
    footer = read_footer(out, "part-x.parquet")
    assert footer.done == table["source"]
    assert (footer.model, footer.pictures, footer.people) == ("centroid", 20, 20)
    assert made.make(plan).pictures == 20  # it is there: nothing is predicted again


def test_covariances_on_request(maker, make_estimator, write_pictures, tmp_path):
    (name,) = write_pictures(tmp_path / "in", 1)
    made, plan, _ = maker([name], DatasetOptions(whole_image=True, uncertainty=True))
    made.make(plan)
    found = np.array(pq.read_table(tmp_path / "out").to_pydict()["covariance"][0]).reshape(136, 3)
    expected = make_estimator().predict(load_image(name), [[0, 0, 96, 128]]).covariances[0]
    np.testing.assert_array_equal(found, expected[:, [0, 0, 1], [0, 1, 1]].astype(np.float32))


def test_what_cannot_be_read_is_told_and_the_rest_done(maker, write_pictures, tmp_path):
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "p001.png").write_bytes(b"broken")
    (tmp_path / "in" / "z.mp4").write_bytes(b"broken")
    made, plan, out = maker([str(tmp_path / "in")])
    result = made.make(plan)
    assert (result.sources, result.pictures, result.videos) == (5 - 1, 2, 0)
    assert sorted(result.failures) == [str(tmp_path / "in" / name) for name in ("p001.png", "z.mp4")]
    assert all(text.startswith(name) for name, text in result.failures.items())
    assert len(read_footer(out, "part-x.parquet").done) == 2


def test_no_part_where_nothing_can_be_read(maker, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    made, plan, out = maker([str(tmp_path / "a.png")])
    assert len(made.make(plan).failures) == 1
    assert read_footers(out) == {}
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", ["here", "memory"])
def test_videos_keep_frames_and_tracks(maker, tiny_videos, tmp_path, place, kind):
    tiny_videos.write_video(tmp_path / "clip.mp4", 12)
    made, plan, _ = maker([f"{place(kind)}/clip.mp4"])
    result = made.make(plan)
    assert (result.pictures, result.videos, result.frames, result.people) == (0, 1, 12, 12)
    table = pq.read_table(tmp_path / "out").to_pydict()
    assert table["frame"] == list(range(12))
    np.testing.assert_allclose(table["time_s"], np.arange(12) / tiny_videos.RATE, atol=1e-3)
    assert set(table["track_id"]) == {0}
    assert set(table["is_video"]) == {True}
    for row in range(12):
        assert abs(table["x"][row][0] - tiny_videos.blob_center(row)[0]) < 1.5


def test_damaged_videos_are_kept_and_told(maker, tiny_videos, tmp_path, place):
    tiny_videos.damage(tiny_videos.write_video(tmp_path / "clip.mp4", 24), [9, 10, 11])
    made, plan, out = maker([f"{place('memory')}/clip.mp4"])
    result = made.make(plan)
    assert 0 < result.frames < 24
    assert "cannot be read" in result.failures["memory:///bucket/clip.mp4"]
    assert read_footer(out, "part-x.parquet").damaged == result.failures


def test_broken_remote_videos_are_called_by_their_address(maker, tmp_path, place):
    (tmp_path / "clip.mp4").write_bytes(b"broken")
    made, plan, _ = maker([f"{place('memory')}/clip.mp4"])
    (text,) = made.make(plan).failures.values()
    assert text.startswith("memory:///bucket/clip.mp4: is no video")


def test_nobody_in_the_pictures(maker, write_pictures, tmp_path):
    class Nobody:
        name = "nobody"

        def detect(self, images):
            from wholepose import Detections

            return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) for _ in images]

    model = PoseEstimator.from_pretrained(detector=Nobody(), threads=1)
    write_pictures(tmp_path / "in", 3)
    made, plan, out = maker([str(tmp_path / "in")], DatasetOptions(), estimator=lambda: model)
    result = made.make(plan)
    assert (result.pictures, result.people) == (3, 0)
    assert len(read_footer(out, "part-x.parquet").done) == 3
    assert pq.read_table(tmp_path / "out").num_rows == 0


def test_who_is_in_the_picture_must_be_said(maker, write_pictures, tmp_path):
    write_pictures(tmp_path / "in", 1)
    made, plan, _ = maker([str(tmp_path / "in")], DatasetOptions())
    with pytest.raises(ConfigError, match="no person detector"):
        made.make(plan)
    with pytest.raises(ConfigError, match="detect_every must be at least 1"):
        DatasetOptions(detect_every=0)


def test_foreign_files_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "part-1.parquet")
    with pytest.raises(AnnotationError, match=r"part-1\.parquet: was not written by wholepose"):
        read_footers(open_store(str(tmp_path)))
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(AnnotationError, match=r"part-1\.parquet: cannot be read"):
        read_footers(open_store(str(tmp_path)))
    with pytest.raises(RuntimeError), open_part(open_store(str(tmp_path)), "part-2", HALPE136, uncertainty=False):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["part-1.parquet"]


def test_a_file_that_kills_is_given_up(maker, write_pictures, tmp_path, black_picture):
    """A worker's death is played by an exception that nothing here catches; the ledger outlives it, as in Ray."""

    class DeathError(BaseException):
        pass

    class Deadly:
        name = "deadly"

        def detect(self, images):
            from wholepose import Detections

            if any(image.shape == black_picture.shape for image in images):
                raise DeathError
            return [Detections(np.float32([[0, 0, 96, 128]]), np.ones(1, np.float32)) for _ in images]

    write_pictures(tmp_path / "in", 4)
    save_image(tmp_path / "in" / "p002.png", black_picture)
    model = PoseEstimator.from_pretrained(detector=Deadly(), threads=1)
    ledger = BlameLedger()
    made, plan, out = maker([str(tmp_path / "in")], DatasetOptions(), estimator=lambda: model, ledger=ledger)
    for _ in range(3):
        with pytest.raises(DeathError):
            made.make(plan)
        assert read_footers(out) == {}
    result = made.make(plan)
    assert result.pictures == 3
    assert list(result.failures) == [str(tmp_path / "in" / "p002.png")]
    assert "workers died" in result.failures[str(tmp_path / "in" / "p002.png")]


def test_without_ray_the_extra_is_named(monkeypatch, make_estimator, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'wholepose\[ray\]'"):
        predict_dataset(tmp_path, tmp_path / "out", make_estimator=make_estimator)
