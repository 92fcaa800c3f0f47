from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wholepose.tracking import assign


def best_sum(gains):
    """By trying everything."""
    gains = np.maximum(gains if gains.shape[0] <= gains.shape[1] else gains.T, 0)
    height, width = gains.shape
    choices = permutations(range(width), height)
    return max(sum(gains[row, chosen[row]] for row in range(height)) for chosen in choices)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-2, 2).map(lambda value: round(value, 3)))
    )
)
def test_no_other_choice_gains_more(gains):
    rows, columns = assign(gains)
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    assert (np.diff(rows) > 0).all()
    assert (gains[rows, columns] > 0).all()
    assert gains[rows, columns].sum() == pytest.approx(best_sum(gains) if gains.size else 0, abs=1e-9)


def test_a_greedy_choice_would_be_worse():
    rows, columns = assign(np.array([[0.9, 0.8], [0.85, 0.1]]))
    assert columns[rows].tolist() == [1, 0]


def test_pairs_that_gain_nothing_are_not_made():
    rows, columns = assign(np.array([[0.0, -1.0], [0.0, 0.3]]))
    assert (rows.tolist(), columns.tolist()) == ([1], [1])


@pytest.mark.parametrize("gains", [np.zeros(3), np.array([[np.nan]]), np.array([[np.inf, 0]])])
def test_refuses_what_is_no_table_of_numbers(gains):
    with pytest.raises(ValueError, match=r"finite \(N, M\)"):
        assign(gains)
