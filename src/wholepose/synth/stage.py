"""Scenes: who stands where, what is in the way, where the camera is, what light falls."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wholepose.skeletons import HALPE136
from wholepose.synth.garments import random_color
from wholepose.synth.person import Casting, Identity, Person
from wholepose.synth.props import ball, box, tube
from wholepose.synth.render import Camera, Light, Material, Surface, look_at
from wholepose.synth.rotations import about

THING = 1000
"""The person number of furniture, bags and occluders."""

_LOWER_LIMITS = {"full": 1.0, "knees": 0.62, "waist": 0.42, "chest": 0.27, "head": 0.17}
"""How much of a standing person's height, from the top, each framing shows."""


@dataclasses.dataclass
class Stage:
    """A scene and how it is seen."""

    people: list[Person]
    things: list[Surface]
    camera: Camera
    light: Light


def draw_stage(
    generator: np.random.Generator,
    casting: Casting,
    size: tuple[int, int],
    count: int,
    *,
    framing: str | None = None,
    cast: list[Identity] | None = None,
) -> Stage:
    """Draws a scene.

    Args:
        generator: Random numbers.
        casting: Makes the people.
        size: (height, width) of the picture, which the camera frames.
        count: How many people.
        framing: How much of the first person the camera takes in (``full``, ``knees``, ``waist``, ``chest``, ``head``,
            or ``group`` for all people); drawn when None.
        cast: Who the people are; drawn when None.
    """
    people: list[Person] = []
    places: list[tuple[float, float]] = []
    spread = 0.5 + 0.35 * count
    facing = generator.random() < 0.5
    for number in range(count):
        identity = cast[number] if cast is not None else casting.identity(generator)
        pose, expression = casting.pose(generator, identity)
        yaw = (
            generator.normal(0, 38) if generator.random() < (0.75 if facing else 0.45) else generator.uniform(-180, 180)
        )
        place = _free_place(generator, places, spread, 1.0 if pose.kind == "lie" else 0.62)
        places.append(place)
        people.append(
            casting.build(identity, pose, expression, person=number, place=place, turn=about([0, 0, 1], float(yaw)))
        )
    camera = draw_camera(generator, people, size, framing)
    people = _not_in_the_way(people, camera)
    things: list[Surface] = []
    for person in people:
        things += _belongings(generator, person)
    if generator.random() < 0.16:
        things += _occluders(generator, people[0], camera)
    return Stage(people, things, camera, draw_light(generator))


def _not_in_the_way(people: list[Person], camera: Camera) -> list[Person]:
    """Leaves out people who stand right before the camera, and numbers the others anew."""
    _, depths = camera.project(np.stack([person.keypoints[19] for person in people]))
    kept = [person for person, depth in zip(people, depths, strict=True) if depth > max(0.5, 0.5 * depths[0])]
    kept = kept if kept and kept[0] is people[0] else [people[0], *kept]
    for number, person in enumerate(kept):
        for surface in person.surfaces:
            surface.person = number
    return kept


def _free_place(
    generator: np.random.Generator, taken: list[tuple[float, float]], spread: float, apart: float
) -> tuple[float, float]:
    if not taken:
        return (0.0, 0.0)
    for _ in range(30):
        place = (float(generator.uniform(-spread, spread)), float(generator.uniform(-spread * 0.8, spread * 1.2)))
        if min(np.hypot(place[0] - x, place[1] - y) for x, y in taken) > apart:
            return place
        spread += 0.08
    return (max(x for x, _ in taken) + apart, 0.0)


