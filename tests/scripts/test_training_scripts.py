"""What the scripts that train the embedded weights reckon with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("shape", [(24, 216), (216, 24), (32, 96)])
def test_orthogonal_keeps_directions_and_evens_their_sizes(shape):
    from muon import orthogonal

    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    evened = orthogonal(torch.stack([matrix.flip(0), 1e-3 * matrix]))[1]
    found = torch.linalg.svdvals(evened)
    assert sizes.max() / sizes.min() > found.max() / found.min()
    assert found.min() > 0.5
    assert found.max() < 1.4
    along = torch.diagonal(u.T @ evened @ v.T)
    assert (along > 0.4).all()  # each of its own directions, none turned round


def test_muon_descends_evenly_where_the_gradient_does_not():
    """A loss a hundred times steeper in one direction than in another: both fall at the same pace."""
    from muon import Muon

    weights, alike = (torch.nn.Parameter(torch.ones(2, 1, 1, 2)) for _ in range(2))
    steep = torch.tensor([[1.0, 0.0], [0.0, 1e-2]]).view(2, 1, 1, 2)
    optimiser = Muon([weights, alike], lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        (steep * weights - 50 * steep * alike).sum().backward()
        optimiser.step()
    np.testing.assert_allclose((alike.detach() - 1).numpy(), (1 - weights.detach()).numpy(), atol=0.02)
    moved = (1 - weights.detach()).flatten()
    assert moved[0] > 0.2
    assert moved[3] > 0.2
    assert abs(moved[1]) < 0.05
    assert abs(moved[2]) < 0.05


def test_scaled_scores_say_how_often_they_are_right():
    from release_pose import scale_scores, score_factor

    from wholepose.models.posenet import build_model
    from wholepose.skeletons import HALPE136

    bins = [{"n": 50, "score": s, "right": 0.4 * s} for s in (0.2, 0.5, 0.9)] + [{"n": 0, "score": None, "right": None}]
    assert score_factor(bins) == pytest.approx(0.4)
    model = build_model("hrnet_w16_slim", 136).eval()
    crops = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model(crops).numpy()
    scale_scores(model, ("face",), 0.4)
    with torch.inference_mode():
        after = model(crops).numpy()
    face = np.isin(np.arange(136), list(HALPE136.parts["face"]))
    np.testing.assert_allclose(after[:, face], 0.4 * before[:, face], rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(after[:, ~face], before[:, ~face])


def grown(arch, pictures):
    """A network with statistics of its own, and that network grown, which answers alike."""
    from grow_pose import grow

    from wholepose.models.posenet import build_model

    torch.manual_seed(0)
    old = build_model("hrnet_w24_slim_f96", 136)
    for module in old.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    old.train()(pictures)
    new = grow(old, arch, pictures)
    with torch.inference_mode():
        before, after = old.eval()(pictures), new.eval()(pictures)
    np.testing.assert_allclose(after.numpy(), before.numpy(), atol=1e-4 * before.abs().max())
    return old, new


def test_a_deeper_network_answers_as_before_and_learns_in_every_new_layer():
    pictures = torch.randn(4, 3, 64, 64)
    _, new = grown("hrnet_w32_large_f96", pictures)
    new(pictures).square().mean().backward()
    stage = new.backbone.stage4
    assert len(stage) == 3
    assert (stage[2].branches[0][0].bn2.weight != 0).all()  # the old one
    for module in (stage[0], stage[1]):
        assert (module.branches[0][3].bn2.weight == 0).all()
        assert (module.branches[0][3].bn2.weight.grad[:24] != 0).float().mean() > 0.8  # a few see only zeros
        down, up = module.fuse_layers[3][0], module.fuse_layers[0][3]
        assert (down[0][1].weight == 1).all()  # only the last of a chain is silent
        assert (down[2][1].weight == 0).all()
        assert up[1].weight.grad.abs().max() > 0


def test_a_wider_network_answers_as_before_and_can_learn_more():
    from grow_pose import grow

    pictures = torch.randn(4, 3, 64, 64)
    old, new = grown("hrnet_w32_slim_f96", pictures)
    new(pictures).square().mean().backward()
    block = new.backbone.stage3[0].branches[0][0]
    gradient = block.conv1.weight.grad
    assert (gradient[:24, 24:].abs().amax((0, 2, 3)) > 0).all()  # old channels learn from each of the new ones
    assert (block.bn1.running_var[24:] != 1).all()
    with pytest.raises(ValueError, match="hrnet_w24_slim is not the old network"):
        grow(old, "hrnet_w24_slim", pictures)


def test_coarse_crops_lose_detail_and_stay_where_they_are():
    from pose_samples import coarse

    rows, columns = np.mgrid[:256, :192]
    crop = np.repeat(np.where((rows - 128) ** 2 + (columns - 96) ** 2 < 40**2, 220, 30)[..., None], 3, 2)
    crop = crop.astype(np.uint8)
    crop[::2] -= 20  # detail
    stripes = []
    for seed in range(20):
        changed = coarse(crop, np.random.default_rng(seed), 0.22)
        assert changed.shape == crop.shape
        assert changed.dtype == np.uint8
        stripes.append(np.abs(np.diff(changed[:, 5, 0].astype(int))).mean())
        bright = np.argwhere(changed[..., 0] > 125)
        np.testing.assert_allclose(bright.mean(0), (128, 96), atol=1.5)
        assert len(bright) == pytest.approx(np.pi * 40**2, rel=0.1)
    assert np.mean(np.array(stripes) < 10) > 0.6  # 20 before; packing alone keeps them


def test_faces_and_hands_of_people_seen_whole_are_zoomed_to(tmp_path):
    from pose_photos import Material, read_drawn
    from pose_samples import one_batch

    photos = np.zeros((3, 256, 192, 3), np.uint8)
    photos[:, 40:60, 90:110] = 255  # the face
    keypoints, visibility = np.zeros((3, 136, 2), np.float32), np.zeros((3, 136), np.uint8)
    keypoints[:, 26:94] = np.random.default_rng(0).uniform((90, 40), (109, 59), (68, 2))
    keypoints[:, 94:115] = np.random.default_rng(1).uniform((60, 120), (70, 130), (21, 2))  # a hand of 10 px
    visibility[:, 26:94] = [[2], [2], [1]]  # the third is seen from behind
    visibility[:, 94:115] = 2
    boxes = np.tile([60.0, 30, 140, 230], (3, 1))
    np.savez(
        tmp_path / "0.npz", body_image=photos, body_keypoints=keypoints, body_visibility=visibility, body_box=boxes
    )
    people = read_drawn([tmp_path], [])
    assert [len(people[name]) for name in ("body", "zoomed_face", "zoomed_left_hand")] == [3, 2, 0]
    material = Material(people, backgrounds=[np.zeros((256, 256, 3), np.uint8)])
    batch = one_batch(material, {"zoomed_face": 1.0}, (128, 96), 32, 0.0)
    crops, _, points, weights = (values.numpy() for values in batch)
    assert (weights[:, 26:94] == 1).all()
    spread = np.ptp(points[:, 26:94], axis=1).max(1)
    assert ((spread > 24) & (spread < 110)).all()  # 5 to 10 px where the whole person is framed
    assert (crops.reshape(32, -1).mean(1) > 20).all()


def test_hands_told_in_photos_are_looked_at_alone():
    from pose_photos import Labelled, Material, known_hands
    from pose_samples import one_batch

    photo = np.zeros((400, 300, 3), np.uint8)
    photo[200:230, 40:70] = 255  # the right hand
    places = np.random.default_rng(0).uniform(0, 1, (21, 2))
    people = []
    for side, missing in ((29, False), (10, False), (29, True)):  # only the first is large enough and known
        keypoints, labelled = np.zeros((136, 2), np.float32), np.zeros(136, bool)
        keypoints[115:136], labelled[115:136] = places * side + [40, 200], True
        labelled[120] = not missing
        people.append(Labelled(photo, keypoints, labelled, np.array([20.0, 20, 280, 380])))
    hands = known_hands({"web": people[:2], "lsp": people[2:], "face68": people})
    assert hands == {"seen_left_hand": [], "seen_right_hand": people[:1]}
    material = Material(hands, backgrounds=[np.zeros((256, 256, 3), np.uint8)])
    crops, _, points, weights = one_batch(material, {"seen_right_hand": 1.0}, (128, 96), 32, 0.0)
    mirrored = (weights[:, 94:115] == 1).all(1)
    assert 5 < mirrored.sum() < 27
    shown = torch.where(mirrored[:, None, None], points[:, 94:115], points[:, 115:])
    spread = np.ptp(shown.numpy(), axis=1).max(1)
    assert ((spread > 30) & (spread < 125)).all()
    assert (crops.numpy().reshape(32, -1).mean(1) > 15).all()


def test_something_before_a_crop_hides_a_part_of_it():
    from pose_samples import behind

    crop, things = np.zeros((256, 192, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    shares = []
    for seed in range(40):
        shown = behind(crop, things, np.random.default_rng(seed))
        assert set(np.unique(shown)) <= {0, 255}
        shares.append((shown > 0).mean())
    assert min(shares) > 0
    assert 0.2 < max(shares) < 0.4


def test_somebody_beside_covers_one_side_alone():
    from pose_samples import beside

    crop = np.zeros((128, 96, 3), np.uint8)
    figure = np.full((100, 30, 4), 255, np.uint8)
    sides = set()
    for seed in range(20):
        shown = beside(crop, figure, np.random.default_rng(seed))
        assert shown.shape == crop.shape
        covered = np.flatnonzero((shown > 0).any(axis=(0, 2)))
        if len(covered):
            sides.add(bool(covered.mean() > 48))
        assert (shown == 0).all(axis=2).mean() > 0.4
    assert sides == {False, True}


def test_drawn_people_become_scenes_with_boxes_around_what_shows():
    from detector_scenes import SceneMaker, _add_drawn

    image = np.full((320, 320, 3), 90, np.uint8)
    owner = np.zeros((320, 320), np.uint8)
    owner[40:200, 60:120], owner[100:160, 180:300] = 1, 2  # one stands, one lies
    image[owner == 1], image[owner == 2] = 200, 250
    photos = {name: [] for name in ("coco", "single", "cutout", "negative", "drawn", "figure")}
    _add_drawn(photos, image, owner)
    assert photos["drawn"][0].boxes.tolist() == [[60, 40, 120, 200], [180, 100, 300, 160]]
    for name in ("coco", "single", "negative", "cutout"):
        photos[name] = photos["figure"] if name == "cutout" else photos["drawn"]
    maker, rng = SceneMaker(photos), np.random.default_rng(0)
    for _ in range(50):
        picture, people, ignored = maker.make(128, rng)
        assert picture.shape == (128, 128, 3)
        assert ignored.shape == (128, 128)
        assert (people[:, 2:4] > people[:, :2]).all()
        assert people[:, :4].min(initial=0) >= -1
        assert people[:, :4].max(initial=0) <= 129


def test_what_is_not_in_a_crop_is_learnt_as_nowhere():
    from train_pose import ABSENT, targets_of

    points = torch.tensor([[[40.0, 80.0], [-60.0, 20.0], [np.inf, np.inf], [-np.inf, np.inf], [20.0, 20.0]]])
    heatmaps, weights = targets_of(points, torch.tensor([[1.0, 1, 1, 1, 0]]), (128, 96), 1.5)
    assert weights.tolist() == [[1, ABSENT, ABSENT, ABSENT, 0]]
    assert divmod(heatmaps[0, 0].argmax().item(), 24) == (20, 10)
    assert heatmaps[0, 0].max() == 1
    assert heatmaps[0, 1:4].max() < 1e-4


def test_an_absent_keypoint_stays_absent_in_a_varied_crop():
    from pose_photos import Labelled
    from pose_samples import augmented, mirrored

    keypoints = np.tile(np.array([[30.0, 40.0], [90.0, 100.0]]), (68, 1))
    keypoints[13] = np.inf
    person = Labelled(np.zeros((128, 128, 3), np.uint8), keypoints, np.ones(136, bool), np.array([20, 20, 110, 120]))
    crop, placed, weights = augmented(person, "body", None, (128, 96), np.random.default_rng(0))
    assert np.isinf(placed[13]).all()
    assert np.isfinite(np.delete(placed, 13, axis=0)).all()
    assert weights.all()
    assert not np.isfinite(mirrored(crop, crop, placed, weights)[2][14]).any()  # knees changed sides


def test_people_of_drawn_scenes_are_learnt_from_if_large_and_seen(tmp_path):
    from pose_photos import read_drawn

    boxes = np.array([[10, 10, 60, 200], [10, 10, 30, 60], [100, 10, 160, 200], [0, 0, 50, 300]], np.float32)
    visibility = np.full((4, 136), 2, np.uint8)
    visibility[2, :20] = 1  # somebody stands before this one
    visibility[3, 30] = 0
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    np.savez(
        tmp_path / "00000.npz",
        image=images,
        of=np.array([0, 0, 1, 2]),
        keypoints=np.arange(4)[:, None, None] * np.ones((1, 136, 2)),
        visibility=visibility,
        boxes=boxes,
    )
    people = read_drawn([], [tmp_path])["scenes"]
    assert [person.keypoints[0, 0] for person in people] == [0, 3]
    assert [person.photo[0, 0, 0] for person in people] == [0, 2]
    assert people[1].labelled.sum() == 135


WORK_OF_TWO = """
import torch


