"""Simple things: glasses, brims, boxes and tubes, bags and what hands hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.synth.body import Body
from wholepose.synth.meshes import vertex_normals
from wholepose.synth.render import Material, Surface


def box(
    center: NDArray[np.floating],
    size: NDArray[np.floating],
    material: Material,
    person: int,
    rotation: NDArray[np.floating] | None = None,
) -> Surface:
    """A box with flat sides; `center` (3,), `size` (3,) in metres."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    corners = np.concatenate([signs[list(quad)] for quad in quads])
    faces = np.array([[4 * q + i for i in pick] for q in range(6) for pick in ((0, 1, 2), (0, 2, 3))])
    local = corners * np.asarray(size) / 2
    points = local if rotation is None else local @ np.asarray(rotation).T
    placed: NDArray[np.float32] = np.asarray(points + np.asarray(center), dtype=np.float32)
    return Surface(placed, faces, vertex_normals(placed, faces), material, person, local.astype(np.float32))


def tube(
    path: NDArray[np.floating], radius: NDArray[np.floating] | float, material: Material, person: int, sides: int = 8
) -> Surface:
    """A round tube along a path (n, 3) of given radius, number or (n,)."""
    points = np.asarray(path, dtype=np.float64)
    count = len(points)
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(along[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    first = np.cross(along, helper)
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    second = np.cross(along, first)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (count,))
    ring = np.cos(angle)[None, :, None] * first[:, None] + np.sin(angle)[None, :, None] * second[:, None]
    vertices = (points[:, None] + ring * radii[:, None, None]).reshape(-1, 3).astype(np.float32)
    index = np.arange(count * sides).reshape(count, sides)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    faces = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return Surface(vertices, faces, vertex_normals(vertices, faces), material, person, vertices)


def ball(center: NDArray[np.floating], radii: NDArray[np.floating] | float, material: Material, person: int) -> Surface:
    """An ellipsoid with `radii` (3,) or one number, metres."""
    rows, columns = 10, 16
    polar = np.linspace(0, np.pi, rows)
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(around)[None],
            np.sin(polar)[:, None] * np.sin(around)[None],
            np.broadcast_to(np.cos(polar)[:, None], (rows, columns)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = (unit * np.asarray(radii) + np.asarray(center)).astype(np.float32)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    faces = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
    return Surface(vertices, faces, unit.astype(np.float32), material, person, (unit * 0.1).astype(np.float32))


def _moved(surface: Surface, transform: NDArray[np.floating]) -> Surface:
    linear, shift = transform[:, :3], transform[:, 3]
    surface.vertices = (surface.vertices @ linear.T + shift).astype(np.float32)
    surface.normals = (surface.normals @ linear.T).astype(np.float32)
    return surface


def glasses(
    vertices: NDArray[np.float32],
    head: NDArray[np.floating],
    frame: Material,
    lenses: Material | None,
    person: int,
    body: Body,
) -> list[Surface]:
    """Glasses on a face at rest, moved by the head bone's transform (3, 4); dark discs when there are lenses."""
    surfaces: list[Surface] = []
    angle = np.linspace(0, 2 * np.pi, 21)
    bridge = vertices[131]  # on the nose, between the eyes
    ends = []
    for group in ("helper-l-eye", "helper-r-eye"):
        points = vertices[np.unique(body.faces[body.group_faces(group)])]
        eye = points.mean(axis=0)
        sign = 1.0 if eye[0] > 0 else -1.0
        width = abs(float(eye[0])) * 0.82
        front = float(min(points[:, 1].min(), bridge[1])) - 0.008
        ring = np.stack(
            [
                eye[0] + sign * 0.002 + width * np.cos(angle),
                front + 0.012 * np.abs((eye[0] + width * np.cos(angle)) / 0.07) ** 2,
                eye[2] - 0.004 + width * 0.78 * np.sin(angle),
            ],
            axis=1,
        )
        surfaces.append(_moved(tube(ring, 0.0016, frame, person, 6), head))
        hinge = ring[np.argmax(sign * ring[:, 0])]
        ear = np.array([sign * (abs(float(hinge[0])) + 0.012), hinge[1] + 0.085, hinge[2] + 0.004])
        surfaces.append(_moved(tube(np.stack([hinge, (hinge + ear) / 2, ear]), 0.0017, frame, person, 6), head))
        ends.append(ring[np.argmin(sign * ring[:, 0])])
        if lenses is not None:
            disc = np.concatenate([ring[:-1], ring.mean(axis=0, keepdims=True)]).astype(np.float32)
            count = len(ring) - 1
            faces = np.stack([np.arange(count), (np.arange(count) + 1) % count, np.full(count, count)], axis=1)
            surface = Surface(disc, faces, vertex_normals(disc, faces), lenses, person, disc)
            surfaces.append(_moved(surface, head))
    surfaces.append(
        _moved(
            tube(np.stack([ends[0], (ends[0] + ends[1]) / 2 + [0, -0.003, 0.003], ends[1]]), 0.0016, frame, person, 6),
            head,
        )
    )
    return surfaces


def hat_brim(vertices: NDArray[np.float32], head: NDArray[np.floating], material: Material, person: int) -> Surface:
    """The peak of a cap, at rest above the forehead, moved by the head bone's transform (3, 4)."""
    forehead = vertices[5243]  # on the midline, a hand above the brows
    angle = np.linspace(-1.15, 1.15, 13)
    inner = np.stack([0.078 * np.sin(angle), forehead[1] + 0.078 - 0.085 * np.cos(angle), np.zeros_like(angle)], axis=1)
    outer = np.stack([0.085 * np.sin(angle), forehead[1] + 0.05 - 0.13 * np.cos(angle), -0.018 * np.cos(angle)], axis=1)
    points = np.concatenate([inner, outer])
    points[:, 2] += forehead[2] - 0.012
    count = len(angle)
    row = np.arange(count - 1)
    faces = np.concatenate(
        [np.stack([row, row + 1, row + count], -1), np.stack([row + 1, row + count + 1, row + count], -1)]
    )
    surface = Surface(
        points.astype(np.float32),
        faces,
        vertex_normals(points.astype(np.float32), faces),
        material,
        person,
        points.astype(np.float32),
    )
    return _moved(surface, head)
