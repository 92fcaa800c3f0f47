"""Shapes of hands: random flexion, common gestures and, from a file, gestures posed by an artist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError
from wholepose.synth.body import Body
from wholepose.synth.rotations import Matrix, about, between, cross, mirrored

_FINGERS = (2, 3, 4, 5)

_GESTURES: dict[str, tuple[float, float, float, float, float]] = {
    # How far thumb, index, middle, ring and pinky close, 0 open to 1 closed.
    "open": (0.0, 0.0, 0.0, 0.0, 0.0),
    "relaxed": (0.25, 0.25, 0.32, 0.38, 0.42),
    "fist": (0.9, 1.0, 1.0, 1.0, 1.0),
    "point": (0.7, 0.0, 1.0, 1.0, 1.0),
    "victory": (0.9, 0.0, 0.0, 1.0, 1.0),
    "thumb": (-0.4, 1.0, 1.0, 1.0, 1.0),
    "grip": (0.6, 0.6, 0.65, 0.7, 0.7),
    "pinch": (0.7, 0.6, 0.3, 0.25, 0.2),
    "phone": (-0.3, 1.0, 1.0, 1.0, 0.0),
}


class HandShapes:
    """Draws rotations of finger bones.

    Args:
        body: Gives the bones.
        file: ``.npz`` with ``poses`` (N, 21, 3): left hands, fingers to +y, thumb to -x, palm to +z; or None.

    Raises:
        ConfigError: The file cannot be read or has another shape.
    """

    def __init__(self, body: Body, file: Path | None = None) -> None:
        rows = body.bone_rows
        _, heads, tails = body.shape({"age": 2 / 3, "caucasian": 1.0, "african": 1.0, "asian": 1.0})
        self._heads = {name: heads[row].astype(np.float64) for name, row in rows.items()}
        self._tails = {name: tails[row].astype(np.float64) for name, row in rows.items()}
        wrist = self._heads["wrist.L"]
        across = self._heads["finger5-1.L"] - self._heads["finger2-1.L"]
        along = self._heads["finger3-1.L"] - wrist
        self._palm = cross(along, across)  # out of the palm of the left hand
        self._palm /= np.linalg.norm(self._palm)
        # The thumb at rest stands on the palm's side of the knuckles.
        if self._palm @ (self._tails["finger1-3.L"] - wrist) < 0:
            self._palm = -self._palm
        self._gestures: NDArray[np.float64] | None = None
        if file is not None:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    poses = arrays["poses"].astype(np.float64)
            except (OSError, KeyError, ValueError) as error:
                raise ConfigError(f"{file} is not a file of hand poses: {error}") from error
            if poses.ndim != 3 or poses.shape[1:] != (21, 3) or not np.isfinite(poses).all():
                raise ConfigError(f"{file}: poses must be finite and of shape (N, 21, 3), not {poses.shape}")
            self._gestures = poses

    def sample(self, generator: np.random.Generator, side: str) -> dict[str, Matrix]:
        """Rotations of one hand's finger bones; `side` is ``"L"`` or ``"R"``."""
        if self._gestures is not None and generator.random() < 0.5:
            left = self._from_points(self._gestures[generator.integers(len(self._gestures))])
        else:
            left = self._flexed(generator)
        if side == "L":
            return left
        return {bone[:-1] + "R": mirrored(rotation) for bone, rotation in left.items()}

    def _flexed(self, generator: np.random.Generator) -> dict[str, Matrix]:
        names = list(_GESTURES)
        share = np.array([0.15, 0.34, 0.13, 0.09, 0.04, 0.04, 0.12, 0.05, 0.04])
        closing = np.array(_GESTURES[str(generator.choice(names, p=share))])
        closing = closing + generator.normal(0, 0.1, 5) + generator.normal(0, 0.08)
        spread = generator.normal(1, 4)
        result: dict[str, Matrix] = {}
        for finger in _FINGERS:
            amount = float(np.clip(closing[finger - 1], -0.12, 1.05))
            bone = f"finger{finger}-1.L"
            along = self._tails[bone] - self._heads[bone]
            hinge = cross(along, self._palm)
            sideways = (finger - 3.4) * spread * (1 - max(amount, 0.0))
            result[bone] = about(self._palm, sideways) @ about(hinge, 72 * amount)
            for joint, reach in ((2, 95), (3, 62)):
                bone = f"finger{finger}-{joint}.L"
                along = self._tails[bone] - self._heads[bone]
                result[bone] = about(cross(along, self._palm), reach * amount)
        amount = float(np.clip(closing[0], -0.5, 1.1))
        forward = self._heads["finger3-1.L"] - self._heads["wrist.L"]
        thumb = self._tails["finger1-2.L"] - self._heads["finger1-1.L"]
        inward = cross(thumb, self._palm)
        result["finger1-1.L"] = about(forward, self._toward_palm(forward, thumb) * 32 * max(amount, -0.2))
        curl = self._sign(inward, thumb, self._heads["finger5-1.L"] - self._heads["finger2-1.L"])
        result["finger1-2.L"] = about(inward, curl * 26 * amount)
        result["finger1-3.L"] = about(inward, curl * 48 * amount)
        return result

    def _toward_palm(self, axis: NDArray[np.float64], direction: NDArray[np.float64]) -> float:
        """Which way to turn about `axis` so that `direction` moves out of the palm."""
        return self._sign(axis, direction, self._palm)

    @staticmethod
    def _sign(axis: NDArray[np.float64], direction: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
        return 1.0 if cross(axis, direction) @ goal > 0 else -1.0

    def _from_points(self, points: NDArray[np.float64]) -> dict[str, Matrix]:
        """Bone rotations that make a left hand look like 21 points."""
        source_along = points[9] - points[0]
        source_across = points[17] - points[5]
        target_along = self._heads["finger3-1.L"] - self._heads["wrist.L"]
        target_across = self._heads["finger5-1.L"] - self._heads["finger2-1.L"]
        frame = _frame(target_along, target_across) @ _frame(source_along, source_across).T
        result: dict[str, Matrix] = {}
        for finger in range(1, 6):
            turned = np.eye(3)
            for joint in (1, 2, 3):
                bone = f"finger{finger}-{joint}.L"
                following = f"finger{finger}-{joint + 1}.L"
                end = self._heads[following] if joint < 3 else self._tails[bone]
                rest = end - self._heads[bone]
                first = 1 + 4 * (finger - 1) + joint - 1
                wanted = frame @ (points[first + 1] - points[first])
                step = between(turned @ rest, wanted)
                result[bone] = turned.T @ step @ turned
                turned = step @ turned
        return result


def _frame(along: NDArray[np.float64], across: NDArray[np.float64]) -> Matrix:
    first = along / np.linalg.norm(along)
    third = cross(first, across)
    third /= np.linalg.norm(third)
    return np.stack([first, cross(third, first), third], axis=1)
