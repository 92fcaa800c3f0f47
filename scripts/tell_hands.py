"""Asks MediaPipe's hand landmark network where a person's hands are (for scripts/tell_keypoints.py).

It is Google's, Apache-2.0: Zhang et al., "MediaPipe Hands: On-device Real-time Hand Tracking", 2020. Crops follow the
hand as there: upright, from a rotated square around wrist, knuckles and middle joints, found by looking twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tfjs_graph import Graph

from wholepose.geometry import crop_image, crop_matrices, invert_affine, transform_points
from wholepose.skeletons import HALPE136

SIDE = 224
"""Of its crops in pixels."""
ARMS = {"left_hand": (7, 9), "right_hand": (8, 10)}
"""Elbow and wrist."""
PALM = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]
"""Points of a hand that its square is put around."""
WRIST, KNUCKLES = 0, ([5, 9, 13], [0.25, 0.5, 0.25])
"""A hand points from its wrist to this mean of knuckles."""
BEYOND, ROOM_BEYOND = 0.35, 1.7
"""Before a hand has been seen: its middle beyond the wrist, and its square's side, in forearms."""
ROOM, AHEAD = 2.0, 0.1
"""Side of its square against its palm, and how far the square is moved towards the fingers."""
SMALLEST_PX = 28
"""Of a hand's square in the photo."""
FAR = 0.35
"""A hand whose wrist is farther from the arm's than this share of the square is another one."""

Square = tuple[np.ndarray, float, float]
"""Middle (2,) and side in pixels of the photo, and turn in degrees."""


class HandLandmarks:
    """21 keypoints of a hand.

    Args:
        path: handlandmark-full.json, its .bin beside it.
    """

    def __init__(self, path: Path) -> None:
        self._graph = Graph(path)

    def __call__(self, crop: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Keypoints (21, 2) float32 in pixels, how sure it is of a hand, and of a right one, in (224, 224, 3) uint8."""
        pixels = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float() / 255
        values, hand, right = self._graph(pixels, "Conv2D", ["Identity", "Identity_1", "Identity_2"])
        return values.reshape(-1, 3)[:, :2].numpy() - 0.5, hand.item(), right.item()


def tell_hands(
    network: HandLandmarks, photo: np.ndarray, place: np.ndarray, known: np.ndarray, told: np.ndarray
) -> None:
    """Writes what is told of both hands into `told`, the first look and the second.

    Args:
        network: Who tells it.
        photo: (H, W, 3) uint8 RGB.
        place: (136, 2) keypoints in pixels of the photo.
        known: (136,) bool: which of them are known.
        told: (2, 136, 3), x, y and score.
    """
    for part, (elbow, wrist) in ARMS.items():
        points = list(HALPE136.parts[part])
        if not (known[elbow] and known[wrist]):
            continue
        forearm = place[wrist] - place[elbow]
        length = float(np.linalg.norm(forearm))
        square = place[wrist] + BEYOND * forearm, ROOM_BEYOND * length, turn_of(forearm)
        looks = []
        for _ in told:
            if square[1] < SMALLEST_PX:
                break
            found, hand, right = look(network, photo, square)
            sure = hand * (right if part == "right_hand" else 1 - right)
            if np.linalg.norm(found[WRIST] - place[wrist]) > FAR * square[1]:
                break
            looks.append(np.column_stack([found, np.full(len(found), sure)]))
            square = square_of(found)
        if len(looks) == len(told):
            told[:, points] = looks


def look(network: HandLandmarks, photo: np.ndarray, square: Square) -> tuple[np.ndarray, float, float]:
    """What the network sees in a square of the photo: keypoints (21, 2) in its pixels, the rest as it says it."""
    center, side, turn = square
    matrix = crop_matrices(center[None], np.full((1, 2), side), (SIDE, SIDE), turn)[0]
    found, hand, right = network(crop_image(photo, matrix, (SIDE, SIDE)))
    return transform_points(found, invert_affine(matrix)), hand, right


def square_of(hand: np.ndarray) -> Square:
    """The square that shows a hand (21, 2) upright."""
    knuckles, weights = KNUCKLES
    turn = turn_of(np.average(hand[knuckles], axis=0, weights=weights) - hand[WRIST])
    angle = np.radians(turn)
    upright = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    palm = hand[PALM] @ upright.T
    low, high = palm.min(0), palm.max(0)
    side = float((high - low).max())
    return ((low + high) / 2 - [0, AHEAD * side]) @ upright, ROOM * side, turn


def turn_of(direction: np.ndarray) -> float:
    """The angle of a crop, in degrees, in which this direction is up."""
    return float(np.degrees(np.arctan2(direction[0], -direction[1])))
