import numpy as np
import pytest

from wholepose.evaluation.tracking import tracking_scores

A, B = [0.0, 0, 10, 20], [100.0, 0, 110, 20]


def group(**boxes):
    numbers = [int(name[1:]) for name in boxes]
    return np.array(numbers, dtype=np.int64), np.array(list(boxes.values())).reshape(-1, 4)


def test_perfect():
    frames = [(group(t0=A, t1=B), group(n7=A, n9=B))] * 5
    scores = tracking_scores(frames)
    assert (scores.mota, scores.idf1, scores.switches, scores.fragments) == (1, 1, 0, 0)
    assert scores.people == 10


def test_numbers_exchanged_half_way():
    frames = [(group(t0=A, t1=B), group(n0=A, n1=B))] * 6 + [(group(t0=A, t1=B), group(n1=A, n0=B))] * 4
    scores = tracking_scores(frames)
    assert scores.switches == 2
    assert scores.mota == pytest.approx(1 - 2 / 20)
    assert scores.idf1 == pytest.approx(2 * 12 / 40)


def test_misses_false_alarms_and_fragments():
    seen = (group(t0=A), group(n0=A))
    lost = (group(t0=A), group())
    ghost = (group(t0=A), group(n0=A, n5=B))
    scores = tracking_scores([seen, lost, seen, ghost])
    assert (scores.misses, scores.false_alarms, scores.fragments, scores.switches) == (1, 1, 1, 0)
    assert scores.mota == pytest.approx(1 - 2 / 4)
    assert scores.idf1 == pytest.approx(2 * 3 / (4 + 4))


def test_a_standing_match_is_kept_while_it_is_good_enough():
    """CLEAR MOT: a slightly better box of another number is no switch."""
    near = [2.0, 0, 12, 20]
    frames = [(group(t0=A), group(n0=A)), (group(t0=A), group(n0=near, n1=A))]
    assert tracking_scores(frames).switches == 0


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no frame holds a true person"):
        tracking_scores([(group(), group(n0=A))])
