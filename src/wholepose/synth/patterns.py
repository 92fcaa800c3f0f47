"""Warp functions that colour surfaces: textures, patterns of cloth, brows and beards, eyes."""

# mypy: ignore-errors
# ruff: noqa: UP018, SIM102 - float(0.0) makes a variable where 0.0 would be a constant
# Warp compiles these functions itself; their annotations are Warp's types, not Python's.

import warp as wp


@wp.func
def texel(texels: wp.array(dtype=wp.uint32), index: int) -> wp.vec4:
    """One texel, red to alpha in [0, 1]."""
    packed = int(texels[index])
    return wp.vec4(
        float(packed & 255) / 255.0,
        float((packed >> 8) & 255) / 255.0,
        float((packed >> 16) & 255) / 255.0,
        float((packed >> 24) & 255) / 255.0,
    )


@wp.func
def sample_texture(texels: wp.array(dtype=wp.uint32), start: int, height: int, width: int, uv: wp.vec2) -> wp.vec4:
    """A texture between its texels; it repeats."""
    x = (uv[0] - wp.floor(uv[0])) * float(width) - 0.5
    y = (1.0 - (uv[1] - wp.floor(uv[1]))) * float(height) - 0.5
    column = int(wp.floor(x))
    row = int(wp.floor(y))
    fx = x - float(column)
    fy = y - float(row)
    c0 = wp.clamp(column, 0, width - 1)
    c1 = wp.clamp(column + 1, 0, width - 1)
    r0 = wp.clamp(row, 0, height - 1)
    r1 = wp.clamp(row + 1, 0, height - 1)
    top = texel(texels, start + r0 * width + c0) * (1.0 - fx) + texel(texels, start + r0 * width + c1) * fx
    bottom = texel(texels, start + r1 * width + c0) * (1.0 - fx) + texel(texels, start + r1 * width + c1) * fx
    return top * (1.0 - fy) + bottom * fy


@wp.func
def to_linear(c: wp.vec3) -> wp.vec3:
    """From sRGB to light."""
    # Square is close enough to sRGB's curve for light transport, and its inverse is exact.
    return wp.vec3(c[0] * c[0], c[1] * c[1], c[2] * c[2])


@wp.func
def noise(seed: float, p: wp.vec3) -> float:
    """Smooth noise of about [-1, 1]."""
    return wp.noise(wp.rand_init(int(seed)), p)


@wp.func
def pattern_weight(kind: int, scale: float, seed: float, p: wp.vec3) -> float:
    """0 for the first colour, 1 for the second; p is the place on the body at rest."""
    result = float(0.0)
    if kind == 1:  # stripes across
        if wp.sin(p[2] * scale * 6.2832) > 0.2:
            result = 1.0
    elif kind == 2:  # stripes along
        if wp.sin(p[0] * scale * 6.2832) > 0.2:
            result = 1.0
    elif kind == 3:  # checks
        a = wp.sin(p[2] * scale * 6.2832)
        b = wp.sin(p[0] * scale * 6.2832)
        if a > 0.0:
            result = result + 0.5
        if b > 0.0:
            result = result + 0.5
    elif kind == 4:  # dots
        a = p[0] * scale - wp.floor(p[0] * scale) - 0.5
        b = p[2] * scale - wp.floor(p[2] * scale) - 0.5
        if a * a + b * b < 0.08:
            result = 1.0
    elif kind == 5:  # patches, as camouflage or batik
        if noise(seed, p * scale) > 0.08:
            result = 1.0
    elif kind == 6:  # heather
        result = wp.clamp(0.3 + 0.5 * noise(seed, wp.vec3(p[0] * 150.0, p[1] * 150.0, p[2] * 300.0)), 0.0, 1.0)
    elif kind == 7:  # a print on the chest
        dx = p[0] / 0.09
        dz = (p[2] - scale) / 0.075
        if p[1] < -0.02 and dx * dx + dz * dz < 1.0:
            if noise(seed, wp.vec3(p[0] * 28.0, 3.0, p[2] * 28.0)) > -0.12:
                result = 1.0
    elif kind == 8:  # yoke: another colour above a line
        if p[2] > scale:
            result = 1.0
    elif kind == 9:  # a front opening with a line of buttons
        if p[1] < 0.0 and wp.abs(p[0]) < 0.007:
            result = 0.5
            dz = p[2] * 10.0 - wp.floor(p[2] * 10.0) - 0.5
            if dz * dz < 0.005:
                result = 1.0
    elif kind == 10:  # worn denim: paler on the front of the thighs and the knees
        pale = wp.exp(-(wp.abs(p[2] + 0.28)) * 4.0)
        if p[1] > -0.02:
            pale = pale * 0.4
        result = wp.clamp(pale * 0.8 + 0.35 * noise(seed, p * 60.0), 0.0, 1.0)
    elif kind == 20:  # skin: brows, lashes' line, stubble or beard (scale: how dense) in the colour of hair
        side = wp.abs(p[0])
        if p[1] < -0.105 and p[2] > 0.76 and p[2] < 0.94 and side < 0.085:
            rise = (side - 0.0145) / 0.043
            if rise > -0.12 and rise < 1.1:
                middle = 0.9125 + 0.022 * rise - 0.0225 * rise * rise
                half = 0.0042 * (1.15 - 0.75 * wp.max(rise, 0.0))
                edge = wp.abs(p[2] - middle) / half
                hairs = noise(seed, wp.vec3(p[0] * 900.0 + p[2] * 500.0, 0.0, p[2] * 260.0))
                result = wp.clamp((1.25 - edge) * 1.6 + 0.7 * hairs, 0.0, 0.92) * wp.clamp(1.3 - 0.5 * rise, 0.0, 1.0)
            ex = (side - 0.0315) / 0.0165
            if wp.abs(ex) < 1.0:  # the lid's edge
                lid = 0.9045 + 0.0042 * (1.0 - ex * ex)
                if wp.abs(p[2] - lid) < 0.0013:
                    result = wp.max(result, 0.5)
        if scale > 0.0 and p[2] > 0.77 and p[2] < 0.89 and p[1] < -0.055 and side < 0.09:
            top = 0.845 + 0.55 * wp.max(side - 0.035, 0.0)
            mouth = wp.sqrt(p[0] * p[0] / 0.0007 + (p[2] - 0.829) * (p[2] - 0.829) / 0.00017)
            inside = wp.clamp((top - p[2]) * 120.0, 0.0, 1.0) * wp.clamp((mouth - 1.0) * 5.0, 0.0, 1.0)
            inside = inside * wp.clamp((p[2] - 0.772) * 60.0, 0.0, 1.0)
            hairs = noise(seed, wp.vec3(p[0] * 700.0, p[1] * 700.0, p[2] * 250.0))
            result = wp.max(result, inside * wp.clamp(scale * (1.0 + 0.7 * hairs), 0.0, 0.95))
    return result


@wp.func
def eye_color(p: wp.vec3, white: wp.vec3, iris: wp.vec3) -> wp.vec3:
    """Pupil, iris and white of an eyeball at rest, which looks along -y."""
    dx = wp.abs(p[0]) - 0.0312
    dz = p[2] - 0.9040
    r = wp.sqrt(dx * dx + dz * dz)
    color = white
    if p[1] < -0.129:
        if r < 0.0023:
            color = wp.vec3(0.004, 0.004, 0.004)
        elif r < 0.0060:
            color = iris * (0.7 + 70.0 * (r - 0.0023))
            if r > 0.0053:
                color = iris * 0.35
        else:
            color = white * (1.0 - 18.0 * (r - 0.006))
    return color