def gradients_of_two(together, folder):
    parameter = torch.nn.Parameter(torch.zeros(3))
    unused = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.full((3,), float(together.rank))
    together.average_gradients([parameter, unused])
    agreed = together.agreed(7.5 + together.rank)
    torch.save((parameter.grad, unused.grad, agreed, torch.get_num_threads()), folder / f"{together.rank}.pt")
"""


def test_processes_that_train_together_have_the_same_gradients_and_clock(tmp_path, monkeypatch):
    (tmp_path / "work_of_two.py").write_text(WORK_OF_TWO)  # new processes import it, and know no module of the tests
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS), str(tmp_path)]))
    monkeypatch.syspath_prepend(tmp_path)
    from together import run_together
    from work_of_two import gradients_of_two

    run_together(2, gradients_of_two, tmp_path)
    for rank in range(2):
        gradient, unused, agreed, threads = torch.load(tmp_path / f"{rank}.pt")
        assert gradient.tolist() == [0.5, 0.5, 0.5]
        assert unused is None
        assert agreed == 7.5
        assert threads == 1


def test_a_photo_that_ends_within_somebody_keeps_what_it_shows_and_its_labels():
    from pose_photos import Labelled
    from pose_samples import cut_off

    places = np.random.default_rng(0)
    photo = np.arange(200 * 160, dtype=np.uint16).reshape(200, 160)
    keypoints = np.full((136, 2), np.inf)
    keypoints[:20] = np.floor(places.uniform((20, 20), (140, 180), (20, 2)))
    labelled = np.arange(136) < 18
    whole = Labelled(photo, keypoints, labelled, np.array([20.0, 20.0, 140.0, 180.0]))
    sides = set()
    for seed in range(100):
        part = cut_off(whole, np.random.default_rng(seed))
        height, width = part.photo.shape
        assert (height, width) != photo.shape
        sides.add((height < 200, width < 160, part.photo[0, 0] > 0))
        kept = np.flatnonzero(np.isfinite(part.keypoints).all(1))
        assert 5 <= labelled[kept].sum() < 18
        before, after = keypoints[kept].astype(int), part.keypoints[kept].astype(int)
        np.testing.assert_array_equal(part.photo[after[:, 1], after[:, 0]], photo[before[:, 1], before[:, 0]])
        np.testing.assert_array_equal(part.labelled, labelled)
        assert (part.box[:2] >= 0).all()
        assert (part.box[2:] <= (width, height)).all()
        assert (part.box[2:] - part.box[:2] >= 8).all()
    assert len(sides) == 4
    few = Labelled(photo, keypoints, np.arange(136) < 5, whole.box)
    assert cut_off(few, np.random.default_rng(0)) is few


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_processes_that_train_together_end_together(tmp_path):
    (tmp_path / "waiting.py").write_text(
        "import os, sys, time\n"
        "def wait(together, folder):\n"
        "    open(f'{folder}/{together.rank}', 'w').write(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "if __name__ == '__main__':\n"
        "    from together import run_together\n"
        "    run_together(2, wait, sys.argv[1])\n"
    )
    surroundings = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen([sys.executable, tmp_path / "waiting.py", str(tmp_path)], env=surroundings) as process:
        notes = [tmp_path / "0", tmp_path / "1"]
        try:
            until = time.monotonic() + 60
            while not all(note.exists() and note.read_text() for note in notes):
                assert time.monotonic() < until
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    children = [int(note.read_text()) for note in notes]
    until = time.monotonic() + 10
    while any(_runs(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_detector_in_training_is_kept_and_gone_on_with(tmp_path):
    """Weights that lie in memory as training wants them, channels last, and the released ones in float16."""
    from train_detector import load, save

    from wholepose.models.detector import DetectorNet

    net, other = DetectorNet().to(memory_format=torch.channels_last), DetectorNet()
    save(net, 1200, tmp_path / "last.safetensors")
    assert load(other, tmp_path / "last.safetensors") == 1200
    for values, same in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(values, same, rtol=0, atol=0)
    assert load(other, SCRIPTS.parent / "weights" / "wholepose_detector_v2.safetensors") == 0
    image = torch.zeros(1, 3, 64, 64)
    assert other.eval()(image)[0].dtype == torch.float32
