"""The loop learns, from pixels to the metric."""

import dataclasses
import json
import time

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

from wholepose.data.annotations import read_annotations
from wholepose.data.augment import NO_AUGMENTATION
from wholepose.training.config import SetConfig
from wholepose.training.trainer import Trainer


def test_learns_drawn_figures(tmp_path, figures, tiny):
    """Sixty steps on 24 figures, which it is then tested on."""
    config = tiny(figures, figures, augment=NO_AUGMENTATION, epochs=20, evaluate_every=20)
    config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, lr=4e-3))
    outcome = Trainer(config, tmp_path / "run", device="cpu").fit()
    assert outcome.finished
    assert outcome.best_ap > 0.6
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["heatmap_loss"] for line in lines if line["mode"] == "train"]
    assert losses[-1] < losses[0] / 4


@pytest.mark.slow
def test_overfits_32_people_of_coco(tmp_path, shared, tiny):
    """AP of at least 0.9 on 32 labelled people, after training on them, within 5 minutes of two processor cores."""
    folder = shared / "data" / "coco"
    people = read_annotations(folder / "train.json")
    chosen = people.person_ids[people.trainable() & (people.counts >= 8)][:32]
    document = json.loads((folder / "train.json").read_text())
    document["annotations"] = [entry for entry in document["annotations"] if entry["id"] in set(chosen.tolist())]
    assert len(document["annotations"]) == 32
    used = {entry["image_id"] for entry in document["annotations"]}
    document["images"] = [image for image in document["images"] if image["id"] in used]
    annotations = tmp_path / "people.json"
    annotations.write_text(json.dumps(document))
    config = tiny(annotations, annotations, augment=NO_AUGMENTATION, epochs=100, evaluate_every=50, batch_size=16)
    part = SetConfig(str(annotations), images=str(folder))
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=(part,), val=part),
        model=dataclasses.replace(config.model, input_size=(128, 96)),
        optimiser=dataclasses.replace(config.optimiser, lr=4e-3),
        flip_test=False,
        log_every=20,
    )
    began = time.process_time()
    outcome = Trainer(config, tmp_path / "run", device="cpu").fit()
    assert outcome.finished
    assert outcome.best_ap >= 0.9
    assert time.process_time() - began < 300
