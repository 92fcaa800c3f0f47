"""Poses: standing, walking, sitting, crouching, lying, arms anywhere, within what joints allow.

Captured poses (CC0, ``poses.json``) and simple rules are mixed limb by limb and shaken.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from wholepose.synth.body import Body
from wholepose.synth.hands import HandShapes
from wholepose.synth.rotations import Matrix, about, between, from_vector, mirrored, to_vector
from wholepose.synth.stances import SIDES, STANCES, Pose, Rotations

KINDS = {
    "stand": 0.27,
    "walk": 0.15,
    "run": 0.06,
    "captured": 0.15,
    "sit": 0.11,
    "sit_ground": 0.06,
    "crouch": 0.06,
    "kneel": 0.04,
    "lie": 0.05,
    "jump": 0.05,
}
"""Kinds of poses and how often each comes."""

_SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
_NECK = ("neck01", "neck02", "neck03", "head")


class Poser:
    """Draws poses for one body.

    Args:
        body: Gives the bones.
        hands: Shapes that hands take.
    """

    def __init__(self, body: Body, hands: HandShapes) -> None:
        self._body = body
        self._hands = hands
        self._captured = _captured_poses()

    def sample(self, generator: np.random.Generator, heads: NDArray[np.float32], kind: str | None = None) -> Pose:
        """Draws a pose.

        Args:
            generator: Random numbers.
            heads: (B, 3) bone heads at rest, of the shape that will take the pose.
            kind: One of :data:`KINDS`; drawn when None.
        """
        chosen = kind or str(generator.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
        pose = self._take_captured(generator) if chosen == "captured" else STANCES[chosen](generator)
        rotations = pose.rotations
        if chosen != "captured" or generator.random() < 0.4:
            self._set_torso(generator, rotations, 1.0 if chosen not in ("sit", "lie") else 0.6)
        self._set_head(generator, rotations)
        captured_arms = chosen == "captured" and generator.random() < 0.6
        if not captured_arms:
            self._set_arms(generator, rotations, heads)
        for side in SIDES:
            rotations[f"wrist.{side}"] = self._wrist(generator, side)
            rotations.update(self._hands.sample(generator, side))
        for name in list(rotations):
            if not name.startswith(("finger", "metacarpal", "toe")):
                rotations[name] = rotations[name] @ from_vector(generator.normal(0, 0.03, 3))
        if chosen in ("stand", "walk", "crouch", "sit", "run") or (chosen == "captured" and not pose.lifted_m):
            self._flatten_feet(rotations, heads, 1.0 if chosen in ("stand", "crouch") else 0.7)
        for side in SIDES:
            rotations[f"eye.{side}"] = np.eye(3)
        gaze = from_vector([generator.normal(0, 0.13), 0, generator.normal(0, 0.2)])
        rotations["eye.L"] = rotations["eye.R"] = gaze
        return pose

    def _take_captured(self, generator: np.random.Generator) -> Pose:
        names = sorted(self._captured)
        name = str(generator.choice(names))
        pose = dict(self._captured[name])
        if generator.random() < 0.3:  # another one's upper half
            other = self._captured[str(generator.choice(names))]
            upper = ("clavicle", "shoulder", "upperarm", "lowerarm", "spine0", "neck", "head")
            pose = {bone: turn for bone, turn in pose.items() if not bone.startswith(upper)}
            pose.update({bone: turn for bone, turn in other.items() if bone.startswith(upper)})
        amount = generator.uniform(0.75, 1.1)
        rotations = {bone: from_vector(to_vector(turn) * amount) for bone, turn in pose.items() if bone != "root"}
        if "root" in pose:
            rotations["root"] = pose["root"]
        if generator.random() < 0.5:
            rotations = _mirror(rotations)
        flying = name.startswith("fly")
        return Pose("captured", rotations, lifted_m=float(generator.uniform(0.1, 0.8)) if flying else 0.0)

    def _flatten_feet(self, rotations: Rotations, heads: NDArray[np.float32], amount: float) -> None:
        """Turns ankles so that soles lie level, as far as ankles can."""
        transforms = self._body.bone_transforms(heads, rotations)
        for side in SIDES:
            shin = transforms[self._body.bone_rows[f"lowerleg02.{side}"], :, :3].astype(np.float64)
            if shin[2, 2] < 0.3:  # the shin lies
                continue
            heading = shin @ np.array([0.0, -1.0, 0.0])
            yaw = np.rad2deg(np.arctan2(heading[0], -heading[1]))
            level = about([0, 0, 1], float(yaw))
            turn = to_vector(shin.T @ level) * amount
            angle = float(np.linalg.norm(turn))
            limit = np.deg2rad(38)
            rotations[f"foot.{side}"] = from_vector(turn * min(1.0, limit / max(angle, 1e-6)))

    # Trunk and head

    def _set_torso(self, generator: np.random.Generator, rotations: Rotations, amount: float) -> None:
        bend = np.clip(generator.normal(2, 9) + (generator.random() < 0.12) * generator.uniform(15, 60), -20, 70)
        side = generator.normal(0, 6)
        twist = generator.normal(0, 9)
        part = from_vector(np.deg2rad(np.array([bend, side, twist])) * amount / len(_SPINE))
        for bone in _SPINE:
            rotations[bone] = part

    def _set_head(self, generator: np.random.Generator, rotations: Rotations) -> None:
        nod = np.clip(generator.normal(0, 11), -35, 35)
        tilt = np.clip(generator.normal(0, 7), -25, 25)
        turn = np.clip(generator.normal(0, 20), -65, 65)
        part = from_vector(np.deg2rad(np.array([nod, tilt, turn])) / len(_NECK))
        for bone in _NECK:
            rotations[bone] = part

    # Arms

    def _set_arms(self, generator: np.random.Generator, rotations: Rotations, heads: NDArray[np.float32]) -> None:
        """Draws both arms a few times and keeps what runs least into the trunk, the head and the thighs."""
        together = generator.random() < 0.15
        style = str(
            generator.choice(["down", "forward", "up", "hip", "face", "any"], p=[0.36, 0.16, 0.1, 0.08, 0.08, 0.22])
        )
        best: tuple[float, Rotations] | None = None
        for _ in range(5):
            arms: Rotations = {}
            for side in SIDES:
                if side == "R" and not together:
                    style = str(
                        generator.choice(
                            ["down", "forward", "up", "hip", "face", "any"], p=[0.36, 0.16, 0.1, 0.08, 0.08, 0.22]
                        )
                    )
                arms.update(self._arm(generator, side, style, heads))
            if together:
                arms = {bone: turn for bone, turn in arms.items() if bone.endswith(".L")}
                arms.update({bone[:-1] + "R": mirrored(turn) for bone, turn in list(arms.items())})
            depth = self._penetration({**rotations, **arms}, heads)
            if best is None or depth < best[0]:
                best = depth, arms
            if best[0] <= 0.01:
                break
        assert best is not None
        rotations.update(best[1])

    def _arm(self, generator: np.random.Generator, side: str, style: str, heads: NDArray[np.float32]) -> Rotations:
        """An arm of the left side, mirrored for the right: where the upper arm points, the elbow's bend, the twist."""
        rows = self._body.bone_rows
        rest = (heads[rows["lowerarm01.L"]] - heads[rows["upperarm01.L"]]).astype(np.float64)
        rest /= np.linalg.norm(rest)
        # (x out, y back, z up); the elbow at rest is bent by about 40 degrees, which a straight arm takes off
        if style == "down":
            aim = np.array([generator.uniform(0.1, 0.5), generator.normal(0, 0.3), -1.0])
            bend, twist = generator.uniform(-35, 25), generator.normal(0, 15)
        elif style == "forward":
            aim = np.array([generator.uniform(-0.2, 0.8), -1.0, generator.uniform(-0.9, 0.6)])
            bend, twist = generator.uniform(-35, 70), generator.normal(0, 30)
        elif style == "up":
            aim = np.array([generator.uniform(-0.1, 1.0), generator.normal(-0.2, 0.3), generator.uniform(0.2, 1.3)])
            bend, twist = generator.uniform(-35, 75), generator.normal(-40, 30)
        elif style == "hip":
            aim = np.array([generator.uniform(0.7, 1.0), generator.uniform(0.1, 0.5), -1.0])
            bend, twist = generator.uniform(35, 60), generator.uniform(30, 60)
        elif style == "face":
            aim = np.array([generator.uniform(0.1, 0.7), -1.0, generator.uniform(-0.9, 0.2)])
            bend, twist = generator.uniform(70, 98), generator.normal(0, 20)
        else:
            aim = generator.normal(0, 1, 3)
            aim[0] = abs(aim[0]) + 0.05
            if aim[1] > 0.5:
                aim[1] *= 0.5
            bend, twist = generator.uniform(-35, 95), generator.normal(0, 35)
        aim = aim / np.linalg.norm(aim)
        whole = about(aim, twist) @ between(rest, aim)
        raised = max(0.0, float(aim[2]) + 0.2)
        girdle = about([0, -1, 0], 24 * raised) @ about([0, 0, -1], 12 * max(0.0, -float(aim[1])))
        blade = about([0, -1, 0], 14 * raised)
        upper = (girdle @ blade).T @ whole
        turn = generator.normal(0, 25)  # of the forearm about itself
        forearm = heads[rows["wrist.L"]] - heads[rows["lowerarm01.L"]]
        arm = {
            "clavicle.L": girdle,
            "shoulder01.L": blade,
            "upperarm01.L": upper,
            "lowerarm01.L": about([-0.75, -0.06, -0.66], bend),
            "lowerarm02.L": about(forearm, turn),
        }
        if side == "L":
            return arm
        return {bone[:-1] + "R": mirrored(rotation) for bone, rotation in arm.items()}

    def _wrist(self, generator: np.random.Generator, side: str) -> Matrix:
        turn = from_vector(np.deg2rad(generator.normal(0, [16, 12, 12])))
        return turn if side == "L" else mirrored(turn)

    def _penetration(self, rotations: Rotations, heads: NDArray[np.float32]) -> float:
        """How far arms reach into the trunk, head, thighs and each other, metres."""
        rows = self._body.bone_rows
        transforms = self._body.bone_transforms(heads, rotations)
        posed = np.einsum("bij,bj->bi", transforms[:, :, :3], heads) + transforms[:, :, 3]
        size = float(np.linalg.norm(heads[rows["head"]] - heads[rows["root"]])) / 0.8
        skull = posed[rows["head"]] + transforms[rows["head"], :, :3] @ np.array([0, -0.02, 0.1]) * size
        trunk = [(posed[rows["root"]], posed[rows["neck01"]], 0.125), (skull, skull + 1e-4, 0.105)]
        trunk += [(posed[rows[f"upperleg01.{s}"]], posed[rows[f"lowerleg01.{s}"]], 0.085) for s in SIDES]
        worst = 0.0
        points: dict[str, NDArray[np.float64]] = {}
        for side in SIDES:
            elbow, wrist = posed[rows[f"lowerarm01.{side}"]], posed[rows[f"wrist.{side}"]]
            hand = posed[rows[f"finger3-1.{side}"]]
            points[side] = np.stack([elbow, (elbow + wrist) / 2, wrist, hand, hand + (hand - wrist) * 0.7])
            for start, end, radius in trunk:
                along = end - start
                share = np.clip((points[side] - start) @ along / (along @ along), 0, 1)
                distance = np.linalg.norm(points[side] - start - share[:, None] * along, axis=1)
                worst = max(worst, float(((radius + 0.035) * size - distance).max()))
        apart = np.linalg.norm(points["L"][:, None] - points["R"][None], axis=2)
        return max(worst, float(0.07 * size - apart.min()))


@functools.lru_cache(maxsize=1)
def _captured_poses() -> dict[str, Rotations]:
    text = resources.files("wholepose.synth").joinpath("poses.json").read_text(encoding="utf-8")
    return {
        name: {bone: from_vector(vector) for bone, vector in bones.items()} for name, bones in json.loads(text).items()
    }


def _mirror(rotations: Rotations) -> Rotations:
    def other(bone: str) -> str:
        return bone[:-1] + ("R" if bone.endswith("L") else "L") if bone.endswith((".L", ".R")) else bone

    return {other(bone): mirrored(rotation) for bone, rotation in rotations.items()}
