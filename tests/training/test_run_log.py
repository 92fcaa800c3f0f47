"""The log of a run, and what TensorBoard reads of it."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("tensorboard", reason="needs the [train] extra")

from wholepose.training.run_log import RunLog
from wholepose.training.trainer import Trainer


def read_board(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    board.Reload()
    return board


def test_tensorboard_of_a_run_reads_back(tmp_path, figures, tiny):
    run = tmp_path / "run"
    Trainer(tiny(figures, figures, epochs=1), run, device="cpu").fit()
    board = read_board(run / "tensorboard")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    train, val = ([line for line in lines if line["mode"] == mode] for mode in ("train", "val"))
    losses = board.Scalars("train/heatmap_loss")
    assert [event.step for event in losses] == [2]
    assert losses[0].value == pytest.approx(train[0]["heatmap_loss"], rel=1e-6)
    assert board.Scalars("train/lr")[0].value == pytest.approx(train[0]["lr"], rel=1e-6)
    assert board.Scalars("val/AP")[0].value == pytest.approx(val[0]["AP"], abs=1e-6)
    assert [event.step for event in board.Scalars("val/AP")] == [3]
    import cv2

    picture = board.Images("val/person_0")[0]
    pixels = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (256, 512, 3)  # 64 x 64 crops, four times as large, twice
    assert pixels.std() > 10


def test_lines_after_the_checkpoint_are_written_again(tmp_path):
    log = RunLog(tmp_path)
    log.write({"mode": "train", "epoch": 1, "iter": 1, "heatmap_loss": 0.5}, 1)
    length = log.sync()
    log.write({"mode": "train", "epoch": 1, "iter": 2, "heatmap_loss": 0.9}, 2)
    log.close()
    again = RunLog(tmp_path, length, step=1)
    again.write({"mode": "train", "epoch": 1, "iter": 2, "heatmap_loss": 0.4}, 2)
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["heatmap_loss"] for line in lines] == [0.5, 0.4]
    events = read_board(tmp_path / "tensorboard").Scalars("train/heatmap_loss")
    assert [(event.step, round(event.value, 3)) for event in events] == [(1, 0.5), (2, 0.4)]


def test_a_log_that_lost_its_end_is_not_filled_up(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"mode": "train"}\n')
    log = RunLog(tmp_path, 5000, step=9)
    log.write({"mode": "val"}, 10)
    log.close()
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"mode": "train"}\n{"mode": "val"}\n'
