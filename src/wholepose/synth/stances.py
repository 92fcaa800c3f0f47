"""Stances: what hips and knees do when people stand, walk, run, sit, crouch, kneel, lie or jump."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from wholepose.synth.rotations import Matrix, about

Rotations = dict[str, Matrix]

SIDES = ("L", "R")


@dataclasses.dataclass
class Pose:
    """Rotations of the bones, and what the body rests on."""

    kind: str
    rotations: Rotations
    seated: bool = False
    """Sits on something as high as the thighs."""
    lifted_m: float = 0.0
    """How far the lowest point is above the ground."""


def _leg(rotations: Rotations, side: str, flex: float, knee: float, out: float = 0.0, turn: float = 0.0) -> None:
    """Hip forward, knee bend, hip sideways and turn out, degrees."""
    sign = 1.0 if side == "L" else -1.0
    hip = about([1, 0, 0], -flex) @ about([0, 1, 0], -sign * out)
    rotations[f"upperleg01.{side}"] = hip @ about([0, 0, 1], sign * turn * 0.5)
    rotations[f"upperleg02.{side}"] = about([0, 0, 1], sign * turn * 0.5)
    rotations[f"lowerleg01.{side}"] = about([1, 0, sign * 0.09], max(knee, 0.0))


def _stand(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    wide = generator.uniform(-9, 10)  # legs at rest stand about 20 degrees apart
    for side in SIDES:
        bend = abs(generator.normal(0, 5))
        _leg(
            rotations,
            side,
            bend * 0.6 + generator.normal(0, 4),
            bend,
            wide + generator.normal(0, 3),
            generator.normal(3, 8),
        )
    if generator.random() < 0.35:  # weight on one leg
        side = str(generator.choice(SIDES))
        _leg(
            rotations,
            side,
            generator.uniform(5, 30),
            generator.uniform(10, 45),
            generator.uniform(-4, 12),
            generator.uniform(0, 25),
        )
    return Pose("stand", rotations)


def _walk(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    stride = generator.uniform(10, 32)
    ahead, behind = SIDES if generator.random() < 0.5 else SIDES[::-1]
    narrow = generator.uniform(-10, -4)
    _leg(rotations, ahead, stride + generator.normal(0, 4), generator.uniform(0, 25), narrow)
    _leg(rotations, behind, -stride * 0.7, generator.uniform(5, 45), narrow)
    rotations["root"] = about([1, 0, 0], generator.uniform(-2, 6))
    return Pose("walk", rotations)


def _run(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    ahead, behind = SIDES if generator.random() < 0.5 else SIDES[::-1]
    _leg(rotations, ahead, generator.uniform(30, 75), generator.uniform(30, 100), -6)
    _leg(rotations, behind, generator.uniform(-25, 5), generator.uniform(20, 100), -6)
    rotations["root"] = about([1, 0, 0], generator.uniform(4, 18))
    return Pose("run", rotations, lifted_m=float(generator.choice([0.0, 0.0, 0.08])))


def _sit(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    lean = generator.uniform(-18, 10)
    for side in SIDES:
        flex = 88 + lean * 0.5 + generator.normal(0, 6)
        _leg(rotations, side, flex, generator.uniform(45, 110), generator.uniform(-10, 12), generator.normal(0, 8))
    if generator.random() < 0.2:  # one leg over the other
        side = str(generator.choice(SIDES))
        _leg(rotations, side, 103, generator.uniform(60, 95), -17, -8)
    rotations["root"] = about([1, 0, 0], lean)
    return Pose("sit", rotations, seated=True)


def _sit_ground(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    lean = generator.uniform(-25, 5)
    crossed = generator.random() < 0.35
    for side in SIDES:
        if crossed:
            _leg(rotations, side, 78 + generator.normal(0, 5), generator.uniform(110, 128), 30, 38)
        else:
            bend = generator.uniform(0, 110)
            _leg(rotations, side, 80 + bend * 0.42 + lean, bend, generator.uniform(-8, 14), generator.normal(4, 8))
    rotations["root"] = about([1, 0, 0], lean)
    return Pose("sit_ground", rotations)


def _crouch(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    depth = generator.uniform(0.35, 1.0)
    for side in SIDES:
        _leg(
            rotations,
            side,
            118 * depth + generator.normal(0, 6),
            130 * depth + generator.normal(0, 6),
            generator.uniform(-4, 22),
            generator.uniform(0, 15),
        )
    rotations["root"] = about([1, 0, 0], generator.uniform(10, 40) * depth)
    return Pose("crouch", rotations)


def _kneel(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    down, up = SIDES if generator.random() < 0.5 else SIDES[::-1]
    sits_back = generator.uniform(0, 55)
    _leg(rotations, down, sits_back, 90 + sits_back * 0.9, generator.uniform(-8, 5))
    if generator.random() < 0.5:
        _leg(rotations, up, 88 + generator.normal(0, 6), generator.uniform(80, 100), generator.uniform(-8, 8))
    else:
        _leg(rotations, up, sits_back + generator.normal(0, 4), 90 + sits_back * 0.9, generator.uniform(-8, 5))
    for side in SIDES:
        rotations[f"foot.{side}"] = about([1, 0, 0], 35)
    rotations["root"] = about([1, 0, 0], generator.uniform(-4, 10))
    return Pose("kneel", rotations)


def _lie(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    for side in SIDES:
        bend = generator.choice([0.0, 1.0]) * generator.uniform(0, 100)
        _leg(rotations, side, bend * 0.55, bend, generator.uniform(-10, 14), generator.normal(0, 10))
    roll = float(generator.choice([0.0, 180.0, 90.0, -90.0], p=[0.5, 0.2, 0.15, 0.15])) + generator.normal(0, 8)
    rotations["root"] = about([0, 1, 0], roll) @ about([1, 0, 0], -90)
    return Pose("lie", rotations)


def _jump(generator: np.random.Generator) -> Pose:
    rotations: Rotations = {}
    for side in SIDES:
        bend = generator.uniform(0, 110)
        _leg(
            rotations,
            side,
            bend * generator.uniform(0.1, 0.9),
            bend,
            generator.uniform(-8, 30),
            generator.normal(0, 8),
        )
        rotations[f"foot.{side}"] = about([1, 0, 0], generator.uniform(0, 40))
    return Pose("jump", rotations, lifted_m=float(generator.uniform(0.05, 0.6)))


STANCES: Mapping[str, Callable[[np.random.Generator], Pose]] = MappingProxyType(
    {
        "stand": _stand,
        "walk": _walk,
        "run": _run,
        "sit": _sit,
        "sit_ground": _sit_ground,
        "crouch": _crouch,
        "kneel": _kneel,
        "lie": _lie,
        "jump": _jump,
    }
)
"""Draws a pose with nothing but legs and, where it leans or lies, the root."""
