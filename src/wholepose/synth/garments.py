"""Procedural garments: pieces of a suit around the body, cut along lines, loosened, folded and coloured."""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wholepose.synth.meshes import any_corner
from wholepose.synth.patches import Atlas, Patch
from wholepose.synth.render import Material

Field = NDArray[np.float32]


@dataclasses.dataclass
class Garment:
    """A piece of clothing on a patch of the mesh.

    `inside` tells for every body vertex how far it is inside the cut lines (metres or so, negative outside).
    """

    name: str
    patch: Patch
    inside: Field
    """(V,) for the whole body."""
    offset_m: Field
    """(v,) distance from the patch, metres on an adult."""
    smoothing: int
    material: Material
    shift: NDArray[np.float32] | None = None
    """(v, 3) further offset, metres on an adult."""


@dataclasses.dataclass(frozen=True)
class Outfit:
    """What a person wears, inner to outer."""

    garments: tuple[Garment, ...]

    def covered(self, count: int) -> Field:
        """(V,) how deep every body vertex lies under cloth; negative where bare."""
        depth = np.full(count, -1.0, dtype=np.float32)
        for garment in self.garments:
            if garment.name != "skirt":  # legs can be seen from below
                depth = np.maximum(depth, garment.inside)
        return depth


def random_color(generator: np.random.Generator, *, bright: float = 1.0) -> tuple[float, float, float]:
    """A colour of cloth, linear RGB: often black, white, grey, navy or beige, else anything."""
    kind = generator.random()
    if kind < 0.19:
        grey = generator.uniform(0.008, 0.03)
        return (grey, grey, grey * 1.1)
    if kind < 0.34:
        grey = generator.uniform(0.5, 0.82) * bright
        return (grey, grey, grey * generator.uniform(0.9, 1.0))
    if kind < 0.45:
        grey = generator.uniform(0.05, 0.4)
        return (grey, grey, grey)
    if kind < 0.57:
        return (0.015, 0.022, float(generator.uniform(0.04, 0.12)))
    if kind < 0.66:
        base = generator.uniform(0.15, 0.5)
        return (base, base * 0.78, base * 0.52)
    red, green, blue = colorsys.hsv_to_rgb(
        generator.random(), float(generator.beta(2.0, 2.2)), float(generator.beta(2.0, 1.9))
    )
    return (red**2 * bright, green**2 * bright, blue**2 * bright)


def _cloth(generator: np.random.Generator, *, folds: float, patterns: tuple[int, ...] = ()) -> Material:
    material = Material(
        color=random_color(generator),
        color2=random_color(generator),
        fold_strength=float(folds * generator.uniform(0.5, 1.5)),
        fold_scale=float(generator.uniform(7, 18)),
        mottle=float(generator.uniform(0.0, 0.1)),
        specular=float(generator.choice([0.0, 0.02, 0.12], p=[0.6, 0.3, 0.1])),
        shininess=12.0,
        seed=int(generator.integers(1, 90_000)),
    )
    if patterns and generator.random() < 0.36:
        material.pattern = int(generator.choice(patterns))
        material.pattern_scale = {
            1: generator.uniform(8, 40),
            2: generator.uniform(8, 50),
            3: generator.uniform(6, 25),
            4: generator.uniform(10, 40),
            5: generator.uniform(6, 22),
            6: 1.0,
            7: generator.uniform(0.42, 0.52),
            8: generator.uniform(0.3, 0.55),
            9: 1.0,
        }.get(material.pattern, 1.0)
    return material


