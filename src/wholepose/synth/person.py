"""One person: a shape, a pose, clothes and hair put together as surfaces in the world."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.synth.assets import Asset, AssetFolder
from wholepose.synth.body import BODY_VERTICES, Body
from wholepose.synth.garments import Garment, Outfit, Tailor, fold_field, random_color
from wholepose.synth.hands import HandShapes
from wholepose.synth.keypoints import KeypointMap
from wholepose.synth.looks import Look, Stylist
from wholepose.synth.meshes import bounds, hidden_by, skin, vertex_normals
from wholepose.synth.patches import Atlas
from wholepose.synth.posing import Poser
from wholepose.synth.props import glasses, hat_brim
from wholepose.synth.render import Material, Surface
from wholepose.synth.stances import Pose
from wholepose.synth.traits import draw_expression, draw_shape, dyed, tinted

_PARTS = ("helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue")


@dataclasses.dataclass
class Person:
    """Someone in the scene."""

    surfaces: list[Surface]
    keypoints: NDArray[np.float32]
    """(136, 3) world metres."""
    depths_m: NDArray[np.float32]
    """(136,) how deep each keypoint may lie under this person's surface and be seen."""
    height_m: float
    pose: Pose
    low: NDArray[np.float32]
    """(3,) least corner of the body in the world."""
    high: NDArray[np.float32]


@dataclasses.dataclass
class Identity:
    """What of a person stays while they move: shape, skin, clothes, hair."""

    phenotype: dict[str, float]
    changes: dict[str, float]
    look: Look
    outfit: Outfit
    hair: list[Garment]
    assets: list[tuple[Asset, Material]]
    folds: dict[int, NDArray[np.float32]]
    rest: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    """Vertices, bone heads and bone tails of the shape at rest, without expression."""
    glasses: Material | None
    lenses: Material | None
    brim: Material | None


