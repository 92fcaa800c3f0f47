"""The renderer: projection, coverage, shadow, visibility, cut-outs, textures."""

import numpy as np
import pytest

from wholepose.synth.meshes import smoothed, vertex_normals
from wholepose.synth.props import ball, box, tube
from wholepose.synth.render import Camera, Light, Material, Renderer, Surface, look_at

SIZE = (60, 80)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


@pytest.fixture
def light() -> Light:
    return Light(
        sun=np.array([0.0, -0.6, 1.0]),
        sun_color=np.full(3, 0.6),
        sky=np.full(3, 0.4),
        bounce=np.full(3, 0.2),
        ground=None,
    )


def camera(distance: float = 4.0, focal: float = 100.0) -> Camera:
    return look_at(np.array([0.0, -distance, 0.0]), np.zeros(3), focal, ((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2))


def test_projection_looks_along_y_with_z_up():
    view = camera()
    pixels, depth = view.project(np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 2, 0]], dtype=float))
    np.testing.assert_allclose(pixels, [[39.5, 29.5], [64.5, 29.5], [39.5, 4.5], [39.5, 29.5]], atol=1e-9)
    np.testing.assert_allclose(depth, [4, 4, 4, 6], atol=1e-9)


def test_distortion_is_the_same_in_projection_and_rays(renderer, light):
    view = look_at(np.array([0.0, -4.0, 0.0]), np.zeros(3), 45.0, (39.5, 29.5), distortion=-0.15)
    target = np.array([2.2, 0.3, 1.1])
    layers = renderer.scene([ball(target, 0.12, Material(), 3)]).render(view, light, SIZE)
    rows, columns = np.nonzero(layers.person == 3)
    pixels, _ = view.project(target[None])
    np.testing.assert_allclose([columns.mean(), rows.mean()], pixels[0], atol=0.4)


def test_distortion_leaves_outside_what_is_outside():
    view = look_at(np.array([0.0, -4.0, 0.0]), np.zeros(3), 45.0, (39.5, 29.5), distortion=-0.12)
    away = np.linspace(0.1, 60, 400)
    pixels, _ = view.project(np.column_stack([away, np.zeros(400), np.zeros(400)]))
    assert (np.diff(pixels[:, 0]) > 0).all(), "further out is further out"


def test_sphere_covers_its_disc(renderer, light):
    layers = renderer.scene([ball(np.zeros(3), 1.0, Material(color=(0.5, 0.5, 0.5)), 0)]).render(camera(), light, SIZE)
    radius = 100.0 / np.sqrt(15)  # the tangent cone of a unit ball four metres off
    assert layers.coverage.sum() == pytest.approx(np.pi * radius**2, rel=0.06)
    assert set(np.unique(layers.person)) == {-1, 0}
    top, bottom = layers.color[10:20, 38:42].mean(), layers.color[42:50, 38:42].mean()
    assert top > bottom + 0.1, "the sun stands above"


def test_edges_are_smooth_and_the_inside_is_full(renderer, light):
    layers = renderer.scene([ball(np.zeros(3), 1.0, Material(), 0)]).render(camera(), light, SIZE, samples=4)
    assert layers.coverage[30, 40] == 1
    assert ((layers.coverage > 0) & (layers.coverage < 1)).sum() > 20
    coarse = renderer.scene([ball(np.zeros(3), 1.0, Material(), 0)]).render(camera(), light, SIZE, samples=1)
    assert set(np.unique(coarse.coverage)) == {0, 1}


def test_things_throw_shadows_on_the_ground(renderer, light):
    light.ground = -1.0
    view = look_at(np.array([0.0, -4.0, 1.0]), np.array([0.0, 0.0, -0.5]), 60.0, (39.5, 29.5))
    layers = renderer.scene([ball(np.zeros(3), 0.5, Material(), 0)]).render(view, light, SIZE)
    shaded, _ = view.project(np.array([[0.0, 0.6, -1.0], [2.5, 0.6, -1.0]]))
    inside, outside = (layers.shadow[round(y), round(x)] for x, y in shaded)
    assert inside > 0.3
    assert outside < 0.1


def test_light_and_picture_are_the_same_from_the_same_seed(renderer, light):
    def picture(seed: int) -> np.ndarray:
        return (
            renderer.scene([ball(np.zeros(3), 1.0, Material(mottle=0.1), 0)])
            .render(camera(), light, SIZE, seed=seed)
            .color
        )

    assert np.array_equal(picture(4), picture(4))


def test_points_behind_others_are_hidden(renderer):
    surfaces = [ball(np.zeros(3), 0.5, Material(), 0), ball(np.array([0.0, -1.5, 0.0]), 0.2, Material(), 1)]
    scene = renderer.scene(surfaces)
    points = np.array([[0, -0.4, 0.4], [0, -0.5, 0.0], [0, 0.5, 0.0], [0, 0, 0.0], [0, 0, 0.38]])
    #                   seen            behind 1        at the back     deep          less deep
    seen = scene.seen(camera(), points, np.array([0.15, 0.15, 0.15, 0.15, 0.45]), np.zeros(5, int))
    assert seen.tolist() == [True, False, False, False, True]
    deep = scene.seen(camera(), points[3:4], np.array([0.6]), np.array([0]))
    assert deep.tolist() == [False], "another person stands before it"


def test_cut_parts_are_holes(renderer, light):
    surface = box(np.zeros(3), np.array([2.0, 0.1, 2.0]), Material(), 0)
    surface.keep = surface.vertices[:, 0].copy()
    layers = renderer.scene([surface]).render(camera(), light, SIZE)
    assert layers.coverage[30, 50] == 1
    assert layers.coverage[30, 30] == 0
    seen = renderer.scene([surface]).seen(
        camera(), np.array([[-0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]), np.full(2, 0.01), np.zeros(2, int)
    )
    assert seen.tolist() == [True, False]


def test_textures_lie_the_right_way_up(renderer, light):
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[0, 0], texture[0, 1] = (255, 0, 0, 255), (0, 255, 0, 255)
    texture[1, 0], texture[1, 1] = (0, 0, 255, 255), (255, 255, 255, 0)
    vertices = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], np.float32)
    surface = Surface(
        vertices,
        faces,
        vertex_normals(vertices, faces),
        Material(texture=texture, alpha_test=True),
        0,
        vertices,
        uv=corners[faces],
    )
    layers = renderer.scene([surface]).render(camera(), light, SIZE)
    assert layers.color[12, 20].argmax() == 0
    assert layers.color[12, 58].argmax() == 1
    assert layers.color[47, 20].argmax() == 2
    assert layers.coverage[48, 60] == 0, "transparent texels are holes"


def test_normals_and_smoothing():
    sphere = ball(np.zeros(3), 1.0, Material(), 0)
    normals = vertex_normals(sphere.vertices, sphere.faces)
    middle = np.abs(sphere.vertices[:, 2]) < 0.9
    np.testing.assert_allclose(np.einsum("vd,vd->v", normals, sphere.vertices)[middle], 1, atol=0.05)
    pole = tube(np.array([[0, 0, 0], [0, 0, 1.0]]), 0.1, Material(), 0)
    outward = np.einsum("vd,vd->v", vertex_normals(pole.vertices, pole.faces)[:, :2], pole.vertices[:, :2])
    assert (outward > 0.09).all() or (outward < -0.09).all()
    neighbours = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]], np.int32)
    np.testing.assert_allclose(smoothed(np.array([0, 3, 6], np.float32), neighbours, 1), [3, 3, 3])