class Tailor:
    """Makes outfits.

    Args:
        atlas: Where vertices lie on the standard adult.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._suit = atlas.patch("helper-tights")
        self._skirt = atlas.patch("helper-skirt")

    def outfit(self, generator: np.random.Generator, *, feminine: float, warm: float | None = None) -> Outfit:
        """Draws an outfit.

        Args:
            generator: Random numbers.
            feminine: Chance of skirts, dresses and the like, 0 to 1.
            warm: 0 for the beach, 1 for winter; drawn when None.
        """
        warmth = generator.random() if warm is None else warm
        garments: list[Garment] = []
        if warmth < 0.05:
            garments.append(self.trousers(generator, end=float(generator.uniform(0.4, 0.65)), loose=0.006))
            if generator.random() < feminine:
                garments.append(self.top(generator, sleeve=-0.15, hem=0.36, loose=0.002, low=0.06))
            return Outfit(tuple(garments))
        dress = generator.random() < 0.35 * feminine
        if dress:
            garments.append(self.underwear(generator))
            material = _cloth(generator, folds=0.35, patterns=(1, 4, 5, 6))
            sleeve = float(generator.choice([-0.12, 0.35, 1.0, 1.9]))
            garments.append(self.top(generator, sleeve=sleeve, hem=0.1, loose=0.006, material=material))
            garments.append(
                self.skirt(generator, end=float(generator.uniform(-0.55, -0.12)), material=material, waist=0.26)
            )
        else:
            if generator.random() < 0.18 * feminine:
                garments.append(self.underwear(generator))
                garments.append(self.skirt(generator, end=float(generator.uniform(-0.6, -0.1))))
            else:
                end = float(
                    generator.choice(
                        [generator.uniform(0.42, 0.95), 1.3, 1.97],
                        p=[0.25 * (1.2 - warmth), 0.05, 0.95 - 0.25 * (1.2 - warmth)],
                    )
                )
                loose = float(generator.choice([0.001, 0.008, 0.02, 0.032], p=[0.25, 0.35, 0.28, 0.12]))
                garments.append(self.trousers(generator, end=end, loose=loose))
            sleeve = float(
                generator.choice(
                    [-0.12, generator.uniform(0.25, 0.6), generator.uniform(0.8, 1.5), 1.95],
                    p=[0.12 * (1.2 - warmth), 0.5, 0.08, 0.42 - 0.12 * (1.2 - warmth)],
                )
            )
            tucked = generator.random() < 0.25
            loose = float(generator.choice([0.002, 0.008, 0.016, 0.026], p=[0.15, 0.35, 0.3, 0.2]))
            hem = float(generator.uniform(0.19, 0.24)) if tucked else float(generator.uniform(0.02, 0.14))
            if generator.random() < 0.06 * feminine:
                hem = 0.3
            garments.append(self.top(generator, sleeve=sleeve, hem=hem, loose=loose))
        if generator.random() < 0.1 + 0.35 * warmth:
            garments.append(self.jacket(generator))
        shoes = generator.random()
        if shoes < 0.86:
            if generator.random() < 0.4:
                garments.insert(0, self.socks(generator))
            garments.append(self.shoes(generator))
        elif shoes < 0.92:
            garments.append(self.socks(generator))
        return Outfit(tuple(garments))

    def top(
        self,
        generator: np.random.Generator,
        *,
        sleeve: float,
        hem: float,
        loose: float,
        low: float | None = None,
        material: Material | None = None,
    ) -> Garment:
        """Shirt, jumper, vest: `sleeve` in arm bones (2 is the wrist), `hem` a height, `loose` metres."""
        rest = self._atlas.rest
        open_front = float(generator.choice([0.0, 0.01, 0.03, 0.06])) if low is None else low
        vee = generator.random() < 0.3
        # Necklines hug the neck: beside it the line climbs over the shoulders, less so where they are wide.
        climb = float(generator.uniform(0.1, 0.9)) if generator.random() < 0.25 else 1.0
        line = 0.732 + 0.58 * rest[:, 1] + climb * np.maximum(np.abs(rest[:, 0]) - 0.05, 0)
        front = np.clip((-0.02 - rest[:, 1]) / 0.05, 0, 1)
        dip = (
            np.maximum(0.0, open_front + 0.03 - 0.9 * np.abs(rest[:, 0])) * 1.3
            if vee
            else open_front * np.clip(1.2 - np.square(rest[:, 0] / 0.1), 0, 1)
        )
        if open_front == 0.0 and generator.random() < 0.3:
            line = line + 0.06  # a polo neck
        neck = (line - dip * front - rest[:, 2]) * 0.8
        if sleeve < 0:  # straps leave the shoulders bare
            neck = np.minimum(neck, 0.175 - np.abs(rest[:, 0]) + 0.6 * np.maximum(0.55 - rest[:, 2], 0))
        inside = self._cut(neck, rest[:, 2] - hem, sleeve)
        flare = 0.0 if loose < 0.005 else generator.uniform(0, 0.5)
        offset = loose * (1 + flare * np.clip((0.45 - rest[:, 2]) / 0.3, 0, 1))
        offset = offset + 0.4 * loose * self._atlas.arm * np.clip(self._atlas.along_arm, 0, 1.2)
        chosen = material or _cloth(generator, folds=0.25 + 9 * loose, patterns=(1, 1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 9))
        return self._finish("top", self._suit, inside, offset + 0.003, loose, chosen)

    def jacket(self, generator: np.random.Generator) -> Garment:
        """A jacket or hoodie over the rest, long sleeves, sometimes open."""
        rest = self._atlas.rest
        neck = 0.74 + 0.5 * rest[:, 1] + np.maximum(np.abs(rest[:, 0]) - 0.055, 0) - rest[:, 2]
        inside = self._cut(neck, rest[:, 2] - generator.uniform(-0.02, 0.16), 1.97)
        if generator.random() < 0.45:
            width = generator.uniform(0.01, 0.07)
            widening = generator.uniform(0, 0.15)
            gap = width + widening * np.clip(rest[:, 2] - 0.35, 0, 0.4)
            inside = np.where(rest[:, 1] < -0.02, np.minimum(inside, np.abs(rest[:, 0]) - gap), inside)
        material = _cloth(generator, folds=0.45, patterns=(3, 6, 8, 9, 9))
        loose = float(generator.uniform(0.014, 0.026))
        return self._finish("jacket", self._suit, inside, np.full(len(rest), loose + 0.012), loose, material)

    def trousers(self, generator: np.random.Generator, *, end: float, loose: float) -> Garment:
        """Trousers, shorts, leggings: `end` in leg bones (2 is the ankle)."""
        rest = self._atlas.rest
        # The seat is covered however short the legs are.
        legs = np.maximum((end - self._atlas.along_leg) * 0.42, rest[:, 2] + 0.02)
        inside = np.minimum(generator.uniform(0.17, 0.27) - rest[:, 2], legs)
        inside = np.where(self._atlas.arm > 0.4, -1.0, inside)
        inside = np.where((self._atlas.foot > 0.5) & (self._atlas.along_leg > end), -1.0, inside)
        down = np.clip(self._atlas.along_leg, 0, 2)
        offset = loose * (0.45 + 0.5 * down) * self._atlas.leg + 0.35 * loose
        material = _cloth(generator, folds=0.3 + 8 * loose, patterns=(2, 3, 5, 6))
        if generator.random() < 0.4:  # denim
            blue = generator.uniform(0.03, 0.16)
            material = Material(
                color=(blue * 0.42, blue * 0.62, blue),
                color2=(blue * 1.1, blue * 1.35, blue * 1.75),
                pattern=10,
                fold_strength=0.35 + 6 * loose,
                fold_scale=float(generator.uniform(9, 16)),
                mottle=0.06,
                seed=int(generator.integers(1, 90_000)),
            )
        return self._finish("trousers", self._suit, inside, offset + 0.0015, loose, material)

    def underwear(self, generator: np.random.Generator) -> Garment:
        """Plain tight shorts, for under a skirt."""
        garment = self.trousers(generator, end=0.36, loose=0.0)
        shade = float(generator.choice([0.02, 0.6]))
        garment.material = Material(color=(shade, shade, shade))
        return garment

    def skirt(
        self,
        generator: np.random.Generator,
        *,
        end: float,
        material: Material | None = None,
        waist: float | None = None,
    ) -> Garment:
        """A skirt down to the height `end`."""
        rest = self._atlas.rest
        top = generator.uniform(0.2, 0.28) if waist is None else waist
        inside = np.minimum(top - rest[:, 2], rest[:, 2] - end)
        inside = np.where(self._atlas.arm > 0.4, -1.0, inside)
        chosen = material or _cloth(generator, folds=0.4, patterns=(1, 2, 3, 4, 5))
        around = np.arctan2(rest[:, 1], rest[:, 0])
        pleats = 0.004 * np.sin(around * generator.integers(8, 20)) * np.clip((top - rest[:, 2]) * 4, 0, 1)
        return self._finish("skirt", self._skirt, inside, 0.004 + pleats, 0.004, chosen)

    def socks(self, generator: np.random.Generator) -> Garment:
        """Socks of any length."""
        inside = (self._atlas.along_leg - generator.uniform(1.2, 1.9)) * 0.4
        inside = np.where(self._atlas.leg > 0.5, inside, -1.0)
        material = _cloth(generator, folds=0.1, patterns=(1,))
        return self._finish("socks", self._suit, inside, np.full(len(inside), 0.001), 0.0, material)

    def shoes(self, generator: np.random.Generator) -> Garment:
        """Shoes or boots with a sole."""
        rest = self._atlas.rest
        high = float(generator.choice([2.0, 1.97, 1.85, 1.6], p=[0.5, 0.25, 0.15, 0.1]))
        inside = np.where(self._atlas.leg > 0.5, (self._atlas.along_leg - high) * 0.4, -1.0)
        inside = np.where(self._atlas.foot > 0.75, np.maximum(inside, 0.075 - (rest[:, 2] + 0.8)), inside)
        material = _cloth(generator, folds=0.0, patterns=())
        material.specular = float(generator.choice([0.03, 0.15, 0.4]))
        material.shininess = 25.0
        if generator.random() < 0.6:  # a sole of another colour
            light = generator.random() < 0.6
            material.color2, material.color = material.color, ((0.7, 0.7, 0.68) if light else (0.03, 0.03, 0.03))
            material.pattern, material.pattern_scale = 8, -0.797
        patch = self._suit
        garment = self._finish("shoes", patch, inside, np.full(len(rest), 0.008), 0.02, material)
        local = rest[patch.vertices]
        low = np.clip((-0.775 - local[:, 2]) / 0.03, 0, 1)
        shift = np.zeros((len(local), 3), np.float32)
        shift[:, 2] = -low * generator.uniform(0.006, 0.02)
        shift[:, 1] = -0.012 * np.clip((-0.1 - local[:, 1]) / 0.08, 0, 1)  # toe cap
        garment.shift = shift
        return garment

    def _cut(self, neck: NDArray[np.floating], hem: NDArray[np.floating], sleeve: float) -> Field:
        """Cuts at the neckline, at the hem, which does not count for arms that hang below it, and at the sleeves."""
        share = np.clip((self._atlas.arm - 0.1) / 0.5, 0, 1)  # a soft change keeps cut lines smooth
        hem = (1 - share) * hem + share * np.maximum(hem, 0.06)
        inside = np.minimum(neck, hem)
        end = (sleeve - self._atlas.along_arm) * 0.3
        return np.asarray(np.where(self._atlas.arm > 0.25, np.minimum(inside, end), inside), np.float32)

    def _finish(
        self,
        name: str,
        patch: Patch,
        inside: NDArray[np.floating],
        offset: NDArray[np.floating],
        loose: float,
        material: Material,
    ) -> Garment:
        rounds = 2 if loose < 0.005 else 5 if loose < 0.015 else 9
        # Keep whole faces near the cut: the renderer cuts inside them.
        local = inside[patch.vertices]
        faces = patch.faces[any_corner(local > 0, patch.faces)]
        smaller = dataclasses.replace(patch, faces=faces)
        return Garment(
            name=name,
            patch=smaller,
            inside=inside.astype(np.float32),
            offset_m=offset[patch.vertices].astype(np.float32),
            smoothing=rounds,
            material=material,
        )


def fold_field(
    generator: np.random.Generator,
    patch: Patch,
    rounds: int,
    smooth: Callable[[NDArray[np.float32], int], NDArray[np.float32]],
) -> Field:
    """(v,) smooth random bumps between -1 and 1.3, which push cloth in and out."""
    values = smooth(generator.normal(0, 1, len(patch.vertices)).astype(np.float32), rounds)
    return np.asarray(np.clip(values / max(float(values.std()), 1e-6), -1.0, 1.3), dtype=np.float32)
