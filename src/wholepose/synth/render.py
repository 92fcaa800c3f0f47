"""Rendering: triangles, materials, a camera and light in; colour, coverage, shadow and who is where out."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError, require
from wholepose.geometry import invert_affine
from wholepose.synth.meshes import bounds, load_warp


@dataclasses.dataclass
class Material:
    """How a surface looks; colours are linear RGB."""

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    color2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: NDArray[np.uint8] | None = None
    """(H, W, 4) sRGB and alpha, or none."""
    alpha_test: bool = False
    pattern: int = 0
    pattern_scale: float = 1.0
    specular: float = 0.0
    shininess: float = 20.0
    fold_strength: float = 0.0
    fold_scale: float = 10.0
    mottle: float = 0.0
    freckles: float = 0.0
    softness: float = 0.0
    strands: bool = False
    seed: int = 0


@dataclasses.dataclass
class Surface:
    """A triangle mesh of one material that belongs to one person.

    `rest` holds the place of each vertex on the body at rest, in metres, where patterns and noise live; `keep` is
    negative where the surface is cut away.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.integer]
    normals: NDArray[np.float32]
    material: Material
    person: int
    rest: NDArray[np.float32]
    colors: NDArray[np.float32] | None = None
    keep: NDArray[np.float32] | None = None
    uv: NDArray[np.float32] | None = None
    """(F, 3, 2) texture coordinates of every corner."""


@dataclasses.dataclass
class Camera:
    """A camera at `position` (3,) whose `rotation` (3, 3) maps world to camera axes: x right, y down, z ahead.

    `crop` (2, 3) maps pixels of the photo that the camera takes to those of the picture that is drawn, such as a crop
    of it, turned or mirrored or not; None where the picture is the photo. `focal_px` and `center` are the photo's.
    """

    rotation: NDArray[np.float64]
    position: NDArray[np.float64]
    focal_px: float
    center: tuple[float, float]
    distortion: float = 0.0
    crop: NDArray[np.float64] | None = None

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (..., 2) and depths (...) in metres of world points (..., 3)."""
        local = (points.astype(np.float64) - self.position) @ self.rotation.T
        depth = np.maximum(local[..., 2], 1e-6)
        plane = local[..., :2] / depth[..., None]
        square = np.square(plane).sum(-1, keepdims=True)
        if self.distortion < 0:  # beyond this the polynomial turns back: what is far outside would be in the picture
            square = np.minimum(square, -1 / (3 * self.distortion))
        plane = plane * (1 + self.distortion * square)
        pixels = plane * self.focal_px + np.array(self.center)
        if self.crop is not None:
            pixels = pixels @ self.crop[:, :2].T + self.crop[:, 2]
        return pixels, local[..., 2]

    def to_photo(self) -> NDArray[np.float64]:
        """(2, 3) map from pixels of the picture to pixels of the photo."""
        return np.eye(2, 3) if self.crop is None else invert_affine(self.crop)


@dataclasses.dataclass
class Light:
    """Sun, sky and bounce; `sun` (3,) is the direction to the sun, colours are linear RGB."""

    sun: NDArray[np.float64]
    sun_color: NDArray[np.float64]
    sky: NDArray[np.float64]
    bounce: NDArray[np.float64]
    side: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(3))
    ground: float | None = 0.0
    occlusion_m: float = 0.25


@dataclasses.dataclass
class Layers:
    """What a camera sees: `color` (H, W, 3) linear, `coverage` and the ground's `shadow` in [0, 1], `person` (H, W)."""

    color: NDArray[np.float32]
    coverage: NDArray[np.float32]
    shadow: NDArray[np.float32]
    person: NDArray[np.int32]


