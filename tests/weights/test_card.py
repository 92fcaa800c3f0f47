"""The model card: every field survives the way through a file's metadata, and nonsense is refused by name."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholepose.errors import WeightsError
from wholepose.weights import ModelCard

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
CARDS = st.builds(
    ModelCard,
    name=WORDS,
    arch=WORDS,
    skeleton=WORDS,
    input_size=st.tuples(st.integers(1, 999), st.integers(1, 999)).map(lambda size: (size[0] * 8, size[1] * 8)),
    stride=st.sampled_from([1, 2, 4, 8]),
    decode_kernel=st.integers(1, 20).map(lambda number: 2 * number + 1),
    protocol=st.sampled_from(["default", "mmpose0"]),
    licence=WORDS,
    source=st.text(st.characters(exclude_categories=["Cs"])),
    source_sha256=st.sampled_from(["", "0f" * 32]),
    description=st.text(st.characters(exclude_categories=["Cs"])),
    recipe=st.text(st.characters(exclude_categories=["Cs"])),
    training_data=st.lists(WORDS).map(tuple),
    intended_use=st.text(st.characters(exclude_categories=["Cs"])),
    known_failures=st.text(st.characters(exclude_categories=["Cs"])),
    metrics=st.dictionaries(WORDS, st.floats(allow_nan=False, allow_infinity=False)),
    measured_by=st.text(st.characters(exclude_categories=["Cs"])),
).map(lambda card: replace(card, intervals={name: (value, abs(value)) for name, value in card.metrics.items()}))
CARD = ModelCard(name="a", arch="hrnet_w48", skeleton="halpe136", input_size=(384, 288))


@given(CARDS)
def test_round_trip(card: ModelCard) -> None:
    metadata = card.to_metadata()
    assert ModelCard.from_metadata(metadata | {"outputs": "keypoints"}, "a.onnx") == card
    assert hash(card) == hash(ModelCard.from_metadata(metadata, "a.onnx"))
    assert metadata["format"] == "wholepose"
    assert json.loads(metadata["wholepose"])["input_size"] == list(card.input_size)


def test_lists_become_tuples() -> None:
    card = ModelCard(name="a", arch="b", skeleton="c", input_size=[64, 32], training_data=["coco"], metrics={"ap": 1})
    assert card.input_size == (64, 32)
    assert card.training_data == ("coco",)
    assert card.metrics == {"ap": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, "name must be a text, not 5"),
        ({"name": " "}, "name must not be empty"),
        ({"licence": ""}, "licence must not be empty"),
        ({"input_size": [384]}, r"input_size must be \(height, width\) in pixels, not \[384\]"),
        ({"input_size": [384, 0]}, "input_size"),
        ({"input_size": "384x288"}, "input_size"),
        ({"input_size": [True, True]}, "input_size"),
        ({"stride": 5}, "stride must divide input_size"),
        ({"stride": 0}, "stride"),
        ({"decode_kernel": 16}, "decode_kernel must be an odd number of cells from 3 on, not 16"),
        ({"decode_kernel": 1}, "decode_kernel"),
        ({"decode_kernel": 17.0}, "decode_kernel"),
        ({"protocol": "mmpose1"}, "protocol must be one of default, mmpose0, not 'mmpose1'"),
        ({"source_sha256": "d13c2588"}, "source_sha256"),
        ({"training_data": "coco"}, "training_data"),
        ({"training_data": [1]}, "training_data"),
        ({"metrics": [1]}, "metrics"),
        ({"metrics": {"ap": "0.5"}}, "metrics must map names to finite numbers, not 'ap' to '0.5'"),
        ({"metrics": {"ap": float("nan")}}, "finite"),
        ({"recipe": None}, "recipe must be a text"),
        ({"intervals": [1]}, "intervals must map"),
        ({"intervals": {"ap": [0, 1]}}, "names of metrics to .*not 'ap'"),
        ({"metrics": {"ap": 0.5}, "intervals": {"ap": [0.6, 0.4]}}, r"not 'ap' to \[0.6, 0.4\]"),
        ({"metrics": {"ap": 0.5}, "intervals": {"ap": [0.4]}}, "intervals"),
        ({"metrics": {"ap": 0.5}, "intervals": {"ap": [0.4, float("inf")]}}, "intervals"),
        ({"beta": 3}, "unknown fields 'beta'; a newer wholepose may read it"),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, object], message: str) -> None:
    document = json.loads(CARD.to_metadata()["wholepose"]) | changes
    with pytest.raises(WeightsError, match=rf"^m\.safetensors: the model card .*{message}"):
        ModelCard.from_metadata({"wholepose": json.dumps(document)}, "m.safetensors")


def test_missing_fields() -> None:
    document = json.loads(CARD.to_metadata()["wholepose"])
    for key in ("description", "licence", "metrics"):
        del document[key]
    assert ModelCard.from_metadata({"wholepose": json.dumps(document)}, "m").licence == "unknown"
    del document["decode_kernel"], document["arch"]
    with pytest.raises(WeightsError, match="m: the model card lacks arch, decode_kernel"):
        ModelCard.from_metadata({"wholepose": json.dumps(document)}, "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be a JSON object, not list"),
        (" " * (1 << 21), "at most"),
    ],
)
def test_metadata_that_is_no_card(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        ModelCard.from_metadata({"wholepose": text}, "m")
    with pytest.raises(WeightsError, match="m: has no wholepose model card in its metadata; make such a file with"):
        ModelCard.from_metadata({"format": "pt"}, "m")
