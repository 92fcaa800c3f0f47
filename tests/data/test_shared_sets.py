"""The real sets beside the checkout: all of them load, check out, and make samples."""

import numpy as np
import pytest

from wholepose.data import AugmentConfig, PoseDataset, Source, read_annotations
from wholepose.data.check import check_annotations
from wholepose.skeletons import COCO_WHOLEBODY133, HALPE136

BODY14 = {*range(5, 17), 17, 18}
SETS = {
    "lspet/train.json": (10000, 10000, BODY14),
    "lsp/train.json": (1000, 1000, BODY14),
    "coco/train.json": (346, 225, set(range(17))),
    "coco/dev.json": (281, 221, set(range(17))),
    "face68/train.json": (1207, 1207, set(range(26, 94))),
    "face68/dev.json": (165, 165, set(range(26, 94))),
    "hand21/train.json": (400, 400, set(range(94, 115))),
    "hand21/dev.json": (91, 91, set(range(94, 115))),
    "studio/train.json": (259, 259, set(range(17))),
    "halpe_fixture/test_halpe.json": (14, 12, set(range(136)) - {18, 19}),
}


@pytest.mark.parametrize("name", SETS)
def test_every_set_loads_and_makes_samples(shared, name):
    people, trainable, labelled = SETS[name]
    annotations = read_annotations(shared / "data" / name, skeleton=HALPE136)
    assert len(annotations) == people
    assert annotations.trainable().sum() == trainable
    assert set(np.flatnonzero(annotations.labelled).tolist()) == labelled
    if people <= 1000:
        assert check_annotations(annotations).problems == ()
    dataset = PoseDataset([annotations], (128, 96), seed=1)
    for index in range(0, len(dataset), max(1, len(dataset) // 5)):
        sample = dataset[0, index]
        assert sample.crop.any()
        mirrored = {int(HALPE136.flip_indices[index]) for index in labelled}
        assert set(np.flatnonzero(sample.weights).tolist()) <= labelled | mirrored


def test_fixture_photos_agree_between_halpe_and_coco_wholebody(shared):
    """The same people in two files and two skeletons: the body keypoints are the same points."""
    folder = shared / "data" / "halpe_fixture"
    halpe = read_annotations(folder / "test_halpe.json")
    whole = read_annotations(folder / "test_coco_wholebody.json", skeleton=HALPE136)
    assert whole.source_skeleton is COCO_WHOLEBODY133
    assert halpe.person_ids.tolist() == whole.person_ids.tolist()
    body = list(range(17))
    np.testing.assert_array_equal(halpe.keypoints[:, body], whole.keypoints[:, body])
    np.testing.assert_array_equal(halpe.boxes, whole.boxes)
    # Feet and hands were labelled twice, by different people: near each other, not swapped.
    parts = [*halpe.skeleton.parts["feet"], *halpe.skeleton.parts["left_hand"], *halpe.skeleton.parts["right_hand"]]
    both = (halpe.visibility[:, parts] > 0) & (whole.visibility[:, parts] > 0)
    distance = np.linalg.norm(halpe.keypoints[:, parts] - whole.keypoints[:, parts], axis=2)[both]
    assert both.sum() > 50
    assert np.median(distance) < 8


def test_body_part_and_whole_body_sets_mix(shared):
    """Left hands become right hands by the flip; zooms onto parts work where a part is labelled."""
    data = shared / "data"
    sets = [
        read_annotations(data / name, skeleton=HALPE136) for name in SETS if "train" in name and "lspet" not in name
    ]
    config = AugmentConfig(part_zoom_probability=0.5, colour_probability=0.5, occlusion_probability=0.2)
    sources = [Source(people, weight=0.1) for people in sets]
    sources.append(Source(read_annotations(data / "halpe_fixture/test_halpe.json"), weight=3.0))
    dataset = PoseDataset(sources, (96, 72), augment=config)
    assert len(dataset) == sum(round(0.1 * len(source.annotations)) for source in dataset.sources[:-1]) + 36
    hands = next(number for number, people in enumerate(sets) if "hand21" in str(people.path))
    seen = set()
    for index in range(len(dataset)):
        if dataset.person(0, index)[0] == hands:
            seen |= set(np.flatnonzero(dataset[0, index].weights).tolist())
    assert seen == set(range(94, 136))
