"""Where a hand is looked for, and how what is found comes back into the photo (scripts/tell_hands.py)."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'wholepose[train]'")

ELBOW, WRIST, HAND = 7, 9, slice(94, 115)
FINGERS = np.array([[0, 0], *([x, y] for x in (-3, -1.5, 0, 1.5, 3) for y in (-4, -5.5, -7, -8))], dtype=float)
"""A hand that points up, wrist first."""


def person(degrees):
    """A photo of a left arm that ends in a hand of 21 dots, each of a brightness of its own, and its keypoints."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place, known = np.zeros((136, 2)), np.zeros(136, bool)
    place[HAND] = np.array([200.0, 220.0]) + 8 * FINGERS @ turn.T
    place[WRIST], place[ELBOW] = place[94], place[94] + turn @ [0, 100]
    known[[ELBOW, WRIST]] = True
    photo = np.zeros((400, 400, 3), np.uint8)
    for number, (x, y) in enumerate(place[HAND]):
        cv2.circle(photo, (round(x), round(y)), 4, (50 + 10 * number, 255, 0), -1)
    return photo, place, known


class Dots:
    """Sees the dots of a crop; remembers where it saw them."""

    def __init__(self, right=0.1):
        self.seen, self.right = [], right

    def __call__(self, crop):
        found = np.full((21, 2), 112.0)
        for number in range(21):
            rows, columns = np.nonzero((np.abs(crop[..., 0].astype(int) - 50 - 10 * number) < 4) & (crop[..., 1] > 250))
            if len(rows):
                found[number] = np.median(columns), np.median(rows)
        self.seen.append(found)
        return found, 0.95, self.right


@pytest.mark.parametrize("degrees", [0, 70, -130, 180])
def test_a_hand_is_found_however_the_arm_is_turned(degrees):
    from tell_hands import tell_hands

    photo, place, known = person(degrees)
    told, network = np.zeros((2, 136, 3)), Dots()
    tell_hands(network, photo, place, known, told)
    for look in told[:, HAND]:
        assert np.abs(look[:, :2] - place[HAND]).max() < 4
        assert look[:, 2] == pytest.approx(0.95 * 0.9)
    assert not told[:, 115:].any()
    second = network.seen[1]  # upright, and as large as it should be
    assert abs(second[11, 0] - second[0, 0]) < 12
    assert 80 < second[0, 1] - second[12, 1] < 150
    assert ((second > 0) & (second < 224)).all()


def test_nothing_is_told_of_an_unknown_arm_or_of_a_hand_elsewhere():
    from tell_hands import tell_hands

    photo, place, known = person(0)
    told = np.zeros((2, 136, 3))
    tell_hands(Dots(), photo, place, np.zeros(136, bool), told)
    place[[ELBOW, WRIST]] -= 60
    tell_hands(Dots(), photo, place, known, told)
    assert not told.any()


def test_a_hand_of_the_other_side_is_doubted():
    from tell_hands import tell_hands

    photo, place, known = person(0)
    told = np.zeros((2, 136, 3))
    tell_hands(Dots(right=0.9), photo, place, known, told)
    assert (told[:, HAND, 2] < 0.5).all()
