"""What people differ in: body shapes, expressions, and the colours of what they wear."""

from __future__ import annotations

import numpy as np

from wholepose.synth.assets import Asset
from wholepose.synth.body import Body
from wholepose.synth.garments import random_color
from wholepose.synth.render import Material


def tinted(asset: Asset, color: tuple[float, float, float]) -> Material:
    """A material that gives an asset's texture another mean colour."""
    factor = np.array(color) / np.maximum(asset.mean_color, 0.01)
    return Material(
        color=(float(factor[0]), float(factor[1]), float(factor[2])),
        texture=asset.texture,
        alpha_test=asset.has_alpha,
        specular=0.04,
        shininess=14.0,
    )


def dyed(generator: np.random.Generator, asset: Asset) -> Material:
    """A material that shifts an asset's colours half of the time."""
    factor = np.ones(3)
    if generator.random() < 0.6:
        factor = np.clip(np.array(random_color(generator)) * 2.2, 0.15, 1.9)
    return Material(
        color=(float(factor[0]), float(factor[1]), float(factor[2])),
        texture=asset.texture,
        alpha_test=asset.has_alpha,
        fold_strength=0.2,
        fold_scale=14.0,
        seed=int(generator.integers(1, 90_000)),
    )


def draw_shape(generator: np.random.Generator, body: Body) -> tuple[dict[str, float], dict[str, float]]:
    """Draws a body shape: its phenotype and the local changes of its face, as :meth:`Body.shape` takes them."""
    kind = generator.random()
    age = float(
        generator.uniform(0.6, 0.85)
        if kind < 0.74
        else generator.uniform(0.85, 1.0)
        if kind < 0.88
        else generator.uniform(0.02, 0.6)
    )
    race = generator.dirichlet([0.45, 0.45, 0.6])
    gender = float(np.clip(generator.choice([0.05, 0.95]) + generator.normal(0, 0.08), 0, 1))
    phenotype = {
        "gender": gender,
        "age": age,
        "muscle": float(np.clip(generator.normal(0.5, 0.2), 0, 1)),
        "weight": float(np.clip(generator.normal(0.52, 0.2), 0.1, 1)),
        "height": float(np.clip(generator.normal(0.5, 0.18), 0, 1)),
        "proportions": float(np.clip(generator.normal(0.6, 0.2), 0, 1)),
        "cupsize": float(np.clip(generator.normal(0.45, 0.2), 0, 1)),
        "firmness": float(np.clip(generator.normal(0.6, 0.2), 0, 1)),
        "african": float(race[0]),
        "asian": float(race[1]),
        "caucasian": float(race[2]),
    }
    changes: dict[str, float] = {}
    names = body.local_names
    face = ("cheek", "chin", "ear-", "eyebrows", "eye-", "forehead", "head-", "mouth", "nose")
    avoid = ("trans-out", "head-angle", "head-trans", "mouth-trans", "nose-trans-out", "eye-push", "head-age")
    for index in range(0, len(names), 2):
        stem = names[index]
        if stem.startswith("r-") or not any(part in stem for part in face) or any(part in stem for part in avoid):
            continue
        if generator.random() < 0.5:
            continue
        value = float(np.clip(generator.normal(0, 0.28), -0.7, 0.7))
        row = index if value > 0 else index + 1
        changes[names[row]] = abs(value)
        if stem.startswith("l-"):
            changes[names[names.index("r-" + stem[2:]) + (0 if value > 0 else 1)]] = abs(value)
    return phenotype, changes


def draw_expression(generator: np.random.Generator) -> dict[str, float]:
    """Draws facial actions: often near neutral or a smile, sometimes speech, surprise or shut eyes."""
    actions: dict[str, float] = {}

    def both(name: str, amount: float) -> None:
        for side in ("Left", "Right"):
            actions[name + side] = float(np.clip(amount + generator.normal(0, 0.04), 0, 1))

    kind = str(
        generator.choice(
            ["calm", "smile", "laugh", "talk", "surprise", "frown", "odd"], p=[0.34, 0.27, 0.08, 0.14, 0.05, 0.07, 0.05]
        )
    )
    if kind in ("smile", "laugh"):
        both("mouthSmile", generator.uniform(0.3, 0.95))
        both("cheekSquint", generator.uniform(0, 0.6))
        if kind == "laugh":
            actions["jawOpen"] = float(generator.uniform(0.15, 0.55))
    elif kind == "talk":
        actions["jawOpen"] = float(generator.uniform(0.03, 0.35))
        actions[str(generator.choice(["mouthFunnel", "mouthPucker", "mouthShrugUpper"]))] = float(
            generator.uniform(0, 0.5)
        )
    elif kind == "surprise":
        actions["jawOpen"] = float(generator.uniform(0.2, 0.7))
        actions["browInnerUp"] = float(generator.uniform(0.3, 1))
        both("eyeWide", generator.uniform(0.2, 0.9))
        both("browOuterUp", generator.uniform(0.2, 0.9))
    elif kind == "frown":
        both("browDown", generator.uniform(0.2, 0.9))
        both("mouthFrown", generator.uniform(0, 0.7))
    elif kind == "odd":
        actions[str(generator.choice(["mouthLeft", "mouthRight", "jawLeft", "jawRight", "cheekPuff"]))] = float(
            generator.uniform(0.2, 0.8)
        )
    shut = generator.random()
    if shut < 0.06:
        both("eyeBlink", 0.62)  # beyond, the upper lid runs over the lower one
    elif shut < 0.4:
        both("eyeBlink", generator.uniform(0, 0.22))
    if generator.random() < 0.2:
        actions["browInnerUp"] = float(generator.uniform(0, 0.5))
    return actions