def draw_camera(
    generator: np.random.Generator, people: list[Person], size: tuple[int, int], framing: str | None = None
) -> Camera:
    """Draws a camera that takes in people; see :func:`draw_stage` for `framing`."""
    height, width = size
    if framing is None:
        framing = str(
            generator.choice(["group", "full", "knees", "waist", "chest", "head"], p=[0.3, 0.3, 0.12, 0.14, 0.09, 0.05])
        )
    main = people[0]
    if framing == "group":
        points = np.concatenate([_outline(person) for person in people])
    else:
        points = _outline(main)
        crown = float(main.keypoints[17, 2])
        upright = crown - main.keypoints[11:17, 2].min() > 0.6 * main.height_m
        if framing != "full" and upright:  # raised hands may be cut off, the face may not
            shown = points[:, 2] - crown
            points = points[(shown >= -_LOWER_LIMITS[framing] * main.height_m) & (shown < 0.12)]
        elif framing in ("chest", "head"):
            points = main.keypoints[np.r_[0:7, 17, 18, 26:94]]
    low, high = points.min(axis=0), points.max(axis=0)
    target = (low + high) / 2
    extent = np.maximum(high - low, 0.15)
    view = np.deg2rad(generator.uniform(22, 62) if framing != "head" else generator.uniform(30, 78))
    fill = generator.uniform(0.5, 0.95)
    if framing in ("full", "group") and generator.random() < 0.15:  # from afar
        fill = generator.uniform(0.15, 0.5)
    longest = max(height, width)
    focal = longest / 2 / np.tan(view / 2)
    across = float(np.hypot(extent[0], 0.3 * extent[1]))
    distance = focal * max(float(extent[2]) / (height * fill), across / (width * fill)) + float(extent[1]) / 2
    kind = generator.random()
    eye = float(target[2] * generator.uniform(0.6, 1.1) + generator.normal(0.25, 0.25))
    if kind < 0.1:
        eye = float(target[2] + distance * generator.uniform(0.3, 1.0))
    elif kind < 0.16:
        eye = 0.2
    eye = float(np.clip(eye, 0.15, max(2.5, target[2] + 0.9 * distance)))
    flat = float(np.sqrt(max(distance**2 - (eye - target[2]) ** 2, (0.45 * distance) ** 2)))
    azimuth = generator.normal(0, 0.15)
    position = np.array([target[0] + flat * np.sin(azimuth), target[1] - flat * np.cos(azimuth), eye])
    middle = (
        (width - 1) / 2 + generator.normal(0, 0.06) * width,
        (height - 1) / 2 + generator.normal(0, 0.05) * height,
    )
    roll = float(generator.normal(0, 2.5)) if generator.random() < 0.85 else float(generator.normal(0, 15))
    distortion = float(generator.uniform(-0.12, 0.03)) if generator.random() < 0.3 else 0.0
    return look_at(position, target, float(focal), middle, roll_deg=roll, distortion=distortion)


def _outline(person: Person) -> NDArray[np.float64]:
    corners = np.stack([person.low, person.high]).astype(np.float64)
    return np.concatenate([person.keypoints.astype(np.float64), corners])


def draw_light(generator: np.random.Generator) -> Light:
    """Draws sun or lamp, sky and bounce; together they light a white wall to about 1."""
    elevation = np.deg2rad(generator.uniform(12, 80))
    azimuth = generator.uniform(0, 2 * np.pi) if generator.random() < 0.6 else generator.normal(-np.pi / 2, 0.9)
    sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    kind = generator.random()
    strength, sky = (
        (generator.uniform(0.7, 1.3), generator.uniform(0.3, 0.5))
        if kind < 0.45
        else (generator.uniform(0.05, 0.3), generator.uniform(0.65, 0.95))
        if kind < 0.75
        else (generator.uniform(0.35, 0.8), generator.uniform(0.25, 0.55))
    )
    warm = generator.normal(0, 0.1)
    return Light(
        sun=sun,
        sun_color=strength * np.array([1 + 0.6 * abs(warm), 1.0, 1 - 0.8 * abs(warm)]),
        sky=sky * np.array([1 - 0.5 * warm, 1.0, 1 + 0.7 * warm]),
        bounce=sky * generator.uniform(0.35, 0.85) * np.array([1.05, 1.0, 0.92]),
        side=generator.normal(0, 0.3, 3) * np.array([1, 1, 0.3]),
        ground=0.0,
        occlusion_m=float(generator.uniform(0.18, 0.4)),
    )