class Renderer:
    """Holds the compiled kernels for one device.

    Args:
        device: ``"cpu"`` or a CUDA device such as ``"cuda:0"``.

    Raises:
        ConfigError: There is no such device.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._wp: Any = load_warp()
        self._kernels: Any = require("wholepose.synth.kernels", "synth")
        known = [str(found.alias) for found in self._wp.get_devices()]
        if device not in known and not (device == "cuda" and len(known) > 1):
            raise ConfigError(f"device {device!r} is not here; Warp finds {', '.join(known)}")
        self.device = device

    def scene(self, surfaces: list[Surface]) -> Scene:
        """Uploads surfaces and builds the tree of their triangles."""
        return Scene(self._wp, self._kernels, self.device, surfaces)


class Scene:
    """Surfaces ready to be looked at; made by :meth:`Renderer.scene`."""

    def __init__(self, wp: Any, kernels: Any, device: str, surfaces: list[Surface]) -> None:
        self._wp, self._kernels, self._device = wp, kernels, device
        starts = np.cumsum([0] + [len(surface.vertices) for surface in surfaces])
        faces = np.concatenate([surface.faces + start for surface, start in zip(surfaces, starts, strict=False)])
        textures: dict[int, int] = {}
        packed: list[NDArray[np.uint32]] = []
        rows = []
        length = 0
        for surface in surfaces:
            material = surface.material
            texture_start, height, width = -1, 0, 0
            if material.texture is not None:
                key = id(material.texture)
                height, width = material.texture.shape[:2]
                if key not in textures:
                    textures[key] = length
                    packed.append(np.ascontiguousarray(material.texture).view(np.uint32).ravel())
                    length += height * width
                texture_start = textures[key]
            rows.append(
                (
                    texture_start,
                    height,
                    width,
                    material.alpha_test,
                    *material.color,
                    *material.color2,
                    material.pattern,
                    material.pattern_scale,
                    material.specular,
                    material.shininess,
                    material.fold_strength,
                    material.fold_scale,
                    material.mottle,
                    material.freckles,
                    material.softness,
                    material.seed % 100_000,
                    material.strands,
                )
            )
        counts = [len(surface.faces) for surface in surfaces]
        rest = [
            np.column_stack(
                [surface.rest, np.ones(len(surface.vertices)) if surface.keep is None else surface.keep]
            ).astype(np.float32)
            for surface in surfaces
        ]
        colors = [
            np.ones((len(surface.vertices), 3), np.float32) if surface.colors is None else surface.colors
            for surface in surfaces
        ]
        uv = [
            np.zeros((len(surface.faces), 3, 2), np.float32) if surface.uv is None else surface.uv
            for surface in surfaces
        ]
        array = self._array
        vertices = np.concatenate([surface.vertices for surface in surfaces])
        low, high = bounds(vertices)
        self._center, self._radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
        self._points = array(vertices, wp.vec3)
        self._indices = array(faces.astype(np.int32).ravel(), wp.int32)
        self._mesh = wp.Mesh(
            points=self._points, indices=self._indices, bvh_constructor="sah" if device == "cpu" else None
        )
        self._normals = array(np.concatenate([surface.normals for surface in surfaces]), wp.vec3)
        self._colors = array(np.concatenate(colors), wp.vec3)
        self._rest = array(np.concatenate(rest), wp.vec4)
        self._uv = array(np.concatenate(uv).reshape(-1, 2), wp.vec2)
        self._material = array(np.repeat(np.arange(len(surfaces)), counts).astype(np.int32), wp.int32)
        self._person = array(np.repeat([surface.person for surface in surfaces], counts).astype(np.int32), wp.int32)
        self._materials = array(np.array(rows, dtype=np.float32), wp.float32)
        self._texels = array(np.concatenate(packed) if packed else np.zeros(1, np.uint32), wp.uint32)

    def _array(self, values: NDArray[Any], dtype: Any) -> Any:
        return self._wp.array(np.ascontiguousarray(values), dtype=dtype, device=self._device)

    def render(
        self,
        camera: Camera,
        light: Light,
        size: tuple[int, int],
        *,
        samples: int = 4,
        seed: int = 0,
    ) -> Layers:
        """Renders a picture.

        Args:
            camera: Where to look from.
            light: What shines.
            size: (height, width) of the picture.
            samples: Rays a pixel along edges, a square number.
            seed: Seeds the noise of soft shadows; one seed gives one picture on one kind of device.

        Returns:
            The layers, ready to be put over a background.
        """
        wp, height, width = self._wp, *size
        color = wp.empty((height, width), dtype=wp.vec4, device=self._device)
        ambient = wp.empty((height, width), dtype=wp.vec3, device=self._device)
        sky = wp.empty((height, width), dtype=wp.float32, device=self._device)
        sun = wp.empty((height, width), dtype=wp.float32, device=self._device)
        shadow = wp.empty((height, width), dtype=wp.float32, device=self._device)
        person = wp.empty((height, width), dtype=wp.int32, device=self._device)
        material = wp.empty((height, width), dtype=wp.int32, device=self._device)
        for refine, rays in ((0, 1), (1, samples)):
            if refine and samples == 1:
                break
            wp.launch(
                self._kernels.render,
                dim=(height, width),
                inputs=[
                    self._mesh.id,
                    self._indices,
                    self._normals,
                    self._colors,
                    self._rest,
                    self._uv,
                    self._material,
                    self._person,
                    self._materials,
                    self._texels,
                    self._camera(camera),
                    self._light(light),
                    rays,
                    seed % 2**31,
                    refine,
                    color,
                    ambient,
                    sky,
                    sun,
                    shadow,
                    person,
                    material,
                    material,
                ],
                device=self._device,
            )
        pixels = color.numpy()
        # One ray to the sun and two to the sky from every other pixel are noisy; over a few pixels they are not.
        large = min(size) >= 320
        lit = pixels[..., :3] * _spread(sun.numpy(), 5 if large else 3)[..., None]
        lit = lit + ambient.numpy() * _spread(sky.numpy(), 7 if large else 5)[..., None]
        return Layers(lit, pixels[..., 3], _spread(shadow.numpy(), 11 if large else 7), person.numpy())

    def seen(
        self,
        camera: Camera,
        points: NDArray[np.floating],
        tolerances_m: NDArray[np.floating],
        persons: NDArray[np.integer],
    ) -> NDArray[np.bool_]:
        """Which points a camera sees.

        Args:
            camera: The camera.
            points: (N, 3) world points.
            tolerances_m: (N,) how far under its own person's surface a point may lie and count as seen, metres.
            persons: (N,) whose point each is.

        Returns:
            (N,) bool.
        """
        wp = self._wp
        out = wp.empty(len(points), dtype=wp.int32, device=self._device)
        wp.launch(
            self._kernels.see_points,
            dim=len(points),
            inputs=[
                self._mesh.id,
                self._indices,
                self._rest,
                self._uv,
                self._material,
                self._person,
                self._materials,
                self._texels,
                wp.vec3(*camera.position.tolist()),
                self._array(points.astype(np.float32), wp.vec3),
                self._array(tolerances_m.astype(np.float32), wp.float32),
                self._array(persons.astype(np.int32), wp.int32),
                out,
            ],
            device=self._device,
        )
        return np.asarray(out.numpy() > 0)

    def _camera(self, camera: Camera) -> Any:
        result = self._kernels.Camera()
        result.rotation = self._wp.mat33(*camera.rotation.ravel().tolist())
        result.position = self._wp.vec3(*camera.position.tolist())
        result.focal = camera.focal_px
        result.center_x, result.center_y = camera.center
        result.distortion = camera.distortion
        to_photo = camera.to_photo()
        result.to_photo = self._wp.mat22(*to_photo[:, :2].ravel().tolist())
        result.shift = self._wp.vec2(*to_photo[:, 2].tolist())
        return result

    def _light(self, light: Light) -> Any:
        vec3 = self._wp.vec3
        result = self._kernels.Light()
        result.sun = vec3(*(light.sun / np.linalg.norm(light.sun)).tolist())
        result.sun_color = vec3(*light.sun_color.tolist())
        result.sky = vec3(*light.sky.tolist())
        result.bounce = vec3(*light.bounce.tolist())
        result.side = vec3(*light.side.tolist())
        result.ground = light.ground if light.ground is not None else 0.0
        result.has_ground = int(light.ground is not None)
        result.occlusion_m = light.occlusion_m
        result.center = vec3(*self._center.tolist())
        result.radius = self._radius
        return result


def _spread(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Smooths an image and fills what was not looked at (negative) from its neighbours, as far as `width` reaches."""
    known = (values >= 0).astype(np.float32)
    total = np.asarray(cv2.blur(np.maximum(values, 0), (width, width)))
    share = np.asarray(cv2.blur(known, (width, width)))
    return np.where(share > 0, total / np.maximum(share, 1e-6), 0).astype(np.float32)


def look_at(
    position: NDArray[np.floating],
    target: NDArray[np.floating],
    focal_px: float,
    center: tuple[float, float],
    *,
    roll_deg: float = 0.0,
    distortion: float = 0.0,
) -> Camera:
    """A camera at `position` that looks at `target`, upright but for `roll_deg`."""
    ahead = np.asarray(target, dtype=np.float64) - position
    ahead /= np.linalg.norm(ahead)
    up = np.array([0.0, 0.0, 1.0]) if abs(ahead[2]) < 0.999 else np.array([0.0, -1.0, 0.0])
    right = np.cross(ahead, up)
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)
    angle = np.deg2rad(roll_deg)
    right, down = np.cos(angle) * right + np.sin(angle) * down, -np.sin(angle) * right + np.cos(angle) * down
    return Camera(np.stack([right, down, ahead]), np.asarray(position, dtype=np.float64), focal_px, center, distortion)
