"""Jobs on a Ray of two workers: nothing lost, nothing twice, whoever dies."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the [ray] extra")
ray = pytest.importorskip("ray", reason="needs the [ray] extra")
pytest.importorskip("ray.data", reason="needs the [ray] extra")

from wholepose import Detections, PoseEstimator, save_image  # noqa: E402
from wholepose.cli.main import main  # noqa: E402
from wholepose.distributed import DatasetOptions, predict_dataset  # noqa: E402
from wholepose.distributed.parts import read_footers  # noqa: E402
from wholepose.distributed.storage import open_store  # noqa: E402
from wholepose.errors import ConfigError, WeightsError  # noqa: E402

WHOLE = DatasetOptions(whole_image=True)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, for all tests here: starting it takes longer than they do."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


def sources_in(folder):
    return Counter(pq.read_table(folder, columns=["source"])["source"].to_pylist())


class Slow:
    """A detector that boxes the whole picture, takes its time, and notes in which process; one picture kills it."""

    name = "slow"

    def __init__(self, notes):
        self.notes = notes

    def detect(self, images):
        for image in images:
            (self.notes / str(os.getpid())).touch()
            if image.shape[0] == 77:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.04)
        return [Detections(np.float32([[0, 0, *image.shape[1::-1]]]), np.ones(1, np.float32)) for image in images]


def slow_estimator(model_path, notes):
    return PoseEstimator.from_pretrained(model_path, detector=Slow(notes), threads=1)


def test_a_killed_worker_loses_nothing_and_repeats_nothing(cluster, model_path, write_pictures, tmp_path):
    names = write_pictures(tmp_path / "in", 48)
    (tmp_path / "notes").mkdir()
    killed = []

    def kill(report):
        if not killed and report.looked_at >= 8:
            killed.append(int(next((tmp_path / "notes").iterdir()).name))
            os.kill(killed[0], signal.SIGKILL)

    report = predict_dataset(
        tmp_path / "in",
        tmp_path / "out",
        make_estimator=partial(slow_estimator, model_path, tmp_path / "notes"),
        workers=2,
        pictures_per_part=4,
        on_progress=kill,
    )
    assert killed
    assert len(list((tmp_path / "notes").iterdir())) >= 2
    assert sources_in(tmp_path / "out") == Counter(names)
    assert (report.sources, report.pictures, report.people, report.failures) == (48, 48, 48, [])


def test_a_job_that_starts_again_skips_what_is_done(cluster, make_estimator, write_pictures, tiny_videos, tmp_path):
    names = write_pictures(tmp_path / "in", 6)
    tiny_videos.write_video(tmp_path / "in" / "clip.mp4", 12)
    (tmp_path / "in" / "p003.png").write_bytes(b"broken")
    job = partial(
        predict_dataset, tmp_path / "in", tmp_path / "out", make_estimator=make_estimator, options=WHOLE, workers=2
    )
    report = job()
    assert (report.sources, report.skipped, report.pictures, report.videos, report.frames) == (7, 0, 5, 1, 12)
    assert report.looked_at == 7
    (failure,) = report.failures
    assert failure.startswith(f"{names[3]}: ")
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}

    write_pictures(tmp_path / "in", 8)  # the broken one is repaired, two are new
    report = job()
    assert (report.sources, report.skipped, report.pictures, report.failures) == (9, 6, 3, [])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in parts.items())
    found = sources_in(tmp_path / "out")
    assert found.pop(str(tmp_path / "in" / "clip.mp4")) == 12
    assert found == Counter(write_pictures(tmp_path / "in", 8))
    assert job().skipped == 9


def test_what_is_wrong_with_the_job_comes_out_as_it_is(cluster, make_estimator, write_pictures, tmp_path):
    write_pictures(tmp_path / "in", 2)
    job = partial(predict_dataset, tmp_path / "in", tmp_path / "out", workers=1, options=WHOLE)
    with pytest.raises(WeightsError, match=r"nothing\.onnx"):
        job(make_estimator=partial(PoseEstimator.from_pretrained, tmp_path / "nothing.onnx"))
    assert read_footers(open_store(str(tmp_path / "out"))) == {}
    job(make_estimator=make_estimator)
    (tmp_path / "in" / "p001.png").rename(tmp_path / "in" / "p002.png")
    with pytest.raises(ConfigError, match=r"holds results made with flip_test False, unlike these"):
        job(make_estimator=make_estimator, options=DatasetOptions(whole_image=True, flip_test=True))
    with pytest.raises(ConfigError, match="a worker needs 3 CPUs, and the Ray cluster has 2 CPUs"):
        job(make_estimator=make_estimator, workers=None, threads=3)


@pytest.mark.slow
def test_a_file_that_kills_its_worker_is_given_up(cluster, model_path, write_pictures, black_picture, tmp_path):
    names = write_pictures(tmp_path / "in", 12)
    (tmp_path / "notes").mkdir()
    save_image(names[5], black_picture)
    report = predict_dataset(
        tmp_path / "in",
        tmp_path / "out",
        make_estimator=partial(slow_estimator, model_path, tmp_path / "notes"),
        workers=2,
        pictures_per_part=4,
    )
    assert sources_in(tmp_path / "out") == Counter(names[:5] + names[6:])
    (failure,) = report.failures
    assert failure.startswith(f"{names[5]}: given up")


@pytest.mark.slow
def test_the_command_starts_and_ends_its_own_ray(model_path, write_pictures, tmp_path, capfd):
    """Last, since it has no use for the cluster of the others."""
    ray.shutdown()
    names = write_pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "bad.png").write_bytes(b"broken")
    words = ["predict", f"{tmp_path}/in", "--engine", "ray", "--workers", "1", "--out", f"file://{tmp_path}/out"]
    words += ["--whole-image", "--model", str(model_path)]
    assert main(words) == 1
    err = capfd.readouterr().err
    assert "1 input failed" in err
    assert "bad.png" in err
    assert "5 pictures, 5 people" in err
    assert sources_in(tmp_path / "out") == Counter(names)
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_command_goes_on_where_it_was(model_path, write_pictures, tmp_path, number, code):
    names = write_pictures(tmp_path / "in", 400)
    words = ["predict", f"{tmp_path}/in", "--engine", "ray", "--workers", "1", "--out", f"{tmp_path}/out"]
    command = [sys.executable, "-m", "wholepose", *words, "--whole-image", "--model", str(model_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("out/part-*")):
        time.sleep(0.02)
    process.send_signal(number)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == code, err
    done = sources_in(tmp_path / "out")
    assert 0 < len(done) < 400
    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, timeout=300)
    assert f"{len(done)} inputs done before" in again.stderr
    assert sources_in(tmp_path / "out") == Counter(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "ray"], "say where with --out"),
        (["--engine", "ray", "--out", "x", "--draw"], "--draw does not go with --engine ray"),
        (["--engine", "ray", "--out", "x", "--format", "csv"], "--format does not go with"),
        (["--engine", "ray", "--out", "x", "--smooth-ahead"], "--smooth-ahead does not go with"),
        (["--engine", "ray", "--out", "x", "--show"], "--show does not go with"),
        (["--engine", "ray", "--out", "x", "--box", "1,2,3,4"], "--box does not go with"),
        (["--workers", "2"], "--workers goes with --engine ray"),
        (["--out", "s3://bucket/x"], "only --engine ray writes to addresses"),
        (["--engine", "ray", "--out", "x", "--model", "nosuch"], "--model: "),
        (["--engine", "ray", "--out", "nosuchscheme://x"], "nosuchscheme://x"),
    ],
)
def test_wrong_usage(words, message, tmp_path, capsys):
    (tmp_path / "p.png").write_bytes(b"")
    assert main(["predict", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
