"""The network behind the embedded detector."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'wholepose[train]'")

from wholepose.models.detector import STEPS, DetectorConfig, DetectorNet  # noqa: E402

SMALL = DetectorConfig(width=4, depths=(1, 1, 1, 1), neck_width=8)


def test_every_cell_gives_a_score_and_a_box_around_its_point() -> None:
    torch.manual_seed(0)
    net = DetectorNet(SMALL).eval()
    with torch.no_grad():
        logits, boxes, points, strides = net(torch.randn(2, 3, 64, 96))
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert logits.shape == (2, cells)
    assert boxes.shape == (2, cells, 4)
    assert strides.tolist() == [8] * 96 + [16] * 24 + [32] * 6
    assert points[0].tolist() == [4, 4]
    assert points[13].tolist() == [12, 12]
    assert points[-1].tolist() == [80, 48]
    assert (boxes[..., :2] < points).all()
    assert (boxes[..., 2:] > points).all()
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)


def test_a_distance_is_the_mean_of_steps() -> None:
    """Weights of one side all on one step: that many cells away."""
    net = DetectorNet(SMALL).eval()
    cells_away = [1, 2, 3, 4]
    for head in net.heads:
        torch.nn.init.zeros_(head[-1].weight)
        torch.nn.init.constant_(head[-1].bias, -50.0)
        for side, step in enumerate(cells_away):
            head[-1].bias.data[1 + side * STEPS + step] = 50.0
    with torch.no_grad():
        _, boxes, points, strides = net(torch.randn(1, 3, 32, 64))
    distances = torch.cat([points - boxes[0, :, :2], boxes[0, :, 2:] - points], dim=1) / strides[:, None]
    assert distances.allclose(torch.tensor(cells_away).float())


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    net = DetectorNet().eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = net(images), net(images[1:2])
    torch.testing.assert_close(together[0][1:2], alone[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[1][1:2], alone[1], atol=1e-2, rtol=1e-4)


def test_all_parts_learn() -> None:
    torch.manual_seed(0)
    net = DetectorNet(SMALL)
    logits, boxes, _, _ = net(torch.randn(2, 3, 64, 64))
    (logits.square().mean() + boxes.square().mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