def _random_material(generator: np.random.Generator) -> Material:
    return Material(
        color=random_color(generator),
        color2=random_color(generator),
        pattern=int(generator.choice([0, 0, 0, 1, 3, 5])),
        pattern_scale=float(generator.uniform(3, 20)),
        mottle=float(generator.uniform(0, 0.12)),
        specular=float(generator.choice([0.0, 0.1, 0.4])),
        shininess=30.0,
        seed=int(generator.integers(1, 90_000)),
    )


_INDEX = {name: number for number, name in enumerate(HALPE136.keypoint_names)}


def _belongings(generator: np.random.Generator, person: Person) -> list[Surface]:
    """What a person sits on, carries or holds."""
    points = person.keypoints.astype(np.float64)
    scale = person.height_m / 1.75
    hip = points[_INDEX["hip"]]
    across = points[_INDEX["left_hip"]] - points[_INDEX["right_hip"]]
    across /= np.linalg.norm(across)
    up = points[_INDEX["neck"]] - hip
    up /= np.linalg.norm(up)
    back = np.cross(across, up)  # left x up points behind the person
    back = -back if back @ (points[_INDEX["nose"]] - points[_INDEX["neck"]]) > 0 else back
    result: list[Surface] = []
    if person.pose.seated and generator.random() < 0.8:
        level = np.array([across[0], across[1], 0.0])
        level /= np.linalg.norm(level)
        frame = np.stack([level, np.array([-level[1], level[0], 0.0]), [0.0, 0.0, 1.0]], axis=1)
        top = max(float(hip[2]) - 0.115 * scale, 0.1)
        wide, deep = generator.uniform(0.38, 0.9), generator.uniform(0.34, 0.48)
        behind = np.array([back[0], back[1], 0.0]) * 0.02
        material = _random_material(generator)
        low = 0.0 if generator.random() < 0.5 else top - 0.06
        seat = np.array([hip[0], hip[1], (top + low) / 2]) + behind
        result.append(box(seat, np.array([wide, deep, top - low]), material, THING, frame))
        if low > 0:
            for x in (-1, 1):
                for y in (-1, 1):
                    foot = frame @ np.array([x * wide * 0.45, y * deep * 0.45, 0.0]) + np.array([seat[0], seat[1], 0.0])
                    result.append(tube(np.stack([foot, foot + np.array([0, 0, top - 0.03])]), 0.02, material, THING))
        if generator.random() < 0.5:
            rest = (
                seat
                + np.array([back[0], back[1], 0.0]) * (deep / 2 + 0.06)
                + np.array([0, 0, top / 2 + 0.3 - (low / 2)])
            )
            result.append(box(rest, np.array([wide, 0.05, 0.5]), material, THING, frame))
    if generator.random() < 0.09 and person.pose.kind not in ("lie", "sit"):  # a rucksack
        middle = hip + up * 0.36 * scale + back * 0.2 * scale
        frame = np.stack([across, back, up], axis=1)
        result.append(box(middle, np.array([0.28, 0.14, 0.4]) * scale, _random_material(generator), THING, frame))
    if generator.random() < 0.1 and person.pose.kind not in ("lie", "sit_ground"):
        result += _shoulder_bag(generator, points, scale)
    if generator.random() < 0.14:
        side = str(generator.choice(["left", "right"]))
        palm = points[_INDEX[f"{side}_middle_finger1"]]
        wrist = points[_INDEX[f"{side}_hand_root"]]
        finger = points[_INDEX[f"{side}_middle_finger2"]]
        along = palm - wrist
        along /= np.linalg.norm(along)
        sideways = points[_INDEX[f"{side}_forefinger1"]] - points[_INDEX[f"{side}_pinky_finger1"]]
        out = np.cross(along, sideways / np.linalg.norm(sideways)) * (1.0 if side == "left" else -1.0)
        out = out if out @ (finger - palm) >= 0 or abs(out @ (finger - palm)) < 0.004 else -out
        grip = (palm + wrist) / 2 + along * 0.04 * scale + out * 0.03 * scale
        kind = generator.random()
        material = _random_material(generator)
        if kind < 0.35:
            frame = np.stack([along, np.cross(out, along), out], axis=1)
            result.append(box(grip + out * 0.005, np.array([0.14, 0.07, 0.009]) * scale, material, THING, frame))
        elif kind < 0.6:
            radius = float(generator.uniform(0.03, 0.12)) * scale
            result.append(ball(grip + out * radius, radius, material, THING))
        else:
            axis = sideways / np.linalg.norm(sideways)
            reach = float(generator.uniform(0.1, 0.8)) * scale
            path = np.stack([grip - axis * reach * 0.3, grip + axis * reach])
            result.append(tube(path, float(generator.uniform(0.008, 0.03)), material, THING))
    return result


