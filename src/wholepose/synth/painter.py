"""Synthetic people for the trainer: drawn when a sample is made, in whichever process makes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholepose.skeletons import HALPE136, Skeleton
from wholepose.synth.people import Subject, SynthPeople
from wholepose.training.config import SynthConfig

_LEAST_SEEN = 8
"""Somebody of whom fewer keypoints are seen teaches nothing; another is thought up."""
_ATTEMPTS = 3
_SHOWN = 0.25
"""A face or a hand of which less is seen is not labelled, as in photos that people label."""


def make_painter(config: SynthConfig, seed: int) -> SynthPainter:
    """Whoever draws people by the trainer's settings.

    Raises:
        ConfigError: A folder is missing, the settings contradict each other, or the ``synth`` extra is missing.
    """
    people = SynthPeople(
        seed,
        assets=config.assets or None,
        backgrounds=config.backgrounds or None,
        hand_poses=config.hand_poses or None,
        clean=config.clean,
        effects=config.effects,
        device=config.device,
    )
    people.load()  # builds the body where it is missing, and finds what is wrong before processes start
    return SynthPainter(people)


class SynthPainter:
    """Thinks up people for ``wholepose.data.drawn``.

    Args:
        people: Draws them; its size does not matter.
    """

    def __init__(self, people: SynthPeople) -> None:
        self.people = people

    @property
    def skeleton(self) -> Skeleton:
        """The 136 keypoints of Halpe."""
        return HALPE136

    def subject(self, number: int) -> DrawnPerson:
        """Person number `number`."""
        for attempt in range(_ATTEMPTS):
            subject = self.people.subject(number, attempt)
            if (subject.visibility == 2).sum() >= _LEAST_SEEN:
                break
        return DrawnPerson(subject)


class DrawnPerson:
    """One of them, in a photo that is not drawn yet; see ``wholepose.data.drawn.Subject``."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.box = subject.box
        self.keypoints = subject.keypoints
        self.photo_width = subject.photo[1]
        self.visibility: NDArray[np.uint8] = subject.visibility.copy()
        for part in ("face", "left_hand", "right_hand"):
            members = np.array(HALPE136.parts[part])
            if (self.visibility[members] == 2).mean() < _SHOWN:
                hidden = members[self.visibility[members] == 1]
                self.visibility[hidden] = 0

    def draw(self, matrix: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draws a crop (H, W, 3) of (height, width); `matrix` (2, 3) maps photo pixels to the crop's."""
        return self._subject.draw(matrix, size)
