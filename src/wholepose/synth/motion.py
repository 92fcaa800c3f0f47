"""Clips: people who keep their looks while they walk by or change from pose to pose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from wholepose.synth.annotate import SynthSample
from wholepose.synth.people import SynthPeople
from wholepose.synth.person import Identity, Person
from wholepose.synth.rotations import Matrix, about, from_vector, to_vector
from wholepose.synth.stage import Stage, draw_camera, draw_light
from wholepose.synth.stances import Pose

_HOLD_S = 0.9
_STRIDE_HZ = 0.95


@dataclasses.dataclass
class _Actor:
    identity: Identity
    keys: list[Pose]
    expressions: list[dict[str, float]]
    place: tuple[float, float]
    yaw_deg: float
    speed_m_s: float
    phase: float


def draw_clip(people: SynthPeople, index: int, frames: int, fps: float = 25.0) -> Iterator[SynthSample]:
    """Draws the frames of clip number `index`.

    Args:
        people: Gives size, looks, backgrounds and the seed.
        index: Number of the clip.
        frames: How many frames.
        fps: Frames a second.

    Yields:
        The frames; `person_ids` say who is who.
    """
    casting, _ = people.load()
    generator = np.random.default_rng([people.seed, index, 2])
    count = int(generator.integers(people.people[0], people.people[1] + 1))
    seconds = frames / fps
    actors = []
    for number in range(count):
        identity = casting.identity(generator)
        walks = generator.random() < 0.5
        keys, expressions = [], []
        for _ in range(2 if walks else int(seconds / _HOLD_S) + 2):
            pose, expression = casting.pose(
                generator, identity, "stand" if generator.random() < 0.8 or walks else "crouch"
            )
            keys.append(pose)
            expressions.append(expression)
        speed = float(generator.uniform(0.7, 1.4)) if walks else 0.0
        yaw = (
            float(generator.choice([-90, 90])) + float(generator.normal(0, 25))
            if walks
            else float(generator.normal(0, 45))
        )
        place = ((number - (count - 1) / 2) * 0.9, float(generator.uniform(-0.7, 0.7)))
        actors.append(_Actor(identity, keys, expressions, place, yaw, speed, float(generator.random())))
    light = draw_light(generator)
    noise_seed = int(generator.integers(2**31))
    middle = [_build(people, actor, number, seconds / 2, seconds) for number, actor in enumerate(actors)]
    camera = draw_camera(generator, middle, people.size, "group")
    background = people.background(generator, camera)
    for frame in range(frames):
        cast = [_build(people, actor, number, frame / fps, seconds) for number, actor in enumerate(actors)]
        stage = Stage(cast, [], camera, light)
        # The same random numbers each frame: exposure and blur must not flicker.
        yield people.picture(np.random.default_rng(noise_seed), stage, people.size, background=background)


def _build(people: SynthPeople, actor: _Actor, number: int, time_s: float, seconds: float) -> Person:
    casting, _ = people.load()
    heading = about([0, 0, 1], actor.yaw_deg)
    if actor.speed_m_s > 0:
        rotations = dict(actor.keys[0].rotations)
        rotations.update(_stride(time_s, actor.phase, actor.speed_m_s))
        forward = heading @ np.array([0.0, -1.0, 0.0]) * actor.speed_m_s * (time_s - seconds / 2)
        place = (actor.place[0] + float(forward[0]), actor.place[1] + float(forward[1]))
        pose, expression = Pose("walk", rotations), actor.expressions[0]
    else:
        position = time_s / _HOLD_S + actor.phase
        first = int(position) % (len(actor.keys) - 1)
        share = position - int(position)
        share = share * share * (3 - 2 * share)
        pose = Pose("stand", _mix(actor.keys[first].rotations, actor.keys[first + 1].rotations, share))
        before, after = actor.expressions[first], actor.expressions[first + 1]
        expression = {
            name: (1 - share) * before.get(name, 0.0) + share * after.get(name, 0.0) for name in {*before, *after}
        }
        place = actor.place
    return casting.build(actor.identity, pose, expression, person=number, place=place, turn=heading)


def _stride(time_s: float, phase: float, speed_m_s: float) -> dict[str, Matrix]:
    """Legs and arms of a walk."""
    rotations: dict[str, Matrix] = {}
    swing = 14 + 11 * speed_m_s
    for side, shift in (("L", 0.0), ("R", 0.5)):
        angle = 2 * np.pi * (time_s * _STRIDE_HZ + phase + shift)
        sign = 1.0 if side == "L" else -1.0
        hip = swing * np.sin(angle) + 3
        knee = 6 + 50 * max(0.0, np.cos(angle)) ** 2
        rotations[f"upperleg01.{side}"] = about([1, 0, 0], -hip) @ about([0, 1, 0], sign * 7)
        rotations[f"upperleg02.{side}"] = np.eye(3)
        rotations[f"lowerleg01.{side}"] = about([1, 0, sign * 0.09], knee)
        rotations[f"foot.{side}"] = about([1, 0, 0], float(np.clip(hip - knee, -20, 25)))
    return rotations


def _mix(first: dict[str, Matrix], second: dict[str, Matrix], share: float) -> dict[str, Matrix]:
    """Rotations part of the way from one pose to another, the short way round."""
    result = {}
    for bone in {*first, *second}:
        start = first.get(bone, np.eye(3))
        end = second.get(bone, np.eye(3))
        result[bone] = start @ from_vector(to_vector(start.T @ end) * share)
    return result