def _shoulder_bag(generator: np.random.Generator, points: NDArray[np.float64], scale: float) -> list[Surface]:
    """A bag at one hip, whose strap runs over the same or the other shoulder."""
    side, other = ("left", "right") if generator.random() < 0.5 else ("right", "left")
    hip, neck = points[_INDEX[f"{side}_hip"]], points[_INDEX["neck"]]
    over = points[_INDEX[f"{other if generator.random() < 0.6 else side}_shoulder"]]
    across = points[_INDEX[f"{side}_hip"]] - points[_INDEX[f"{other}_hip"]]
    across /= np.linalg.norm(across)
    up = neck - points[_INDEX["hip"]]
    up = up - across * (up @ across)
    up /= np.linalg.norm(up)
    ahead = np.cross(across, up) * (1 if side == "right" else -1)
    material = _random_material(generator)
    width, height = float(generator.uniform(0.16, 0.36)) * scale, float(generator.uniform(0.12, 0.32)) * scale
    middle = hip + across * 0.15 * scale
    frame = np.stack([ahead, across, up], axis=1)
    bag = box(middle, np.array([width, 0.07 * scale, height]), material, THING, frame)
    top = over + (neck - over) * 0.35 + up * 0.075 * scale
    strap = [bag]
    for front in (1, -1):
        start, out = middle + up * height / 2, ahead * front * 0.19 * scale
        path = np.stack([start, start * 0.75 + top * 0.25 + out, start * 0.25 + top * 0.75 + out, top])
        strap.append(tube(path, float(generator.uniform(0.008, 0.016)) * scale, material, THING, 6))
    return strap


def _occluders(generator: np.random.Generator, person: Person, camera: Camera) -> list[Surface]:
    """Something between the camera and a person that hides a part of them."""
    goal = person.keypoints[int(generator.choice([5, 6, 7, 8, 11, 12, 13, 14, 15, 16]))].astype(np.float64)
    share = generator.uniform(0.35, 0.8)
    place = camera.position + (goal - camera.position) * share
    size = person.height_m * share
    material = _random_material(generator)
    kind = generator.random()
    if kind < 0.4:
        turn = about([0, 0, 1], generator.uniform(0, 180))
        return [box(place, generator.uniform(0.08, 0.35, 3) * size, material, THING, turn)]
    if kind < 0.7:
        lean = generator.normal(0, 0.15, 2) * size
        top = place + np.array([lean[0], lean[1], size * 1.5])
        return [
            tube(
                np.stack([place - [0, 0, size * 1.5], top]),
                float(generator.uniform(0.01, 0.06) * size),
                material,
                THING,
            )
        ]
    if kind < 0.85:
        return [ball(place, generator.uniform(0.05, 0.2, 3) * size, material, THING)]
    path = place + np.cumsum(generator.normal(0, 0.12 * size, (8, 3)), axis=0)
    leaves = [ball(point, generator.uniform(0.02, 0.07, 3) * size, material, THING) for point in path]
    return [tube(path, 0.012 * size, material, THING), *leaves]
