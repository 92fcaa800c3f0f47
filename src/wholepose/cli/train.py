"""Trains a model by a recipe, in a folder where it can be taken up again.

RECIPE is a name from --list. The same command once more goes on where the run was stopped, by Ctrl-C, a power cut or
the end of its time; everything about a run is in its folder.
"""

from __future__ import annotations

import argparse
import inspect
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wholepose.errors import AnnotationError, ConfigError, require

if TYPE_CHECKING:
    from wholepose.training.config import SetConfig, SynthConfig, TrainConfig
    from wholepose.training.recipes import Datasets
    from wholepose.training.trainer import MakePainter

_EPILOG = """\
examples:
  wholepose train --list
  wholepose train halpe_hrnet_w48_384x288_dark_plus --describe
  wholepose train halpe_hrnet_w48_384x288 --data datasets/ --run runs/halpe
  wholepose train small_w24_slim_128x96 --data bodies.json hands.json:photos/ '*0.5' --val dev.json --run runs/small
  wholepose train small_w24_slim_128x96 --data bodies.json --run runs/quick --set epochs=5 --set optimiser.lr=1e-3
  torchrun --nproc-per-node 8 -m -- wholepose train halpe_hrnet_w48_384x288 --data datasets/ --run runs/halpe

--data:
  FOLDER             the official files, laid out as `wholepose data prepare` does; the recipe chooses among them
  FILE.json ...      annotation files to train on instead; their pictures lie in the file's folder
  FILE.json:FOLDER   its pictures lie in FOLDER
  *WEIGHT            after a file: how often an epoch shows each of its people, such as '*3' or '*0.25'
  synth:PEOPLE       so many synthetic people an epoch on top, drawn on the fly (the [synth] extra); see data.synth in
                     --describe

what comes to lie in --run DIR (with several stages, in DIR/STAGE):
  best.safetensors   the weights with the best AP in validation, last.safetensors those of the last epoch
  config.json        every setting; log.jsonl, tensorboard/ the course of it; checkpoints/ what a restart needs

exit codes: 0 trained, 1 failed, 2 bad usage, 130 or 143 interrupted (saved: the same command goes on)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose train``."""
    parser.epilog = _EPILOG
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="what to train; see --list")
    parser.add_argument("--list", action="store_true", help="print the recipes and exit")
    parser.add_argument("--describe", action="store_true", help="print the recipe's text and settings and exit")
    parser.add_argument("--data", nargs="+", default=[], metavar="DATA", help="what to train on; see below")
    parser.add_argument("--val", metavar="FILE", help="annotation file to validate on, or FILE.json:FOLDER")
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder of the run; made if missing")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="change a setting, such as optimiser.lr=1e-4, or halpe:epochs=100 in one stage; repeatable",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps; default: auto")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no messages but errors")


def run(options: argparse.Namespace) -> int:
    """Trains, or tells about recipes.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0 when the run is finished, 128 plus the signal's number when one stopped it.

    Raises:
        ConfigError: Options contradict each other, or a setting cannot work.
        WholeposeError: Data or weights cannot be used, or training cannot go on.
        OSError: Something could not be written.
    """
    from wholepose.training.recipes import RECIPES

    if options.list:
        for name, recipe in RECIPES.items():
            print(f"{name}\n    {_first_line(recipe.__doc__)}")
        return 0
    if options.recipe is None:
        raise ConfigError("name a recipe; wholepose train --list shows them")
    if options.recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {options.recipe!r}; there are {', '.join(RECIPES)}")
    from wholepose.training.stages import configure_stages

    recipe = RECIPES[options.recipe]
    stages = configure_stages(recipe(_datasets(options)), options.settings)
    if options.describe:
        _describe(inspect.getdoc(recipe) or "", stages)
        return 0
    if options.run is None:
        raise ConfigError("say where the run shall live: --run DIR")
    if not all(stage.data.train or stage.data.synth.people for stage in stages):
        raise ConfigError("say what to train on: --data FOLDER, --data FILE.json ..., or --data synth:20000")
    if len(stages) > 1 and any(".json" in word for word in options.data):
        raise ConfigError(
            f"{options.recipe} has the stages {', '.join(stage.stage for stage in stages)}, each on its own data: give "
            "--data the folder that `wholepose data prepare` filled"
        )
    return _train(options, stages)


