"""Warp kernels: the picture by ray queries, and which points a camera sees. The same code runs on CPU and CUDA."""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM102 - float(0.0) makes a variable where 0.0 would be a constant
# Warp compiles these functions itself; their annotations are Warp's types, not Python's.

import warp as wp

from wholepose.synth.patterns import eye_color, noise, pattern_weight, sample_texture, to_linear

# The columns of `materials`:
#   0 texture_start: first texel, below 0 for none
#   1 texture_height
#   2 texture_width
#   3 alpha_test: 1: texels of alpha under a half are holes
#   4 red
#   5 green
#   6 blue
#   7 red2
#   8 green2
#   9 blue2
#  10 pattern
#  11 pattern_scale: repeats a metre
#  12 specular
#  13 shininess
#  14 fold_strength
#  15 fold_scale: folds a metre
#  16 mottle: strength of fine albedo noise
#  17 freckles: share of skin under freckles
#  18 softness: how far light wraps around, as in skin
#  19 seed
#  20 strands: 1 for the streaks of hair

wp.set_module_options({"enable_backward": False})  # nothing is differentiated, and compiling takes half as long


@wp.struct
class Camera:
    """A pinhole with radial distortion; rotation maps world to camera (x right, y down, z ahead).

    `to_photo` and `shift` map pixels of the picture to those of the photo that focal length and centre belong to.
    """

    rotation: wp.mat33
    position: wp.vec3
    focal: float
    center_x: float
    center_y: float
    distortion: float
    to_photo: wp.mat22
    shift: wp.vec2


@wp.struct
class Light:
    """Sun, sky and bounce, linear RGB; `sun` points to the sun."""

    sun: wp.vec3
    sun_color: wp.vec3
    sky: wp.vec3
    bounce: wp.vec3
    side: wp.vec3  # direction from which the sky is brighter, scaled by how much
    ground: float  # height of the ground plane, metres
    has_ground: int
    occlusion_m: float  # reach of ambient occlusion
    center: wp.vec3  # of all surfaces, and how far they reach from there
    radius: float


@wp.func
def camera_ray(camera: Camera, x: float, y: float) -> wp.vec3:
    """The direction in the world of a place in the picture."""
    photo = camera.to_photo * wp.vec2(x, y) + camera.shift
    u = (photo[0] - camera.center_x) / camera.focal
    v = (photo[1] - camera.center_y) / camera.focal
    a = u
    b = v
    for _ in range(5):
        scale = 1.0 + camera.distortion * (a * a + b * b)
        a = u / scale
        b = v / scale
    return wp.normalize(wp.transpose(camera.rotation) * wp.vec3(a, b, 1.0))


