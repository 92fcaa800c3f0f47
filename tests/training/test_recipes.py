"""Recipes: complete, said well, and what the reference does."""

import inspect
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.data.prepare import DATA_SETS
from wholepose.errors import ConfigError
from wholepose.models.posenet import ARCHITECTURES
from wholepose.skeletons import SKELETONS
from wholepose.training.config import PREVIOUS_STAGE, SetConfig, from_json, to_json
from wholepose.training.recipes import RECIPES, Datasets
from wholepose.training.schedule import learning_rate_factor
from wholepose.training.stages import configure_stages
from wholepose.weights.registry import REGISTRY


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name):
    stages = RECIPES[name](Datasets(root=Path("data")))
    for stage in stages:
        assert stage.recipe == name
        assert bool(stage.stage) == (len(stages) > 1)
        assert from_json(to_json(stage), name) == stage
        assert stage.model.arch in ARCHITECTURES
        assert stage.model.skeleton in SKELETONS
        assert f"{stage.model.input_size[0]}x{stage.model.input_size[1]}" in name
        assert stage.model.init_from in ("", PREVIOUS_STAGE, *REGISTRY)
        official = {str(Path("data") / path) for known in DATA_SETS.values() for pair in known.pairs for path in pair}
        for part in (*stage.data.train, stage.data.val):
            assert {part.annotations, part.images} <= official
    assert stages[0].model.init_from != PREVIOUS_STAGE
    text = inspect.getdoc(RECIPES[name])
    for word in ("Command:", "Hardware:", "AP", name, "by us" if "w48" in name or "256" in name else "measured"):
        assert word in text


def test_the_reference_in_numbers():
    coco, halpe = RECIPES["halpe_hrnet_w48_384x288_dark_plus"](Datasets(root=Path("d")))
    for stage in (coco, halpe):
        assert (stage.model.arch, stage.model.input_size) == ("hrnet_w48", (384, 288))
        assert (stage.model.sigma, stage.model.decode_kernel) == (3.0, 17)
        assert (stage.optimiser.name, stage.optimiser.lr, stage.optimiser.weight_decay) == ("adam", 5e-4, 0)
        assert (stage.epochs, stage.batch_size, stage.evaluate_every) == (210, 8 * 32, 10)
        assert (stage.schedule.warmup_steps, stage.schedule.warmup_start) == (500, 0.001)
        assert (stage.schedule.milestones, stage.schedule.gamma) == ((170, 200), 0.1)
        assert stage.augment.part_zoom_probability == stage.augment.colour_probability == 0
    assert (coco.model.skeleton, halpe.model.skeleton) == ("coco17", "halpe136")
    assert halpe.model.init_from == PREVIOUS_STAGE


def test_short_runs_leave_the_warm_up():
    """Sixty steps, as on a set of 64 people: a fifth of them warm up, and not all of 200."""
    (stage,) = RECIPES["small_w24_slim_128x96"](Datasets())
    factors = [learning_rate_factor(stage.schedule, step, 1, 60) for step in range(60)]
    assert factors[0] == stage.schedule.warmup_start
    assert max(factors) == factors[12] > 0.9
    assert learning_rate_factor(stage.schedule, 100, 100, 6000) == pytest.approx(0.5, abs=0.01)
    assert learning_rate_factor(stage.schedule, 200, 100, 6000) > 0.99


def test_named_sets_replace_official_ones():
    named = (SetConfig("a.json", weight=3.0),)
    (stage,) = RECIPES["halpe_hrnet_w48_384x288"](Datasets(train=named))
    assert stage.data.train == named
    assert stage.data.val is None
    (stage,) = RECIPES["halpe_hrnet_w48_384x288"](Datasets(root=Path("d"), val=SetConfig("v.json")))
    assert stage.data.train[0].annotations == str(Path("d/annotations/halpe_train_v1.json"))
    assert stage.data.val == SetConfig("v.json")


def test_settings_of_one_stage():
    stages = RECIPES["halpe_hrnet_w48_384x288_dark_plus"](Datasets(root=Path("d")))
    changed = configure_stages(stages, ["epochs=5", "halpe:epochs=7", "coco:model.init_from=a:b.pth"])
    assert [stage.epochs for stage in changed] == [5, 7]
    assert changed[0].model.init_from == "a:b.pth"
    assert changed[1].model.init_from == PREVIOUS_STAGE
    with pytest.raises(ConfigError, match="no stage 'lsp'; the stages are coco, halpe"):
        configure_stages(stages, ["lsp:epochs=1"])
    with pytest.raises(ConfigError, match="this recipe has one stage"):
        configure_stages(stages[:0] + RECIPES["small_w24_slim_128x96"](Datasets()), ["coco:epochs=1"])
    (plain,) = configure_stages(RECIPES["small_w24_slim_128x96"](Datasets()), ["model.init_from=c:d.pth"])
    assert plain.model.init_from == "c:d.pth"


def test_two_stages_in_one_command(tmp_path, figures, tiny, watcher):
    """The second starts from the first's best without its head, in a folder of its own; both resume as a whole."""
    import dataclasses

    from wholepose.models.checkpoints import load_model
    from wholepose.training.stages import train_stages

    first = tiny(figures, figures, epochs=1, stage="small")
    model = dataclasses.replace(first.model, skeleton="halpe26", init_from=PREVIOUS_STAGE)
    stages = (first, dataclasses.replace(first, model=model, stage="large"))
    observer = watcher(stop_after=5)
    stopped = train_stages(stages, tmp_path / "run", device="cpu", observer=observer)
    assert not stopped.finished
    assert any("best.safetensors: " in line and "skipped head.final_layer.weight" in line for line in observer.lines)
    observer = watcher()
    outcome = train_stages(stages, tmp_path / "run", device="cpu", observer=observer)
    assert len(observer.losses) == 1
    assert outcome.weights == tmp_path / "run" / "large" / "best.safetensors"
    assert load_model(outcome.weights)[1].skeleton == "halpe26"
    assert load_model(tmp_path / "run" / "small" / "best.safetensors")[1].skeleton == "coco17"
    with pytest.raises(ConfigError, match="this is the first stage"):
        train_stages(stages[1:], tmp_path / "other", device="cpu")
