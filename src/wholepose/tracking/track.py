"""One person over time: where they were, how they move, and how sure that is.

The body moves with one velocity, estimated by a Kalman filter; limbs swing about it with velocities of their own that
fade while the person is not seen. Keypoints and boxes are in pixels, time is in frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shares of a person's size (the root of the box's area), per frame where they are about motion.
_ACCELERATION = 0.004
_FIRST_VELOCITY = 0.08
_MEASUREMENT = 0.03
_LIMB_FADE = 0.7  # of a limb's own velocity is left after each frame
_LIMB_GAIN = 0.5
_SIZE_GAIN = 0.2
_MEMORY = 0.97  # a keypoint's score, for each frame in which it was not seen
_FEWEST_KEYPOINTS = 4


@dataclass(eq=False)
class Track:
    """A person who was seen at least once.

    Attributes:
        track_id: The person's number.
        keypoints: (K, 2) float64, where they are expected in the frame last predicted.
        scores: (K,) float64, of when each was last seen, fading since.
        box: (4,) float64 xyxy, expected.
        size: Root of the box's area, smoothed, px.
        hits: In how many frames the person was seen.
        missed: For how many frames the person has not been seen.
        velocity: (2,) px a frame, of the whole body.
        limb_velocities: (K, 2) px a frame, on top of the body's.
        spread: (2, 2) covariance of position and velocity, the same for x and y: px^2, px^2 a frame, (px / frame)^2.
    """

    track_id: int
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    box: NDArray[np.float64]
    size: float
    hits: int
    missed: int
    velocity: NDArray[np.float64]
    limb_velocities: NDArray[np.float64]
    spread: NDArray[np.float64]

    @staticmethod
    def begin(
        track_id: int, keypoints: NDArray[np.floating], scores: NDArray[np.floating], box: NDArray[np.floating]
    ) -> Track:
        """A person seen for the first time: (K, 2) keypoints, (K,) scores, (4,) box."""
        size = box_size(box)
        return Track(
            track_id=track_id,
            keypoints=keypoints.astype(np.float64),
            scores=scores.astype(np.float64),
            box=box.astype(np.float64),
            size=size,
            hits=1,
            missed=0,
            velocity=np.zeros(2),
            limb_velocities=np.zeros((len(keypoints), 2)),
            spread=np.diag([(_MEASUREMENT * size) ** 2, (_FIRST_VELOCITY * size) ** 2]),
        )

    def predict(self, frames: int) -> None:
        """Moves on by some frames; the person counts as missed until ``correct`` says otherwise."""
        swing = _LIMB_FADE * (1 - _LIMB_FADE**frames) / (1 - _LIMB_FADE)
        self.keypoints += self.velocity * frames + self.limb_velocities * swing
        self.limb_velocities *= _LIMB_FADE**frames
        self.box += np.tile(self.velocity, 2) * frames
        step = np.array([[1.0, frames], [0.0, 1.0]])
        noise = np.array([[frames**3 / 3, frames**2 / 2], [frames**2 / 2, frames]]) * (_ACCELERATION * self.size) ** 2
        self.spread = step @ self.spread @ step.T + noise
        self.scores *= _MEMORY**frames
        self.missed += frames

    def correct(
        self,
        keypoints: NDArray[np.floating],
        scores: NDArray[np.floating],
        box: NDArray[np.floating],
        threshold: float,
        elapsed: int,
    ) -> None:
        """Takes in where the person was found.

        Args:
            keypoints: (K, 2) pixels.
            scores: (K,).
            box: (4,) xyxy.
            threshold: Keypoints that score below this do not count.
            elapsed: Frames since the person was seen before.
        """
        seen = scores >= threshold
        both = seen & (self.scores >= threshold * 0.5)
        residuals = keypoints - self.keypoints
        if both.sum() >= _FEWEST_KEYPOINTS:
            shift = np.median(residuals[both], axis=0)  # a leg of somebody else does not move the body
        else:
            shift = ((box[:2] + box[2:]) - (self.box[:2] + self.box[2:])) / 2
        gains = self.spread[0] / (self.spread[0, 0] + (_MEASUREMENT * self.size) ** 2)
        self.velocity += gains[1] * shift
        self.spread = self.spread - np.outer(gains, self.spread[0])
        self.limb_velocities[both] += _LIMB_GAIN * (residuals[both] - shift) / elapsed
        self.keypoints = np.where(seen[:, None], keypoints, self.keypoints + shift)
        self.scores = np.where(seen, scores, self.scores)
        self.box = box.astype(np.float64)
        self.size *= (box_size(box) / self.size) ** _SIZE_GAIN
        self.hits += 1
        self.missed = 0

    def rescale(self, factors: NDArray[np.float64]) -> None:
        """Goes over to a frame of another size: (2,) factors of x and y."""
        mean = float(np.sqrt(factors.prod()))
        self.keypoints *= factors
        self.limb_velocities *= factors
        self.velocity *= factors
        self.box *= np.tile(factors, 2)
        self.size *= mean
        self.spread *= mean**2


def box_size(box: NDArray[np.floating]) -> float:
    """Root of the area of a (4,) xyxy box, at least one pixel."""
    return float(np.sqrt(np.prod(np.maximum(box[2:].astype(np.float64) - box[:2], 1.0))))
