"""Warp kernels for meshes: skinning, smooth normals, averaging over neighbours, what cloth hides."""

# mypy: ignore-errors
# Warp compiles these functions itself; their annotations are Warp's types, not Python's.

import warp as wp

wp.set_module_options({"enable_backward": False})  # nothing is differentiated, and compiling takes half as long


@wp.kernel
def skin(
    points: wp.array(dtype=wp.vec3),
    bones: wp.array2d(dtype=int),
    weights: wp.array2d(dtype=float),
    linear: wp.array(dtype=wp.mat33),
    shift: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    """Linear blend skinning."""
    v = wp.tid()
    p = points[v]
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(weights.shape[1]):
        w = weights[v, k]
        if w > 0.0:
            b = bones[v, k]
            total += (linear[b] * p + shift[b]) * w
    out[v] = total


@wp.kernel
def add_face_normals(points: wp.array(dtype=wp.vec3), faces: wp.array2d(dtype=int), out: wp.array(dtype=wp.vec3)):
    """Adds each face's normal, as long as its area, to its corners."""
    f = wp.tid()
    a = faces[f, 0]
    b = faces[f, 1]
    c = faces[f, 2]
    n = wp.cross(points[b] - points[a], points[c] - points[a])
    wp.atomic_add(out, a, n)
    wp.atomic_add(out, b, n)
    wp.atomic_add(out, c, n)


@wp.kernel
def normalize(values: wp.array(dtype=wp.vec3)):
    """Gives every vector the length 1."""
    v = wp.tid()
    values[v] = wp.normalize(values[v])


@wp.kernel
def average(values: wp.array(dtype=wp.vec3), neighbours: wp.array2d(dtype=int), out: wp.array(dtype=wp.vec3)):
    """The mean over each vertex's neighbours."""
    v = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(neighbours.shape[1]):
        total += values[neighbours[v, k]]
    out[v] = total / float(neighbours.shape[1])


@wp.kernel
def hidden_by(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    reach: float,
    out: wp.array(dtype=int),
):
    """1 where a ray out of the skin, or a short one into it, meets the mesh."""
    v = wp.tid()
    out[v] = 0
    if wp.mesh_query_ray_anyhit(mesh, points[v] - normals[v] * 0.012, normals[v], reach + 0.012):
        out[v] = 1