class Casting:
    """Makes people.

    Args:
        body: The body.
        assets: MakeHuman assets, or None for procedural looks alone.
        clean: Leave out skin pictures, whose licence is unproven.
        hand_poses: File of hand shapes, or None.
    """

    def __init__(
        self, body: Body, assets: AssetFolder | None = None, *, clean: bool = True, hand_poses: Path | None = None
    ) -> None:
        self._body = body
        self._atlas = Atlas(body)
        self._tailor = Tailor(self._atlas)
        self._stylist = Stylist(self._atlas)
        self._poser = Poser(body, HandShapes(body, hand_poses))
        self._points = KeypointMap(body)
        self._assets = assets
        self._clean = clean
        self._skin_rows = self._atlas.skin_faces()
        self._feature_points = np.unique(body.faces[body.group_faces(*_PARTS)])
        self._fitted: dict[
            tuple[str, str], tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]
        ] = {}

    def identity(self, generator: np.random.Generator) -> Identity:
        """Draws who someone is."""
        phenotype, changes = draw_shape(generator, self._body)
        rest = self._body.shape(phenotype, changes)
        gender, age = phenotype["gender"], phenotype["age"]
        race = (phenotype["african"], phenotype["asian"], phenotype["caucasian"])
        look = self._stylist.look(generator, age=age, gender=gender, race=race)
        feminine = float(np.clip((gender - 0.5) * 4, 0, 1))
        outfit = self._tailor.outfit(generator, feminine=feminine)
        hair = self._stylist.hair(generator, look, age=age, gender=gender)
        assets: list[tuple[Asset, Material]] = []
        if self._assets is not None:
            outfit, hair, assets = self._dress(generator, look, outfit, hair, gender, age)
        headgear = generator.random()
        brim = None
        if headgear < 0.1:
            material = Material(color=random_color(generator), mottle=0.1, fold_strength=0.2, fold_scale=40.0)
            hair = [*(part for part in hair if part.name == "long hair"), self._stylist.beanie(generator, material)]
            assets = [(asset, look_of) for asset, look_of in assets if asset.kind != "hair"]
            if generator.random() < 0.5:
                brim = material
        wears = generator.random()
        frame = Material(color=random_color(generator), specular=0.3, shininess=40.0) if wears < 0.17 else None
        lenses = (
            Material(color=(0.02, 0.02, 0.025), specular=0.8, shininess=80.0)
            if frame and generator.random() < 0.45
            else None
        )
        folds: dict[int, NDArray[np.float32]] = {}
        for number, garment in enumerate(outfit.garments):
            if garment.name != "shoes":
                folds[number] = fold_field(generator, garment.patch, 5, garment.patch.smoothed)
        return Identity(phenotype, changes, look, outfit, hair, assets, folds, rest, frame, lenses, brim)

    def _dress(
        self,
        generator: np.random.Generator,
        look: Look,
        outfit: Outfit,
        hair: list[Garment],
        gender: float,
        age: float,
    ) -> tuple[Outfit, list[Garment], list[tuple[Asset, Material]]]:
        """Swaps in assets where they are better: cards of hair, brows, lashes, sometimes a suit and shoes."""
        folder = self._assets
        assert folder is not None
        worn: list[tuple[Asset, Material]] = []
        if hair and generator.random() < 0.75:
            long = ["bob02", "braid01", "long01", "ponytail01"]
            names = folder.names("hair")
            fitting = [name for name in names if (name in long) == (gender > 0.5)] or names
            if generator.random() < 0.12:
                fitting = names
            if fitting:
                asset = folder.load("hair", str(generator.choice(fitting)))
                hair = [] if asset.has_alpha else hair[:1]
                worn.append((asset, tinted(asset, look.hair_color)))
                hair = [self._thin_cap(part) for part in hair]
        brows = folder.names("eyebrows")
        if brows:
            asset = folder.load("eyebrows", str(generator.choice(brows)))
            dark = (look.hair_color[0] * 0.7, look.hair_color[1] * 0.7, look.hair_color[2] * 0.7)
            worn.append((asset, tinted(asset, dark)))
        lashes = folder.names("eyelashes")
        if lashes and gender > 0.4:
            asset = folder.load("eyelashes", str(generator.choice(lashes)))
            worn.append((asset, Material(color=(0.02, 0.02, 0.02), texture=asset.texture, alpha_test=True)))
        suits = folder.names("clothes", "female" if gender > 0.5 else "male")
        if suits and age > 0.4 and generator.random() < 0.4:
            asset = folder.load("clothes", str(generator.choice(suits)))
            worn.append((asset, dyed(generator, asset)))
            outfit = Outfit(tuple(garment for garment in outfit.garments if garment.name in ("shoes",)))
        shoes = folder.names("clothes", "shoes")
        if shoes and any(garment.name == "shoes" for garment in outfit.garments) and generator.random() < 0.6:
            asset = folder.load("clothes", str(generator.choice(shoes)))
            worn.append((asset, dyed(generator, asset)))
            outfit = Outfit(tuple(garment for garment in outfit.garments if garment.name != "shoes"))
        if not self._clean and folder.skin_names() and generator.random() < 0.5:
            names = [n for n in folder.skin_names() if ("female" in n) == (gender > 0.5) and "suit" not in n]
            if names:
                texture, mean = folder.skin(str(generator.choice(names)))
                color = look.skin.color
                ratio = [float(np.clip(color[c] / max(mean[c], 0.02), 0.55, 1.5)) ** 0.5 for c in range(3)]
                look.skin.texture = texture
                look.skin.color = (ratio[0], ratio[1], ratio[2])
                look.skin.pattern_scale *= 0.5
                look.skin_colors = np.sqrt(look.skin_colors).astype(np.float32)
        return outfit, hair, worn

    @staticmethod
    def _thin_cap(part: Garment) -> Garment:
        return dataclasses.replace(part, offset_m=np.minimum(part.offset_m, 0.004).astype(np.float32))

    def pose(
        self, generator: np.random.Generator, identity: Identity, kind: str | None = None
    ) -> tuple[Pose, dict[str, float]]:
        """Draws a pose and an expression for someone."""
        return self._poser.sample(generator, identity.rest[1], kind), draw_expression(generator)

    def build(
        self,
        identity: Identity,
        pose: Pose,
        expression: dict[str, float],
        *,
        person: int,
        place: tuple[float, float] = (0.0, 0.0),
        turn: NDArray[np.floating] | None = None,
    ) -> Person:
        """Puts someone into the world.

        Args:
            identity: Who it is.
            pose: How they hold themselves.
            expression: Facial actions.
            person: Number of the person in the scene.
            place: Where on the ground (x, y), metres.
            turn: (3, 3) rotation about the vertical.
        """
        body, atlas = self._body, self._atlas
        neutral, heads, tails = identity.rest
        vertices = body.with_expression(neutral, expression)
        height = float(vertices[:BODY_VERTICES, 2].max() - vertices[:BODY_VERTICES, 2].min())
        scale = height / 1.75
        transforms = body.bone_transforms(heads, pose.rotations)
        skin = body.skin(vertices[:BODY_VERTICES], transforms, slice(BODY_VERTICES))
        linear = np.eye(3) if turn is None else np.asarray(turn, dtype=np.float64)
        least, greatest = bounds(skin)
        skin_low = least[2]
        center = (least[:2] + greatest[:2]) / 2
        sole = 0.018 * scale if any(g.name == "shoes" for g in identity.outfit.garments) else 0.0
        if pose.kind in ("lie", "sit_ground", "kneel", "crouch"):
            sole *= 0.4
        shift = np.array([*place, pose.lifted_m - float(skin_low) + sole]) - linear @ np.array([*center, 0.0])
        world = np.empty_like(transforms)
        world[:, :, :3] = linear @ transforms[:, :, :3]
        world[:, :, 3] = transforms[:, :, 3] @ linear.T + shift
        skin = (skin @ linear.T + shift).astype(np.float32)

        surfaces: list[Surface] = []
        covered = identity.outfit.covered(body.num_vertices)
        rest_normals: dict[int, NDArray[np.float32]] = {}
        under: dict[int, NDArray[np.float32]] = {}
        for number, garment in enumerate([*identity.outfit.garments, *identity.hair]):
            layer = 0.0015 * number if number < len(identity.outfit.garments) else 0.0
            surfaces.append(
                self._garment(
                    garment, vertices, world, scale, identity.folds.get(number), person, layer, rest_normals, under
                )
            )
        for asset, material in identity.assets:
            surfaces.append(self._asset(asset, material, vertices, world, person))
            if asset.kind == "clothes":
                covered[:BODY_VERTICES][self._fitting(asset)[3]] = 1.0
        faces = body.faces[self._skin_rows]
        under_cloth = covered > 0.012
        hidden = under_cloth[faces[:, 0]] & under_cloth[faces[:, 1]] & under_cloth[faces[:, 2]]
        shown = self._skin_rows[~hidden]
        faces = body.faces[shown]
        normals = vertex_normals(skin, faces)
        surfaces.append(
            Surface(
                skin,
                faces,
                normals,
                identity.look.skin,
                person,
                atlas.rest[:BODY_VERTICES],
                colors=identity.look.skin_colors,
                uv=body.uv[body.face_uv[shown]] if identity.look.skin.texture is not None else None,
            )
        )
        surfaces += self._features(identity, vertices, world, person)
        posed = np.zeros((body.num_vertices, 3), np.float32)
        posed[:BODY_VERTICES] = skin
        feature_points = self._feature_points
        posed[feature_points] = body.skin(vertices[feature_points], world, feature_points)
        head_bone = world[body.bone_rows["head"]]
        if identity.glasses is not None:
            surfaces += glasses(vertices, head_bone, identity.glasses, identity.lenses, person, body)
        if identity.brim is not None:
            surfaces.append(hat_brim(vertices, head_bone, identity.brim, person))
        posed_heads = np.einsum("bij,bj->bi", world[:, :, :3], heads) + world[:, :, 3]
        posed_tails = np.einsum("bij,bj->bi", world[:, :, :3], tails) + world[:, :, 3]
        keypoints = self._points(posed, posed_heads, posed_tails)
        corners = [bounds(surface.vertices) for surface in surfaces]
        low, high = np.min([low for low, _ in corners], axis=0), np.max([high for _, high in corners], axis=0)
        return Person(surfaces, keypoints, self._points.depths_m * max(scale, 0.5), height, pose, low, high)

    def _garment(
        self,
        garment: Garment,
        vertices: NDArray[np.float32],
        world: NDArray[np.float32],
        scale: float,
        folds: NDArray[np.float32] | None,
        person: int,
        layer_m: float,
        normals_of: dict[int, NDArray[np.float32]],
        under: dict[int, NDArray[np.float32]],
    ) -> Surface:
        patch, body = garment.patch, self._body
        base = vertices[patch.vertices]
        key = id(patch.vertices)
        if key not in normals_of:
            normals_of[key] = vertex_normals(base, patch.whole_faces)
        shape = patch.smoothed(base, garment.smoothing) if garment.smoothing else base
        offset = garment.offset_m + layer_m
        if folds is not None:
            offset = offset + np.minimum(garment.offset_m, 0.012) * 0.45 * folds
        if key not in under:
            under[key] = np.full(len(base), -1.0, np.float32)
        offset = np.maximum(offset, under[key] + 0.003)  # over what is worn beneath
        worn = garment.inside[patch.vertices] > 0
        under[key][worn] = offset[worn]
        # Smoothing shrinks; never let cloth sink under the body's own suit.
        sunk = np.einsum("vd,vd->v", base - shape, normals_of[key])
        shape = shape + (np.maximum(sunk, 0) + offset * scale)[:, None] * normals_of[key]
        if garment.shift is not None:
            shape = shape + garment.shift * scale
        posed = body.skin(shape.astype(np.float32), world, patch.vertices)
        return Surface(
            posed,
            patch.faces,
            vertex_normals(posed, patch.faces),
            garment.material,
            person,
            self._atlas.rest[patch.vertices],
            keep=garment.inside[patch.vertices],
        )

    def _asset(
        self, asset: Asset, material: Material, vertices: NDArray[np.float32], world: NDArray[np.float32], person: int
    ) -> Surface:
        fitted = asset.fit(vertices)
        bones, amounts, rest, _ = self._fitting(asset)
        posed = skin(fitted, bones, amounts, world)
        return Surface(posed, asset.faces, vertex_normals(posed, asset.faces), material, person, rest, uv=asset.uv)

    def _fitting(
        self, asset: Asset
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Bones (v, 5) and amounts of an asset's vertices, its places on the standard adult, and the skin it hides."""
        key = (asset.kind, asset.name)
        if key not in self._fitted:
            weights = asset.skin_weights(self._body.skin_weights)
            bones = np.argsort(-weights, axis=1)[:, :5].astype(np.int32)
            amounts = np.take_along_axis(weights, bones.astype(np.int64), axis=1)
            amounts /= np.maximum(amounts.sum(axis=1, keepdims=True), 1e-6)
            rest = asset.fit(self._atlas.rest)
            hidden = np.zeros(BODY_VERTICES, dtype=bool)
            if asset.kind == "clothes":
                bare = self._atlas.rest[:BODY_VERTICES]
                hidden = hidden_by(rest, asset.faces, bare, self._atlas.normals[:BODY_VERTICES], 0.05)
                faces = self._body.faces[self._skin_rows]
                for _ in range(2):  # step back from the edges, where skin shows
                    open_ = np.unique(faces[(~hidden[faces]).any(axis=1)])
                    hidden[open_] = False
            self._fitted[key] = bones, amounts.astype(np.float32), rest, hidden
        return self._fitted[key]

    def _features(
        self, identity: Identity, vertices: NDArray[np.float32], world: NDArray[np.float32], person: int
    ) -> list[Surface]:
        """Eyes, teeth and tongue."""
        body = self._body
        result = []
        teeth = Material(color=(0.72, 0.66, 0.56), specular=0.15, shininess=30.0)
        tongue = Material(color=(0.42, 0.12, 0.11), specular=0.1)
        for names, material in (
            (("helper-l-eye", "helper-r-eye"), identity.look.eye),
            (("helper-upper-teeth", "helper-lower-teeth"), teeth),
            (("helper-tongue",), tongue),
        ):
            patch = self._atlas.patch(*names)
            posed = body.skin(vertices[patch.vertices], world, patch.vertices)
            result.append(
                Surface(
                    posed,
                    patch.faces,
                    vertex_normals(posed, patch.faces),
                    material,
                    person,
                    self._atlas.rest[patch.vertices],
                )
            )
        return result
