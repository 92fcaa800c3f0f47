"""A run that was stopped ends as one that was not, to the bit."""

import dataclasses
import gc
import json
import signal

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.errors import AnnotationError, ConfigError, ImageError, WeightsError
from wholepose.training.config import override
from wholepose.training.stages import train_stages
from wholepose.training.trainer import Trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, figures, tiny, state):
    """What a run of three epochs leaves, made without loader processes."""
    run = tmp_path_factory.mktemp("whole") / "run"
    outcome = Trainer(tiny(figures, figures), run, device="cpu").fit()
    assert outcome.finished
    assert outcome.weights == run / "best.safetensors"
    return state(run)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_bit_exact(tmp_path, figures, tiny, watcher, state, uninterrupted, workers):
    """FAULTS 38: SIGTERM in mid-epoch saves; the resumed run then equals the uninterrupted one in every bit."""
    config = tiny(figures, figures)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
    run = tmp_path / "run"
    first = Trainer(config, run, device="cpu", observer=watcher(stop_after=4)).fit()
    assert (first.finished, first.stopped_by, first.weights) == (False, signal.SIGTERM, None)
    second = watcher(stop_after=3, number=signal.SIGINT)
    assert Trainer(config, run, device="cpu", observer=second).fit().stopped_by == signal.SIGINT
    assert (second.done, second.steps) == (4, 9)
    third = watcher()
    assert Trainer(config, run, device="cpu", observer=third).fit().finished
    assert (third.done, len(third.losses)) == (7, 2)
    for ours, whole in zip(state(run), uninterrupted, strict=True):
        assert ours == whole
    assert not list(run.glob("photos*"))


def test_photos_kept_in_a_file_change_nothing(tmp_path, figures, tiny, state, uninterrupted):
    config = tiny(figures, figures)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=1, cache_images=True))
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "photos_0.cache").stat().st_size == 24 * 96 * 96 * 3
    trainer.fit()
    assert not (tmp_path / "run" / "photos_0.cache").exists()
    for ours, whole in zip(state(tmp_path / "run"), uninterrupted, strict=True):
        assert ours == whole


def test_stop_in_validation(tmp_path, figures, tiny, watcher, state, uninterrupted):
    """A signal that arrives during validation: the epoch is saved as trained and is validated after resuming."""
    config = tiny(figures, figures)
    run = tmp_path / "run"
    trainer = Trainer(config, run, device="cpu", observer=watcher())
    judge = trainer.learner.judged

    def judged_with_a_signal():
        signal.raise_signal(signal.SIGTERM)
        return judge()

    trainer.learner.judged = judged_with_a_signal
    assert trainer.fit().stopped_by == signal.SIGTERM
    assert [json.loads(line)["mode"] for line in (run / "log.jsonl").read_text().splitlines()] == ["train"] * 3
    assert Trainer(config, run, device="cpu").fit().finished
    for ours, whole in zip(state(run), uninterrupted, strict=True):
        assert ours == whole


def test_a_photo_that_cannot_be_read_costs_no_step(tmp_path, draw, tiny, watcher, state, uninterrupted):
    """What was trained until then is saved; with the photo back, the run ends as if nothing had been."""
    annotations = draw(tmp_path / "figures", 24)
    photos = sorted((tmp_path / "figures").glob("*.png"))
    whole = {photo: photo.read_bytes() for photo in photos}

    class Damaging(watcher):
        def stepped(self, epoch, loss, lr):
            super().stepped(epoch, loss, lr)
            if len(self.losses) == 4:
                for photo in photos:
                    photo.write_bytes(whole[photo][:100])

    config, run = tiny(annotations, annotations), tmp_path / "run"
    with pytest.raises(ImageError, match=r"\.png: this PNG file is cut short"):
        Trainer(config, run, device="cpu", observer=Damaging()).fit()
    for photo in photos:
        photo.write_bytes(whole[photo])
    observer = watcher()
    assert Trainer(config, run, device="cpu", observer=observer).fit().finished
    assert (observer.done, len(observer.losses)) == (4, 5)
    tensors, _, log, _ = state(run)
    assert (tensors, log) == (uninterrupted[0], uninterrupted[2])


def test_a_photo_to_validate_on_that_cannot_be_read_ends_nothing(tmp_path, figures, draw, tiny, watcher):
    """Its person counts as not found, as in `wholepose evaluate`."""
    val = draw(tmp_path / "val", 4)
    (tmp_path / "val" / "2.png").write_bytes(b"no picture")
    observer = watcher()
    outcome = Trainer(tiny(figures, val, epochs=1), tmp_path / "run", device="cpu", observer=observer).fit()
    assert outcome.finished
    assert any("1 photos to validate on cannot be read" in line and "2.png" in line for line in observer.lines)


