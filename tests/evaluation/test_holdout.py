"""The held-out images are the same whatever the order, and stay the same."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholepose.evaluation import holdout_ids, split_photos


@given(st.sets(st.integers(1, 10**6), min_size=20, max_size=60), st.randoms())
def test_order_and_repetition_change_nothing(ids, random):
    shuffled = list(ids) * 2
    random.shuffle(shuffled)
    chosen = holdout_ids(shuffled, count=10)
    assert chosen == holdout_ids(sorted(ids), count=10)
    assert len(chosen) == 10
    assert chosen <= ids


def test_the_choice_is_the_start_of_a_seeded_permutation_of_the_sorted_ids():
    order = np.random.default_rng(0).permutation(1000)
    assert holdout_ids(range(1, 1001)) == {int(place) + 1 for place in order[:200]}
    assert holdout_ids(range(1, 1001), seed=1) != holdout_ids(range(1, 1001))


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="hold out 200 of 3"):
        holdout_ids([1, 2, 3])


def test_photos_are_split_as_their_ids_are(tmp_path):
    rows = [{"id": number, "file_name": f"images/{number}.jpg"} for number in range(300, 0, -1)]
    (tmp_path / "set.json").write_text(json.dumps({"images": rows}))
    learn, held_out = split_photos(tmp_path / "set.json")
    assert {int(path.stem) for path in held_out} == holdout_ids(range(1, 301))
    assert sorted([*learn, *held_out]) == sorted(tmp_path / row["file_name"] for row in rows)
    assert [int(path.stem) for path in learn] == sorted((int(path.stem) for path in learn), reverse=True)
