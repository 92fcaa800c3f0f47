"""Recipes: functions that say what to train, on what, and how, as one configuration a stage.

Each states its command, hardware, hours and the AP to expect. Numbers of others are cited as published; where nobody
here has run a recipe, it says so.

A recipe of several stages trains them one after the other, each in a folder of its own below the run's.

The bare ``--`` in the commands keeps ``torchrun`` from taking ``--run`` for an option of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from wholepose.data.augment import AugmentConfig
from wholepose.data.prepare import DATA_SETS
from wholepose.training.config import (
    PREVIOUS_STAGE,
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    ScheduleConfig,
    SetConfig,
    SynthConfig,
    TrainConfig,
)


@dataclass(frozen=True)
class Datasets:
    """What there is to train on: a folder with the official files, or sets by name.

    Attributes:
        root: Folder as ``wholepose data prepare`` fills it.
        train: Sets to train on instead.
        val: The set to validate on instead; without a root, None trains without validation.
        synth: Synthetic people to mix in.
    """

    root: Path | None = None
    train: tuple[SetConfig, ...] = ()
    val: SetConfig | None = None
    synth: SynthConfig = field(default_factory=SynthConfig)

    def choose(self, official: str) -> DataConfig:
        """The sets that were named, else the official ones.

        Args:
            official: ``"halpe"``, ``"coco"`` or ``"coco-wholebody"``.
        """
        if self.root is None:
            return DataConfig(train=self.train, synth=self.synth, val=self.val)
        sets = [
            SetConfig(annotations=str(self.root / annotations), images=str(self.root / images))
            for annotations, images in DATA_SETS[official].pairs
        ]
        return DataConfig(train=self.train or (sets[0],), synth=self.synth, val=self.val or sets[1])


Recipe = Callable[[Datasets], tuple[TrainConfig, ...]]


def coco_hrnet_w48_384x288(data: Datasets) -> tuple[TrainConfig, ...]:
    """HRNet-W48 at 384x288 on the 17 keypoints of COCO: where whole-body models start from.

    Command: ``wholepose data prepare coco --root DATA``, then ``torchrun --nproc-per-node 8 -m -- wholepose train
    coco_hrnet_w48_384x288 --data DATA --run RUN --set amp=bf16 --set model.init_from=IMAGENET.pth``.

    Hardware: 8 GPUs with 24 GB in full precision, 32 people each; on fewer, ``--set accumulate=8`` keeps the batch.
    Hours: not run by us.

    AP: published for this schedule, started from ImageNet weights: 0.772 on COCO val2017 with detected boxes (MMPose
    0.29, hrnet_w48_coco_384x288_dark). Not run by us, and from fresh weights no number is published. ImageNet weights
    are those of the HRNet release or of timm's ``hrnet_w48``, in a local file.
    """
    return (_reference("coco_hrnet_w48_384x288", ModelConfig(skeleton="coco17"), data.choose("coco")),)


def halpe_hrnet_w48_384x288(data: Datasets) -> tuple[TrainConfig, ...]:
    """HRNet-W48 at 384x288 on the 136 keypoints of Halpe, started from a published COCO model.

    Command: ``wholepose data prepare halpe --root DATA``, then ``torchrun --nproc-per-node 8 -m -- wholepose train
    halpe_hrnet_w48_384x288 --data DATA --run RUN --set amp=bf16``. The start weights are
    ``hrnet_w48_384x288.mmpose_coco17``; whoever has the file imports it once: ``wholepose models import FILE``. Their
    head has 17 outputs, is skipped, and the log says so.

    Hardware: as for ``coco_hrnet_w48_384x288``. Hours: not run by us.

    AP: published for this schedule: 0.531, AR 0.642, on Halpe v1 val with person boxes of 56.4 AP (MMPose,
    hrnet_w48_halpe_384x288_dark_plus; its later releases give 0.527 and 0.620). Not run by us. Validation during
    training uses labelled boxes and shows higher numbers.
    """
    model = ModelConfig(init_from="hrnet_w48_384x288.mmpose_coco17")
    return (_reference("halpe_hrnet_w48_384x288", model, data.choose("halpe")),)


def halpe_hrnet_w48_384x288_dark_plus(data: Datasets) -> tuple[TrainConfig, ...]:
    """Both stages of the reference in one command: COCO, then Halpe from the best of COCO.

    Command: ``wholepose data prepare coco --root DATA``, ``wholepose data prepare halpe --root DATA``, then ``torchrun
    --nproc-per-node 8 -m -- wholepose train halpe_hrnet_w48_384x288_dark_plus --data DATA --run RUN --set amp=bf16
    --set coco:model.init_from=IMAGENET.pth``. The stages are called ``coco`` and ``halpe``, in settings and as folders.

    Hardware: as for ``coco_hrnet_w48_384x288``. Hours: not run by us.

    AP: as for ``halpe_hrnet_w48_384x288``, whose published number came about this way.
    """
    name = "halpe_hrnet_w48_384x288_dark_plus"
    return (
        replace(_reference(name, ModelConfig(skeleton="coco17"), data.choose("coco")), stage="coco"),
        replace(_reference(name, ModelConfig(init_from=PREVIOUS_STAGE), data.choose("halpe")), stage="halpe"),
    )


def halpe_hrnet_w32_256x192(data: Datasets) -> tuple[TrainConfig, ...]:
    """HRNet-W32 at 256x192 on Halpe: a third of the time of W48 at 384x288, for servers without a large GPU.

    Command: ``wholepose data prepare halpe --root DATA``, then ``torchrun --nproc-per-node 4 -m -- wholepose train
    halpe_hrnet_w32_256x192 --data DATA --run RUN --set amp=bf16``. The start weights are
    ``hrnet_w32_256x192.mmpose_coco17``; import them once with ``wholepose models import FILE``.

    Hardware: 4 GPUs with 12 GB, 64 people each. Hours: not run by us.

    AP: nothing is published for Halpe at this size, and it was not run by us.
    """
    model = ModelConfig(
        arch="hrnet_w32",
        input_size=(256, 192),
        sigma=2.0,
        decode_kernel=11,
        init_from="hrnet_w32_256x192.mmpose_coco17",
    )
    return (_reference("halpe_hrnet_w32_256x192", model, data.choose("halpe")),)


def small_w24_slim_128x96(data: Datasets) -> tuple[TrainConfig, ...]:
    """A network of 3.3 M parameters at 128x96, small enough to travel inside a package, from fresh weights.

    Command: ``wholepose train small_w24_slim_128x96 --data bodies.json '*3' hands.json faces.json --val dev.json --run
    RUN``; sets that label only a part of the body go together well. With a folder of official files: Halpe.

    Hardware: one GPU, or a processor alone: a step of this network takes 47 people a second on 2 cores with AVX2, so
    10 epochs of 10,000 people are 40 minutes there plus the time to make samples.

    Warm-up: 200 steps, but at most a fifth of the run, so that a set of a few hundred people is learnt too.

    AP: not measured yet at this length; the ``models`` command shows what embedded weights measured.
    """
    return (_small("small_w24_slim_128x96", (128, 96), data),)


def small_w24_slim_256x192(data: Datasets) -> tuple[TrainConfig, ...]:
    """The same small network at 256x192: four times the work, for finer faces and hands.

    Command: ``wholepose train small_w24_slim_256x192 --data bodies.json hands.json --val dev.json --run RUN``.

    Hardware: one GPU. Hours: not run by us.

    AP: not run by us.
    """
    return (_small("small_w24_slim_256x192", (256, 192), data),)


def small_w24_slim_256x192_synth(data: Datasets) -> tuple[TrainConfig, ...]:
    """The small network at 256x192 on synthetic people, drawn while it trains, mixed with the sets that are named.

    Command: ``wholepose train small_w24_slim_256x192_synth --run RUN`` needs no data at all; with annotated sets, whose
    labels may be partial: ``--data bodies.json hands.json '*0.5' synth:20000 --val dev.json``. Looks: ``--set
    data.synth.assets=DIR``, ``--set data.synth.backgrounds=PHOTOS``, ``--set data.synth.clean=true``.

    Hardware: drawing takes more than a small network's step, so it wants cores: a core draws about 12 people a second,
    and ``--set data.workers=16`` keeps sixteen busy.

    AP: not run by us at this length.
    """
    config = _small("small_w24_slim_256x192_synth", (256, 192), data)
    synth = replace(config.data.synth, people=config.data.synth.people or 20_000)
    return (replace(config, data=replace(config.data, synth=synth)),)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (
            coco_hrnet_w48_384x288,
            halpe_hrnet_w48_384x288,
            halpe_hrnet_w48_384x288_dark_plus,
            halpe_hrnet_w32_256x192,
            small_w24_slim_128x96,
            small_w24_slim_256x192,
            small_w24_slim_256x192_synth,
        )
    }
)
"""The recipes by name."""


def _reference(recipe: str, model: ModelConfig, data: DataConfig) -> TrainConfig:
    """The reference's schedule: 210 epochs of Adam in batches of 256, a tenth of the rate from 170 and from 200.

    Its warm-up of 500 steps is cut to a fifth of the run on less than 12 steps an epoch, about 3,000 people.
    """
    return TrainConfig(recipe=recipe, model=model, data=replace(data, workers=4))


def _small(recipe: str, input_size: tuple[int, int], data: Datasets) -> TrainConfig:
    """Small networks from nothing: AdamW, cosine, averaged weights, and more kinds of variation."""
    return TrainConfig(
        recipe=recipe,
        model=ModelConfig(
            arch="hrnet_w24_slim_f96", input_size=input_size, sigma=2.0, decode_kernel=11, init="kaiming"
        ),
        optimiser=OptimiserConfig(name="adamw", lr=2e-3, weight_decay=0.01, clip_norm=1.0),
        schedule=ScheduleConfig(name="cosine", warmup_steps=200),
        augment=AugmentConfig(
            scale=0.35,
            part_zoom_probability=0.3,
            colour_probability=0.5,
            blur_probability=0.2,
            jpeg_probability=0.2,
            occlusion_probability=0.3,
        ),
        data=data.choose("halpe"),
        epochs=60,
        batch_size=64,
        ema_decay=0.999,
        evaluate_every=2,
    )