@wp.kernel
def render(
    mesh: wp.uint64,
    indices: wp.array(dtype=int),
    normals: wp.array(dtype=wp.vec3),
    colors: wp.array(dtype=wp.vec3),
    rest: wp.array(dtype=wp.vec4),
    face_uv: wp.array(dtype=wp.vec2),
    face_material: wp.array(dtype=int),
    face_person: wp.array(dtype=int),
    materials: wp.array2d(dtype=float),
    texels: wp.array(dtype=wp.uint32),
    camera: Camera,
    light: Light,
    samples: int,
    seed: int,
    refine: int,
    out_color: wp.array2d(dtype=wp.vec4),
    out_ambient: wp.array2d(dtype=wp.vec3),
    out_sky: wp.array2d(dtype=float),
    out_sun: wp.array2d(dtype=float),
    out_shadow: wp.array2d(dtype=float),
    out_person: wp.array2d(dtype=int),
    out_material: wp.array2d(dtype=int),
    known_material: wp.array2d(dtype=int),
):
    """One ray a pixel, or, to refine, `samples` rays where a neighbour of the first pass shows something else."""
    i, j = wp.tid()
    if refine == 1:
        here = known_material[i, j]
        alike = int(1)
        if i > 0 and known_material[i - 1, j] != here:
            alike = 0
        if j > 0 and known_material[i, j - 1] != here:
            alike = 0
        if i + 1 < out_person.shape[0] and known_material[i + 1, j] != here:
            alike = 0
        if j + 1 < out_person.shape[1] and known_material[i, j + 1] != here:
            alike = 0
        if alike == 1:
            return
    state = wp.rand_init(seed, i * out_color.shape[1] + j)
    total = wp.vec3(0.0, 0.0, 0.0)
    coverage = float(0.0)
    side = int(wp.sqrt(float(samples)) + 0.5)
    # Shading is worked out once for what rays of a pixel meet alike: visibility wants many rays, colour does not.
    shaded = int(-1)
    shaded_color = wp.vec3(0.0, 0.0, 0.0)
    shaded_ambient = wp.vec3(0.0, 0.0, 0.0)
    total_ambient = wp.vec3(0.0, 0.0, 0.0)
    pixel_sky = float(-1.0)
    pixel_sun = float(-1.0)
    shaded_normal = wp.vec3(0.0, 0.0, 0.0)
    ground_shade = float(-1.0)
    last_person = int(-1)
    last_material = int(-1)
    for s in range(samples):
        dx = (float(s % side) + 0.5) / float(side) - 0.5
        dy = (float(s // side) + 0.5) / float(side) - 0.5
        ray = camera_ray(camera, float(j) + dx, float(i) + dy)
        start = camera.position
        travelled = float(0.0)
        person = int(-1)
        color = wp.vec3(0.0, 0.0, 0.0)
        dull = wp.vec3(0.0, 0.0, 0.0)
        for _layer in range(12):
            query = wp.mesh_query_ray(mesh, start, ray, 1.0e4)
            if not query.result:
                break
            face = query.face
            a = indices[face * 3]
            b = indices[face * 3 + 1]
            c = indices[face * 3 + 2]
            wa = query.u
            wb = query.v
            wc = 1.0 - wa - wb
            place4 = rest[a] * wa + rest[b] * wb + rest[c] * wc
            point = start + ray * query.t
            travelled = travelled + query.t
            m = face_material[face]
            hole = place4[3] < 0.0
            albedo = colors[a] * wa + colors[b] * wb + colors[c] * wc
            tex_start = int(materials[m, 0])
            if tex_start >= 0 and not hole:
                uv = face_uv[face * 3] * wa + face_uv[face * 3 + 1] * wb + face_uv[face * 3 + 2] * wc
                rgba = sample_texture(texels, tex_start, int(materials[m, 1]), int(materials[m, 2]), uv)
                if materials[m, 3] > 0.5 and rgba[3] < 0.25 + 0.5 * wp.randf(state):
                    hole = True
                albedo = wp.cw_mul(albedo, to_linear(wp.vec3(rgba[0], rgba[1], rgba[2])))
            if hole:
                start = point + ray * 1.0e-5
                travelled = travelled + 1.0e-5
                continue
            person = face_person[face]
            last_person = person
            last_material = m
            if shaded == m and wp.abs(wp.dot(shaded_normal, query.normal)) > 0.9:
                color = shaded_color
                dull = shaded_ambient
                break
            normal = wp.normalize(normals[a] * wa + normals[b] * wb + normals[c] * wc)
            geometric = query.normal
            if wp.dot(geometric, ray) > 0.0:
                geometric = -geometric
            if wp.dot(normal, geometric) < 0.0:
                normal = -normal
            place = wp.vec3(place4[0], place4[1], place4[2])
            noise_seed = materials[m, 19]
            first_color = wp.vec3(materials[m, 4], materials[m, 5], materials[m, 6])
            kind = int(materials[m, 10])
            if kind > 0:
                second = wp.vec3(materials[m, 7], materials[m, 8], materials[m, 9])
                if kind == 21:
                    first_color = eye_color(place, first_color, second)
                else:
                    weight = pattern_weight(kind, materials[m, 11], noise_seed, place)
                    if kind == 20 and weight > 0.0:
                        albedo = albedo * (1.0 - weight) + wp.vec3(1.0, 1.0, 1.0) * weight
                    first_color = first_color * (1.0 - weight) + second * weight
            albedo = wp.cw_mul(albedo, first_color)
            mottle = materials[m, 16]
            if mottle > 0.0:
                n = noise(noise_seed, place * 35.0) + 0.6 * noise(noise_seed + 1.0, place * 140.0)
                albedo = albedo * (1.0 + mottle * n)
            freckles = materials[m, 17]
            if freckles > 0.0:
                n = noise(noise_seed + 2.0, place * 330.0) + 0.5 * noise(noise_seed + 3.0, place * 9.0)
                spot = wp.clamp((n - (0.9 - freckles)) * 6.0, 0.0, 1.0)
                albedo = wp.cw_mul(albedo, wp.vec3(1.0 - 0.35 * spot, 1.0 - 0.55 * spot, 1.0 - 0.62 * spot))
            fold = materials[m, 14]
            if fold > 0.0:
                f = materials[m, 15]
                q = wp.vec3(place[0] * f, place[1] * f, place[2] * f * 0.45)
                e = 0.04
                warp_by = 0.8 * noise(noise_seed + 4.0, q * 0.5)
                q = q + wp.vec3(warp_by, warp_by, warp_by)
                base = noise(noise_seed, q)
                gradient = (
                    wp.vec3(
                        noise(noise_seed, q + wp.vec3(e, 0.0, 0.0)) - base,
                        noise(noise_seed, q + wp.vec3(0.0, e, 0.0)) - base,
                        noise(noise_seed, q + wp.vec3(0.0, 0.0, e)) - base,
                    )
                    / e
                )
                normal = wp.normalize(normal - fold * (gradient - normal * wp.dot(normal, gradient)))
            if materials[m, 20] > 0.5:  # strands: streaks along the hair
                n = noise(noise_seed, wp.vec3(place[0] * 500.0, place[1] * 500.0, place[2] * 40.0))
                albedo = albedo * (1.0 + 0.5 * n)

            # Sun with shadow, sky with occlusion, light bounced from the ground.
            lifted = point + geometric * 0.005
            soft = materials[m, 18]
            facing = (wp.dot(normal, light.sun) + soft) / (1.0 + soft)
            # Every other pixel, as on a chessboard, is enough: both are blurred later, and rays are what takes time.
            looks = refine == 0 and (i + j) % 2 == 0
            lit = float(0.0)
            if looks and facing > 0.0:
                lit = 1.0
                jitter = wp.vec3(wp.randn(state), wp.randn(state), wp.randn(state)) * 0.02
                if wp.mesh_query_ray_anyhit(mesh, lifted + light.sun * 0.007, wp.normalize(light.sun + jitter), 30.0):
                    lit = 0.0
                else:  # a coarse mesh turns from the sun in steps
                    lit = wp.clamp(wp.dot(geometric, light.sun) * 5.0 + 0.6, 0.0, 1.0)
            open_sky = float(1.0)
            for _ray in range(2):
                if not looks:
                    break
                around = wp.normalize(normal + wp.sample_unit_sphere_surface(state) * 0.98)
                if wp.mesh_query_ray_anyhit(mesh, lifted + around * 0.004, around, light.occlusion_m):
                    open_sky = open_sky - 0.36
                elif light.has_ground == 1 and around[2] < 0.0:
                    to_ground = (lifted[2] - light.ground) / wp.max(-around[2], 1.0e-3)
                    if to_ground < light.occlusion_m:
                        open_sky = open_sky - 0.3 * (1.0 - to_ground / light.occlusion_m)
            up = 0.5 + 0.5 * normal[2]
            ambient = light.sky * up + light.bounce * (1.0 - up)
            ambient = ambient * wp.max(1.0 + wp.dot(normal, light.side), 0.15)
            if looks:
                pixel_sky = open_sky
                pixel_sun = lit
            direct = light.sun_color * wp.max(facing, 0.0)
            color = wp.cw_mul(albedo, direct)
            dull = wp.cw_mul(albedo, ambient)
            if soft > 0.0 and facing > 0.0:  # blood under the skin reddens the edge of light
                edge = wp.max(0.0, 0.35 - wp.abs(facing - 0.2)) * soft
                color = color + wp.cw_mul(wp.cw_mul(albedo, light.sun_color), wp.vec3(0.55, 0.1, 0.05)) * edge
            specular = materials[m, 12]
            if specular > 0.0:
                half = wp.normalize(light.sun - ray)
                gloss = wp.pow(wp.max(wp.dot(normal, half), 0.0), materials[m, 13])
                rim = wp.pow(1.0 - wp.max(-wp.dot(normal, ray), 0.0), 5.0)
                color = color + light.sun_color * (specular * gloss * wp.max(facing, 0.0))
                dull = dull + ambient * (specular * 0.5 * rim)
            shaded = m
            shaded_color = color
            shaded_ambient = dull
            shaded_normal = query.normal
            break
        if person >= 0:
            coverage = coverage + 1.0
            total = total + color
            total_ambient = total_ambient + dull
        else:
            # A quarter of the ground's pixels is enough: shadows are blurred later.
            if refine == 0 and i % 2 == 0 and j % 2 == 0:
                ground_shade = float(0.0)
                if light.has_ground == 1 and ray[2] < -1.0e-4:
                    t = (light.ground - camera.position[2]) / ray[2]
                    point = camera.position + ray * t
                    if t > 0.0 and wp.length(point - light.center) < light.radius + 4.0:
                        origin = point + wp.vec3(0.0, 0.0, 0.002)
                        sun_amount = (light.sun_color[0] + light.sun_color[1] + light.sun_color[2]) * wp.max(
                            light.sun[2], 0.05
                        )
                        sky_amount = light.sky[0] + light.sky[1] + light.sky[2]
                        received = sky_amount
                        if wp.length(point - light.center) < light.radius + 0.6:
                            for _ray in range(2):
                                around = wp.normalize(
                                    wp.vec3(0.0, 0.0, 1.0) + wp.sample_unit_sphere_surface(state) * 0.98
                                )
                                if wp.mesh_query_ray_anyhit(mesh, origin, around, 0.9):
                                    received = received - sky_amount * 0.38
                        jitter = wp.vec3(wp.randn(state), wp.randn(state), wp.randn(state)) * 0.03
                        to_sun = wp.normalize(light.sun + jitter)
                        # Most of the ground lies where nothing can stand in the sun.
                        beside = light.center - origin
                        beside = beside - to_sun * wp.dot(beside, to_sun)
                        blocked = int(0)
                        if wp.length(beside) < light.radius:
                            if wp.mesh_query_ray_anyhit(mesh, origin, to_sun, 12.0):
                                blocked = 1
                        if blocked == 0:
                            received = received + sun_amount
                        ground_shade = 1.0 - received / (sky_amount + sun_amount)
    if coverage > 0.0:
        total = total / coverage
        total_ambient = total_ambient / coverage
    out_color[i, j] = wp.vec4(total[0], total[1], total[2], coverage / float(samples))
    out_ambient[i, j] = total_ambient
    if refine == 0:
        out_sky[i, j] = pixel_sky
        out_sun[i, j] = pixel_sun
        out_shadow[i, j] = ground_shade
        out_person[i, j] = last_person
        out_material[i, j] = last_material


@wp.kernel
def see_points(
    mesh: wp.uint64,
    indices: wp.array(dtype=int),
    rest: wp.array(dtype=wp.vec4),
    face_uv: wp.array(dtype=wp.vec2),
    face_material: wp.array(dtype=int),
    face_person: wp.array(dtype=int),
    materials: wp.array2d(dtype=float),
    texels: wp.array(dtype=wp.uint32),
    camera_position: wp.vec3,
    points: wp.array(dtype=wp.vec3),
    tolerances: wp.array(dtype=float),
    persons: wp.array(dtype=int),
    out_seen: wp.array(dtype=int),
):
    """A point is seen when nothing stands before it but, within its tolerance, its own person's flesh and clothes."""
    k = wp.tid()
    offset = points[k] - camera_position
    distance = wp.length(offset)
    ray = offset / distance
    start = camera_position
    travelled = float(0.0)
    seen = int(1)
    for _layer in range(12):
        query = wp.mesh_query_ray(mesh, start, ray, distance - travelled)
        if not query.result:
            break
        face = query.face
        wa = query.u
        wb = query.v
        wc = 1.0 - wa - wb
        hole = (
            rest[indices[face * 3]][3] * wa + rest[indices[face * 3 + 1]][3] * wb + rest[indices[face * 3 + 2]][3] * wc
        ) < 0.0
        m = face_material[face]
        if materials[m, 3] > 0.5 and materials[m, 0] >= 0.0 and not hole:
            uv = face_uv[face * 3] * wa + face_uv[face * 3 + 1] * wb + face_uv[face * 3 + 2] * wc
            rgba = sample_texture(texels, int(materials[m, 0]), int(materials[m, 1]), int(materials[m, 2]), uv)
            hole = rgba[3] < 0.5
        travelled = travelled + query.t + 1.0e-5
        if hole:
            start = start + ray * (query.t + 1.0e-5)
            continue
        if distance - travelled > tolerances[k] or face_person[face] != persons[k]:
            seen = 0
        break
    out_seen[k] = seen
