"""The held-out images are the same whatever the order, and stay the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholepose.evaluation import holdout_ids


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
