"""Skin, eyes and hair: colours by vertex, masks on the standard adult, hair as shells of the scalp."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wholepose.synth.body import BODY_VERTICES
from wholepose.synth.garments import Garment
from wholepose.synth.meshes import any_corner
from wholepose.synth.patches import Atlas
from wholepose.synth.render import Material

# Linear RGB along the range of human skin, light to dark.
_TONES = np.array(
    [
        (0.80, 0.56, 0.46),
        (0.72, 0.47, 0.36),
        (0.62, 0.38, 0.27),
        (0.50, 0.29, 0.19),
        (0.36, 0.19, 0.115),
        (0.22, 0.11, 0.065),
        (0.12, 0.062, 0.04),
        (0.065, 0.036, 0.025),
    ]
)

_IRISES = (
    (0.055, 0.026, 0.012),
    (0.10, 0.05, 0.02),
    (0.03, 0.016, 0.01),
    (0.12, 0.18, 0.26),
    (0.16, 0.26, 0.34),
    (0.12, 0.17, 0.08),
    (0.2, 0.2, 0.18),
)


@dataclasses.dataclass
class Look:
    """How one person's skin, eyes and hair look."""

    tone: float
    """0 light to 1 dark."""
    skin: Material
    skin_colors: NDArray[np.float32]
    """(v, 3) factors for the vertices of the skin."""
    eye: Material
    hair_color: tuple[float, float, float]
    iris: tuple[float, float, float]


class _Area:
    """A part of the skin with soft edges; colours elsewhere are not touched.

    Args:
        mask: (v,) how much each vertex belongs to it, 0 to 1.
    """

    def __init__(self, mask: NDArray[np.floating]) -> None:
        self._vertices = np.flatnonzero(mask > 1e-3)
        self._amount = mask[self._vertices, None]

    def tint(self, colors: NDArray[np.float64], color: NDArray[np.float64], strength: float = 1.0) -> None:
        """Multiplies colours (v, 3) by `color` (3,), or as far towards that as `strength` says."""
        colors[self._vertices] *= 1 - (1 - color) * (strength * self._amount)

    def paint(self, colors: NDArray[np.float64], color: NDArray[np.float64]) -> None:
        """Replaces colours (v, 3) by `color` (3,)."""
        colors[self._vertices] += (color - colors[self._vertices]) * self._amount


