"""Validation inside a run: right numbers, nothing disturbed."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.data.annotations import read_annotations  # noqa: E402
from wholepose.errors import AnnotationError  # noqa: E402
from wholepose.models.posenet import STRIDE  # noqa: E402
from wholepose.skeletons import COCO17, HALPE136  # noqa: E402
from wholepose.training.network import build_network  # noqa: E402
from wholepose.training.validation import PICTURES, judgeable, validate  # noqa: E402

COLORS = np.random.default_rng(7).integers(60, 256, (17, 3))


class ColorFinder(torch.nn.Module):
    """Knows the drawn figures: a heatmap is high where a crop has the keypoint's colour."""

    def forward(self, pixels):
        mean, std = (torch.tensor(v)[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        crops = (pixels * std + mean) * 255
        colors = torch.tensor(COLORS, dtype=torch.float32)[None, :, :, None, None]
        distance = (crops[:, None] - colors).abs().sum(2)
        maps = torch.exp(-distance / 20)
        grid = maps[:, :, :: STRIDE // 2, :: STRIDE // 2]  # blur, then look at the middles of cells
        blurred = torch.nn.functional.avg_pool2d(maps, 5, stride=1, padding=2)
        assert grid.shape[0] == blurred.shape[0]
        return blurred[:, :, ::STRIDE, ::STRIDE]


def config_for(tiny, figures, **changes):
    config = tiny(figures, figures, **changes)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, input_size=(192, 192)))


def test_finds_figures_by_their_colours(figures, tiny):
    """A model that is right by construction gets a high AP, and half of the people gone costs half of the recall."""
    annotations = judgeable(read_annotations(figures))
    result = validate(ColorFinder(), annotations, config_for(tiny, figures))
    assert result is not None
    assert result.metrics["AP"] > 0.8
    assert result.metrics["AR"] > 0.8
    assert result.metrics["AP50"] == pytest.approx(1, abs=0.02)
    assert result.metrics["AP_body"] == pytest.approx(result.metrics["AP"], abs=1e-9)
    assert result.metrics["AP_face"] is None  # the figures have no faces
    assert len(result.pictures) == PICTURES
    assert all(p.shape == (192, 384, 3) and p.dtype == np.uint8 for p in result.pictures)
    labels, predicted = result.pictures[0][:, :192].astype(int), result.pictures[0][:, 192:].astype(int)
    assert np.abs(labels - predicted).mean() < 12  # both skeletons are drawn, at nearly the same place


@pytest.mark.parametrize("protocol", ["default", "mmpose0"])
def test_same_numbers_as_the_evaluation(draw, tiny, protocol, tmp_path):
    """AP of a trained-like network equals what `wholepose evaluate` measures from the written weights.

    Areas are so large that chance is right at times. Only faces are labelled, but the set has a place for the rest,
    whose scores count in the people's ranking.
    """
    from wholepose.evaluation.prediction import load_estimator, predict_people
    from wholepose.evaluation.results import suppress
    from wholepose.evaluation.scoring import score
    from wholepose.training.network import write_weights

    figures = draw(tmp_path / "figures", 24)
    document = json.loads(figures.read_text())
    for person in document["annotations"]:
        person["keypoints"][15:] = [0] * 36
        person["num_keypoints"] = 5
        person["area"] = 1_000_000
    figures.write_text(json.dumps(document))
    config = tiny(figures, figures, protocol=protocol, flip_test=True)
    network = build_network(config).eval()
    annotations = judgeable(read_annotations(figures, skeleton=COCO17, protocol=protocol))
    assert (annotations.labelled.sum(), annotations.scored.sum()) == (5, 17)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        network.head.final_layer.weight.normal_(std=0.0015, generator=random)
    ours = validate(network, annotations, config)
    write_weights(tmp_path / "m.safetensors", network.state_dict(), config, epochs=1, metrics={})
    estimator = load_estimator(tmp_path / "m.safetensors", device="cpu", threads=1)
    found = predict_people(estimator, annotations, flip_test=True).results
    whole = score(annotations, suppress(found, np.arange(17), aspect=1.0), replicates=0).parts["whole"].statistics
    assert ours is not None
    assert 0.1 < whole["AP"] < 0.9
    for name in ("AP", "AR", "AP50"):
        assert ours.metrics[name] == pytest.approx(whole[name], abs=2e-3)


def test_photos_that_cannot_be_read_are_told_and_their_people_missed(tmp_path, draw, tiny):
    """One of six, then all: the numbers are those of people who were not found."""
    path = draw(tmp_path / "figures", 6)
    annotations, config = judgeable(read_annotations(path)), config_for(tiny, path, batch_size=1)
    whole = validate(ColorFinder(), annotations, config)
    (path.parent / "3.png").write_bytes(b"no picture")
    fewer = validate(ColorFinder(), annotations, config)
    assert whole is not None
    assert fewer is not None
    assert whole.failures == ()
    assert len(fewer.failures) == 1
    assert "3.png" in fewer.failures[0]
    assert fewer.metrics["AR"] < whole.metrics["AR"] - 0.1
    for photo in path.parent.glob("*.png"):
        photo.write_bytes(b"no picture")
    nobody = validate(ColorFinder(), annotations, config)
    assert nobody is not None
    assert len(nobody.failures) == 6
    assert (nobody.metrics["AP"], nobody.metrics["AR"], nobody.pictures) == (0, 0, ())


def test_disturbs_nothing(figures, tiny):
    annotations = judgeable(read_annotations(figures))
    config = tiny(figures, figures)
    network = build_network(config).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    validate(network, annotations, config)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.training


def test_each_process_predicts_its_share_once(figures, tiny, monkeypatch):
    """Shares of three processes put together give the numbers of one; nobody is missing or counted twice."""
    from wholepose.training import validation

    annotations = judgeable(read_annotations(figures))
    config = config_for(tiny, figures)
    whole = validate(ColorFinder(), annotations, config)
    shares = []
    monkeypatch.setattr(validation.group, "gather", lambda share: shares.append(share) or [share])
    for rank in (1, 2):
        assert validate(ColorFinder(), annotations, config, rank=rank, processes=3) is None
    monkeypatch.setattr(validation.group, "gather", lambda share: [share, *shares])
    together = validate(ColorFinder(), annotations, config, rank=0, processes=3)
    assert together is not None
    assert whole is not None
    assert together.metrics == pytest.approx(whole.metrics)
    people = np.concatenate([found.people for share in shares for found in share[0]])
    assert len(set(people.tolist())) == len(people) == 16


def test_stops_when_asked(figures, tiny):
    annotations = judgeable(read_annotations(figures))
    calls = []
    result = validate(
        ColorFinder(),
        annotations,
        config_for(tiny, figures),
        stopped=lambda: calls.append(1) is None and len(calls) > 1,
    )
    assert result is None
    assert len(calls) == 2


def test_nothing_to_judge_is_said_before_training(tmp_path, draw, tiny, figures):
    """A validation set without labels is refused when the run begins."""
    from wholepose.training.trainer import Trainer

    nobody = draw(tmp_path / "nobody", 3, unlabelled=(0, 1, 2))
    with pytest.raises(AnnotationError, match=r"figures\.json: "):
        Trainer(tiny(figures, nobody), tmp_path / "run", device="cpu")


def test_missing_areas_are_estimated(tmp_path, draw):
    path = draw(tmp_path / "figures", 2)
    document = json.loads(path.read_text())
    del document["annotations"][0]["area"]
    path.write_text(json.dumps(document))
    areas = judgeable(read_annotations(path, skeleton=HALPE136)).areas
    assert np.isfinite(areas).all()
    assert (areas > 100).all()
