"""Configurations: written, read, changed by name, and refused where they cannot work."""

import dataclasses
import math

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.errors import ConfigError
from wholepose.training.config import (
    DataConfig,
    SetConfig,
    TrainConfig,
    difference,
    from_json,
    override,
    to_json,
)


def test_round_trip():
    config = TrainConfig(
        recipe="r", data=DataConfig(train=(SetConfig("a.json", weight=0.5), SetConfig("b.json")), val=SetConfig("c"))
    )
    assert from_json(to_json(config), "x") == config
    assert from_json(to_json(TrainConfig()), "x") == TrainConfig()


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("optimiser.lr=1e-4", "optimiser.lr", 1e-4),
        ("optimiser.lr=1", "optimiser.lr", 1.0),
        ("epochs=3", "epochs", 3),
        ("model.input_size=256,192", "model.input_size", (256, 192)),
        ("model.input_size=[256, 192]", "model.input_size", (256, 192)),
        ("schedule.milestones=", "schedule.milestones", ()),
        ("schedule.milestones=5", "schedule.milestones", (5,)),
        ("flip_test=False", "flip_test", False),
        ("flip_test=true", "flip_test", True),
        ("amp=bf16", "amp", "bf16"),
        ("model.init_from=1e-4", "model.init_from", "1e-4"),
        ("data.val=None", "data.val", None),
        ('data.val={"annotations": "v.json"}', "data.val", SetConfig("v.json")),
        ("augment.part_zoom_parts=face,left_hand", "augment.part_zoom_parts", ("face", "left_hand")),
        ('data.train=[{"annotations": "v.json", "weight": 2}]', "data.train", (SetConfig("v.json", weight=2.0),)),
    ],
)
def test_override(assignment, path, value):
    node = override(TrainConfig(), [assignment])
    for name in path.split("."):
        node = getattr(node, name)
    assert node == value
    assert type(node) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimiser.lr", "takes NAME=VALUE"),
        ("optimizer.lr=1", "'optimizer' is not one of"),
        ("optimiser.rate=1", "'rate' is not one of clip_norm, lr"),
        ("epochs.x=1", "'epochs' has no parts"),
        ("epochs=2.5", "must be int, not 2.5"),
        ("epochs=0", "epochs must be at least 1"),
        ("optimiser.lr=fast", "must be float, not 'fast'"),
        ("optimiser.lr=NaN", "must be float, not nan"),
        ("optimiser.lr=Infinity", "must be float, not inf"),
        ("optimiser.lr=-1", "optimiser.lr must be positive"),
        ("amp=int8", "must be one of off, bf16, fp16, not 'int8'"),
        ("model.input_size=100,100", "multiples of 32"),
        ("model.input_size=64", "must be"),
        ("model.decode_kernel=4", "must be an odd number"),
        ("model.decode_kernel=1", "must be an odd number of cells from 3 on, not 1"),
        (f"seed={2**64}", f"seed must be from 0 to {2**64 - 1}"),
        ("augment.flip_probability=2", "flip_probability must be from 0 to 1"),
        ("ema_decay=1", r"ema_decay must lie in \[0, 1\)"),
        ("data.workers=-1", "data.workers must be at least 0"),
        ("batch_size=7", "cannot be split into 2"),
        ("schedule.warmup_start=3", "from 0 to 1"),
        ('data.val={"file": "v.json"}', "has no field 'file'"),
    ],
)
def test_bad_settings_are_named(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(dataclasses.replace(TrainConfig(), accumulate=2), [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "run.json must be TrainConfig"), ("{", "is not JSON"), ('{"epoch": 1}', "has no field 'epoch'")],
)
def test_damaged_files(text, message):
    with pytest.raises(ConfigError, match=message):
        from_json(text, "run.json")


def test_difference_names_what_changes_results():
    old = TrainConfig()
    new = override(old, ["optimiser.lr=1e-4", "data.workers=0", "keep_last=9", "model.input_size=256,192"])
    assert difference(old, new) == ["model.input_size: (384, 288) -> (256, 192)", "optimiser.lr: 0.0005 -> 0.0001"]
    assert difference(old, old) == []
    assert math.isclose(new.optimiser.lr, 1e-4)