class Stylist:
    """Draws looks and hair.

    Args:
        atlas: Where vertices lie on the standard adult.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        body, rest = atlas.body, atlas.rest
        skin = rest[:BODY_VERTICES]
        front = np.clip((-0.10 - skin[:, 1]) / 0.03, 0, 1) * (skin[:, 2] > 0.78) * (np.abs(skin[:, 0]) < 0.09)

        def blob(x: float, z: float, width: float, height: float) -> NDArray[np.float32]:
            across = np.square((np.abs(skin[:, 0]) - x) / width) + np.square((skin[:, 2] - z) / height)
            return np.asarray(np.exp(-across) * front, dtype=np.float32)

        normals = atlas.normals[:BODY_VERTICES]
        palms = atlas.hand[:BODY_VERTICES] * np.clip(-(normals @ np.array([0.0, 0.5, 0.85])) * 1.2, 0, 1)
        soles = atlas.foot[:BODY_VERTICES] * np.clip(-normals[:, 2], 0, 1)
        self._areas = {
            "cheeks": _Area(blob(0.043, 0.868, 0.018, 0.016)),
            "nose": _Area(blob(0.0, 0.866, 0.014, 0.012)),
            "sockets": _Area(blob(0.031, 0.904, 0.022, 0.011)),
            "pale": _Area(np.clip(palms + soles, 0, 1).astype(np.float32)),
        }
        for name in ("ears", "lips", "fingernails", "inside-mouth", "aureolae"):
            self._areas[name] = _Area(body.masks[name][:BODY_VERTICES])
        # Height of the hairline by depth: forehead, temple, before, above and behind the ear, nape.
        line = np.interp(
            rest[:, 1],
            [-0.16, -0.135, -0.105, -0.075, -0.066, -0.03, -0.01, 0.03, 0.06],
            [0.975, 0.968, 0.950, 0.915, 0.895, 0.912, 0.872, 0.838, 0.832],
        )
        self._scalp: NDArray[np.float32] = np.asarray(
            np.where((atlas.head > 0.3) & (rest[:, 2] > 0.8), rest[:, 2] - line, -1.0), np.float32
        )
        ears = body.masks["ears"] > 0.4
        self._scalp = np.where(ears, -0.02, self._scalp).astype(np.float32)
        skin_faces = atlas.skin_faces()
        near = any_corner(self._scalp > -0.03, body.faces[skin_faces])
        self._cap = atlas.cut(skin_faces[near])
        self._long = atlas.patch("helper-hair")

    def look(
        self, generator: np.random.Generator, *, age: float, gender: float, race: tuple[float, float, float]
    ) -> Look:
        """Draws skin, eyes and the colour of hair.

        Args:
            generator: Random numbers.
            age: 0 baby, 1/3 child, 2/3 young, 1 old.
            gender: 0 male, 1 female.
            race: Amounts of african, asian and caucasian shape, which only lean the colours.
        """
        african, asian, caucasian = np.array(race) / max(sum(race), 1e-9)
        tone = float(np.clip(0.75 * african + 0.33 * asian + 0.18 * caucasian + generator.normal(0, 0.14), 0, 1))
        base = np.array([np.interp(tone * (len(_TONES) - 1), range(len(_TONES)), _TONES[:, c]) for c in range(3)])
        base = base * generator.uniform(0.85, 1.12) * (1 + generator.normal(0, [0.03, 0.02, 0.05]))
        colors = np.ones((BODY_VERTICES, 3))
        areas = self._areas
        flush = generator.uniform(0.05, 0.45)
        ruddy = np.array([1.0, 0.72, 0.68])
        for name, amount in (("cheeks", flush), ("nose", flush * 0.8), ("ears", flush * 0.6)):
            areas[name].tint(colors, ruddy, amount)
        lipstick = generator.random() < 0.45 * gender * (age > 0.45)
        lip = np.array([1.0, 0.52, 0.5]) * generator.uniform(0.75, 1.0)
        if lipstick:
            lip = np.array([generator.uniform(0.6, 1.1), generator.uniform(0.08, 0.4), generator.uniform(0.12, 0.45)])
        areas["lips"].tint(colors, lip)
        shade = generator.uniform(0.1, 0.45) + 0.25 * max(age - 0.7, 0)
        areas["sockets"].tint(colors, np.array([0.78, 0.66, 0.68]), shade)
        areas["pale"].tint(colors, np.array([1.0, 1.0, 1.0]) + tone * np.array([0.9, 1.0, 1.1]))
        nail = np.array([1.12, 1.05, 1.05])
        if generator.random() < 0.25 * gender:
            nail = np.array(generator.uniform(0.1, 1.4, 3))
        areas["fingernails"].tint(colors, nail, 0.8)
        areas["inside-mouth"].paint(colors, np.array([0.55, 0.14, 0.13]) / base)
        areas["aureolae"].tint(colors, np.array([0.75, 0.6, 0.6]), 0.6)
        hair = self._hair_color(generator, age, tone)
        beard = 0.0
        if age > 0.6 and gender < 0.5:
            beard = float(
                generator.choice(
                    [0.0, generator.uniform(0.05, 0.35), generator.uniform(0.5, 0.95)], p=[0.4, 0.35, 0.25]
                )
            )
        skin = Material(
            color=(float(base[0]), float(base[1]), float(base[2])),
            color2=(0.65 * hair[0], 0.65 * hair[1], 0.65 * hair[2]),  # beards are darker, skin shows through
            pattern=20,
            pattern_scale=beard,
            specular=float(generator.uniform(0.02, 0.11)),
            shininess=float(generator.uniform(8, 20)),
            mottle=float(generator.uniform(0.02, 0.08)),
            freckles=float(generator.uniform(0.1, 0.45)) if generator.random() < 0.25 else 0.0,
            softness=0.28,
            fold_strength=float(generator.uniform(0.0, 0.05) + 0.25 * max(age - 0.75, 0)),
            fold_scale=90.0,
            seed=int(generator.integers(1, 90_000)),
        )
        iris = _IRISES[int(generator.integers(len(_IRISES)))] if tone < 0.35 else _IRISES[int(generator.integers(3))]
        eye = Material(color=(0.72, 0.68, 0.66), color2=iris, pattern=21, specular=0.5, shininess=60.0)
        return Look(tone, skin, colors.astype(np.float32), eye, hair, iris)

    def _hair_color(self, generator: np.random.Generator, age: float, tone: float) -> tuple[float, float, float]:
        darkness = generator.random() * (1 - tone) ** 2
        browns = np.array(
            [(0.008, 0.006, 0.005), (0.03, 0.016, 0.009), (0.1, 0.055, 0.025), (0.24, 0.14, 0.06), (0.5, 0.36, 0.19)]
        )
        color = np.array([np.interp(darkness * 4, range(5), browns[:, c]) for c in range(3)])
        if generator.random() < 0.06:
            color = np.array([0.22, 0.06, 0.02])
        grey = np.clip(generator.normal((age - 0.8) * 4, 0.25), 0, 1)
        if generator.random() < 0.02:
            color = generator.uniform(0.05, 0.6, 3)
        color = color * (1 - grey) + np.array([0.42, 0.42, 0.43]) * grey
        return (float(color[0]), float(color[1]), float(color[2]))

    def hair(self, generator: np.random.Generator, look: Look, *, age: float, gender: float) -> list[Garment]:
        """Draws a haircut made of shells: a cap over the scalp and, for long hair, strips behind."""
        rest = self._atlas.rest
        bald = age > 0.6 and gender < 0.5 and generator.random() < 0.12
        long = generator.random() < (0.62 if gender > 0.5 else 0.06)
        material = Material(
            color=look.hair_color,
            color2=look.hair_color,
            specular=float(generator.uniform(0.02, 0.12)),
            shininess=14.0,
            fold_strength=float(generator.uniform(0.3, 0.9)),
            fold_scale=float(generator.uniform(25, 70)),
            strands=True,
            seed=int(generator.integers(1, 90_000)),
        )
        inside = self._scalp.copy()
        if bald:
            if generator.random() < 0.5:
                return []
            crown = np.square(rest[:, 0] / 0.075) + np.square((rest[:, 1] + 0.06) / 0.11)
            inside = np.minimum(inside, np.where(rest[:, 2] > 0.93, (np.sqrt(crown) - 0.8) * 0.05, 1.0)).astype(
                np.float32
            )
        recede = generator.uniform(-0.012, 0.012) - 0.012 * max(age - 0.75, 0) * 4 * (gender < 0.5)
        inside = inside + np.where(rest[:, 1] < -0.08, recede, 0.0).astype(np.float32)
        ragged = self._cap.smoothed(generator.normal(0, 1, len(self._cap.vertices)).astype(np.float32), 2)
        inside[self._cap.vertices] += ragged * generator.uniform(0.001, 0.007)
        thickness = float(generator.choice([0.002, 0.007, 0.016, 0.03], p=[0.2, 0.3, 0.35, 0.15]))
        local = rest[self._cap.vertices]
        lift = thickness * (0.12 + 0.88 * np.clip((inside[self._cap.vertices]) / 0.05, 0, 1))
        bumps = self._cap.smoothed(generator.normal(0, 1, len(local)).astype(np.float32), 4)
        offset = lift * (1 + 0.5 * np.clip(bumps / max(float(bumps.std()), 1e-6), -1.5, 1.5)) + 0.0015
        shift = np.zeros((len(local), 3), np.float32)
        if generator.random() < 0.35 and thickness > 0.005:  # a fringe or a tuft
            forehead = np.clip((-0.12 - local[:, 1]) / 0.03, 0, 1) * np.clip((local[:, 2] - 0.94) / 0.03, 0, 1)
            shift[:, 2] += forehead * generator.uniform(-0.02, 0.03)
            shift[:, 1] -= forehead * 0.01
        garments = [Garment("hair", self._cap, inside, offset.astype(np.float32), 1, material, shift)]
        if long and not bald:
            end = float(generator.choice([generator.uniform(0.76, 0.84), generator.uniform(0.42, 0.74)]))
            hair_rest = rest[self._long.vertices]
            away = np.maximum(np.abs(rest[:, 0]) - 0.062, rest[:, 1] + 0.075)  # off the face
            strips = np.minimum(rest[:, 2] - end, away).astype(np.float32)
            if generator.random() < 0.4:  # all behind the shoulders
                strips = np.minimum(strips, rest[:, 1] + 0.07).astype(np.float32)
            wave = 0.006 * np.sin(hair_rest[:, 2] * generator.uniform(20, 70)) * generator.random()
            narrow = np.zeros((len(hair_rest), 3), np.float32)
            narrow[:, 0] = -hair_rest[:, 0] * 0.1
            local_keep = strips[self._long.vertices]
            faces = any_corner(local_keep > 0, self._long.faces)
            patch = dataclasses.replace(self._long, faces=self._long.faces[faces])
            garments.append(Garment("long hair", patch, strips, (wave - 0.004).astype(np.float32), 0, material, narrow))
        local_keep = inside[self._cap.vertices]
        faces = any_corner(local_keep > 0, self._cap.faces)
        garments[0].patch = dataclasses.replace(self._cap, faces=self._cap.faces[faces])
        return garments

    def beanie(self, generator: np.random.Generator, material: Material) -> Garment:
        """A knitted cap or hood over the scalp."""
        rest = self._atlas.rest
        inside = np.minimum(
            self._scalp + 0.03, rest[:, 2] - generator.uniform(0.902, 0.925) + 0.25 * (rest[:, 1] + 0.05)
        )
        local = inside[self._cap.vertices]
        faces = any_corner(local > 0, self._cap.faces)
        patch = dataclasses.replace(self._cap, faces=self._cap.faces[faces])
        offset = np.full(len(self._cap.vertices), generator.uniform(0.016, 0.024), np.float32)
        return Garment("beanie", patch, inside.astype(np.float32), offset, 3, material)