def _train(options: argparse.Namespace, stages: tuple[TrainConfig, ...]) -> int:
    require("torch", "train")
    for part in (part for stage in stages for part in (*stage.data.train, stage.data.val) if part is not None):
        if not Path(part.annotations).is_file():
            raise AnnotationError(f"{part.annotations}: no such file; `wholepose data prepare` says how to get it")
    from wholepose.training import processes
    from wholepose.training.stages import train_stages

    first, _ = processes.join()
    display = None if options.quiet or first else _Display()
    try:
        outcome = train_stages(
            stages, options.run, device=options.device, observer=display, make_painter=_painter_for(stages, display)
        )
    finally:
        if display:
            display.close()
        processes.leave()
    if outcome.stopped_by is not None:
        if display:
            name = signal.Signals(outcome.stopped_by).name
            display.said(f"stopped by {name}, all of it saved in {options.run}; the same command goes on from here")
        return 128 + outcome.stopped_by
    if display:
        found = f", AP {outcome.best_ap:.4f} in validation" if outcome.best_ap >= 0 else ""
        display.said(f"finished{found}: {outcome.weights}")
    return 0


def _painter_for(stages: tuple[TrainConfig, ...], display: _Display | None) -> MakePainter | None:
    """Who draws synthetic people, where a stage asks for them."""
    if not any(stage.data.synth.people for stage in stages):
        return None
    from wholepose.synth.painter import make_painter

    if display:
        display.said("synthetic people: the first time, their body is built, which takes two minutes")

    return make_painter


def _datasets(options: argparse.Namespace) -> Datasets:
    """What ``--data`` and ``--val`` name."""
    from wholepose.training.recipes import Datasets

    val = _set_of(options.val) if options.val else None
    words = [word for word in options.data if not word.startswith("synth:")]
    synth = _synth_of([word for word in options.data if word.startswith("synth:")])
    if len(words) == 1 and Path(words[0]).is_dir():
        return Datasets(root=Path(words[0]), val=val, synth=synth)
    sets: list[SetConfig] = []
    for word in words:
        if word.startswith("*"):
            if not sets:
                raise ConfigError(f"--data {word}: a weight follows the file that it is for")
            sets[-1] = _weighted(sets[-1], word)
        else:
            sets.append(_set_of(word))
    return Datasets(train=tuple(sets), val=val, synth=synth)


def _synth_of(words: list[str]) -> SynthConfig:
    """Reads ``synth:PEOPLE``."""
    from wholepose.training.config import SynthConfig

    if not words:
        return SynthConfig()
    if len(words) > 1:
        raise ConfigError(f"--data {' '.join(words)}: synthetic people can be asked for once")
    people = words[0].removeprefix("synth:")
    if not people.isdecimal() or int(people) < 1:
        raise ConfigError(f"--data {words[0]}: say how many people an epoch, such as synth:20000")
    return SynthConfig(people=int(people))


def _set_of(word: str) -> SetConfig:
    """Reads ``FILE.json``, ``FILE.json:FOLDER``, and either with ``*WEIGHT`` at its end."""
    from wholepose.training.config import SetConfig

    text, star, weight = word.rpartition("*") if ".json" in word.rpartition("*")[0] else (word, "", "")
    file, _, folder = text.partition(".json:")
    path = Path(f"{file}.json" if folder or text.endswith(".json:") else text)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name one folder of official files alone, or annotation files")
    if not path.is_file():
        raise ConfigError(f"{path}: no such annotation file")
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"{folder}: no such folder of pictures")
    found = SetConfig(annotations=str(path), images=folder)
    return _weighted(found, f"*{weight}") if star else found


def _weighted(part: SetConfig, word: str) -> SetConfig:
    from dataclasses import replace

    try:
        weight = float(word[1:])
    except ValueError:
        raise ConfigError(f"--data {word}: a weight is a number, such as *3 or *0.25") from None
    if not 0 < weight < float("inf"):
        raise ConfigError(f"--data {word}: a weight must be positive")
    return replace(part, weight=weight)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _describe(text: str, stages: tuple[TrainConfig, ...]) -> None:
    from wholepose.training.config import to_json

    print(text)
    for stage in stages:
        print(f"\n{f'stage {stage.stage}' if stage.stage else 'settings'}:")
        print(to_json(stage), end="")


class _Display:
    """The progress bar, and lines above it."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit=" steps", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)
        self._epochs = 0

    def started(self, config: TrainConfig, steps: int, done: int) -> None:
        """A stage begins."""
        self._epochs = config.epochs
        self._bar.reset(total=steps)
        self._bar.initial = self._bar.n = done  # the time left is reckoned from the steps of this session
        self._bar.set_description(config.stage or config.recipe)

    def stepped(self, epoch: int, loss: float, lr: float) -> None:
        """An optimiser step is done."""
        self._bar.set_postfix_str(f"epoch {epoch}/{self._epochs}, loss {loss:.2e}, lr {lr:.1e}", refresh=False)
        self._bar.update()

    def said(self, message: str) -> None:
        """Prints a line."""
        from tqdm import tqdm

        tqdm.write(f"wholepose: {message}", file=sys.stderr)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()