def test_a_validation_that_fails_costs_no_training(tmp_path, figures, tiny, watcher):
    config, run = tiny(figures, figures, epochs=1), tmp_path / "run"
    trainer = Trainer(config, run, device="cpu")
    trainer.val = trainer.val.select([])  # nobody: no batch can be made
    with pytest.raises(AnnotationError):
        trainer.fit()
    observer = watcher()
    assert Trainer(config, run, device="cpu", observer=observer).fit().finished
    assert (observer.done, observer.losses) == (3, [])


def test_finished_run_says_so(tmp_path, figures, tiny, watcher):
    config = tiny(figures, epochs=1)
    first = train_stages([config], tmp_path / "run", device="cpu")
    assert first.finished
    assert first.weights == tmp_path / "run" / "last.safetensors"  # nothing to choose the best by
    observer = watcher()
    again = train_stages([config], tmp_path / "run", device="cpu", observer=observer)
    assert again == first
    assert observer.losses == []
    assert "finished before" in observer.lines[0]


def test_changed_settings_are_refused(tmp_path, figures, tiny):
    """FAULTS 42: resume with a changed recipe: refused with the difference; harmless settings may change."""
    config = tiny(figures, epochs=1)
    Trainer(config, tmp_path / "run", device="cpu")
    changed = override(config, ["optimiser.lr=0.01", "data.workers=1"])
    with pytest.raises(ConfigError, match=r"other settings.*\n  optimiser.lr: 0.002 -> 0.01$"):
        Trainer(changed, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optimiser"]["lr"] == 0.002
    Trainer(override(config, ["data.workers=1", "keep_last=5"]), tmp_path / "run", device="cpu")


def test_damaged_checkpoints(tmp_path, figures, tiny, watcher):
    """FAULTS 39: the newest valid checkpoint is taken, with a warning; none valid is an error."""
    config = tiny(figures, figures)
    run = tmp_path / "run"
    Trainer(config, run, device="cpu", observer=watcher(stop_after=7)).fit()
    newest = run / "checkpoints" / "step_000000007.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of one weight
    newest.write_bytes(data)
    observer = watcher()
    with pytest.warns(UserWarning, match=r"step_000000007\.safetensors is damaged: .* going on from an older"):
        trainer = Trainer(config, run, device="cpu", observer=observer)
    assert "step 6 of 9" in observer.lines[0]
    assert newest.with_name(newest.name + ".damaged").exists()
    for path in trainer.checkpoints.paths():
        path.write_bytes(path.read_bytes()[:-1000])
    del trainer
    gc.collect()  # which gives the folder back
    log = (run / "log.jsonl").read_bytes()
    for _ in range(2):  # the second start must not take what the first left for a new run
        with pytest.raises(WeightsError, match=r"every checkpoint in .* is damaged"):
            Trainer(config, run, device="cpu")
    assert (run / "log.jsonl").read_bytes() == log


def test_a_second_run_in_the_folder_is_refused(tmp_path, figures, tiny):
    """It would cut the log of the first, and the file of photos that the first has mapped."""
    config = tiny(figures, epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_images=True))
    first = Trainer(config, tmp_path / "run", device="cpu")
    photos = (tmp_path / "run" / "photos_0.cache").read_bytes()
    with pytest.raises(ConfigError, match="another run trains there now"):
        Trainer(config, tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "photos_0.cache").read_bytes() == photos
    assert first.fit().finished
    assert Trainer(config, tmp_path / "run", device="cpu").fit().finished


def test_a_start_that_failed_binds_to_nothing(tmp_path, figures, tiny):
    """The remedy that the message names is taken by the same folder."""
    config = tiny(figures, epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_images=True))
    with pytest.raises(ConfigError, match="lower the batch size"):
        Trainer(override(config, ["batch_size=64"]), tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run").glob("photos*"))
    assert Trainer(config, tmp_path / "run", device="cpu").fit().finished


def test_changed_data_is_refused(tmp_path, draw, tiny, watcher):
    """Other people, or the same with other labels: the run could not go on as if it had never stopped."""
    path = draw(tmp_path / "data", 24)
    config, run = tiny(path), tmp_path / "run"
    assert not Trainer(config, run, device="cpu", observer=watcher(stop_after=4)).fit().finished
    whole = path.read_text()
    document = json.loads(whole)
    for changed in ({**document, "annotations": document["annotations"][:16]}, json.loads(whole)):
        changed["annotations"][3]["bbox"][0] += 1
        path.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=r"figures\.json has changed since this run began \(24 people then"):
            Trainer(config, run, device="cpu")
    path.write_text(whole)
    assert Trainer(config, run, device="cpu").fit().finished
