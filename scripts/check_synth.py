"""Draws many pictures of synthetic people and checks every annotation; prints what part of each body part is seen.

    python scripts/check_synth.py --count 10000 --out runs/synth_check

Checked are: `wholepose data check` on what was written; that no keypoint lies more than 3 % of the box beside its
person (seen ones: beside the person's visible pixels; all: beside the whole body, as if nothing stood before it); that
left is left, in space: the pairs of head and trunk by their order, the limbs by what they hang on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.data.annotations import read_annotations
from wholepose.data.check import check_annotations
from wholepose.skeletons import HALPE136
from wholepose.synth import SynthPeople, SynthSample
from wholepose.synth.dataset import write_dataset
from wholepose.synth.person import Person
from wholepose.synth.render import Camera
from wholepose.synth.stage import Stage

REACH = 0.03
INDEX = {name: number for number, name in enumerate(HALPE136.keypoint_names)}
LIMBS = (
    # Both ends of a rigid bone: as long on the left as on the right, which a swap of one end would spoil.
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("hip", "knee"),
    ("knee", "ankle"),
    ("ankle", "heel"),
    ("ankle", "big_toe"),
    ("wrist", "hand_root"),
    ("hand_root", "thumb1"),
    ("hand_root", "forefinger1"),
    ("hand_root", "pinky_finger1"),
)


class Checked(SynthPeople):
    """Draws as its parent does, and checks what it drew."""

    def watch(self) -> Checked:
        """Begins to count."""
        self.pictures = self.people_seen = 0
        self.seen, self.inside = np.zeros(136, np.int64), np.zeros(136, np.int64)
        self.stray: list[str] = []
        self.swapped: list[str] = []
        return self

    def picture(self, generator: np.random.Generator, stage: Stage, size: tuple[int, int], **options) -> SynthSample:
        sample = super().picture(generator, stage, size, **options)
        self.pictures += 1
        for row, number in enumerate(sample.person_ids):
            person = stage.people[number]
            where = f"picture {self.pictures - 1}, person {number}"
            self.people_seen += 1
            self.seen += sample.visibility[row] == 2
            self.inside += sample.visibility[row] > 0
            stray = [f"{where}: {name}" for name in stray_points(sample, row, person, stage.camera)]
            swapped = [f"{where}: {name}" for name in swapped_pairs(person.keypoints.astype(np.float64))]
            for line in stray + swapped:
                print(line, flush=True)
            self.stray += stray
            self.swapped += swapped
        return sample


def stray_points(sample: SynthSample, row: int, person: Person, camera: Camera) -> list[str]:
    """Names of the keypoints in the picture that lie too far from their person."""
    points, visibility = sample.keypoints[row], sample.visibility[row]
    body = np.zeros(sample.image.shape[:2], np.uint8)
    corners, depth = camera.project(np.concatenate([surface.vertices for surface in person.surfaces]))
    columns, rows = np.round(corners[depth > 0.02]).astype(np.int64).T
    inside = (columns >= 0) & (rows >= 0) & (columns < body.shape[1]) & (rows < body.shape[0])
    body[rows[inside], columns[inside]] = 1
    names = []
    for mask, counted in ((sample.masks[row], visibility == 2), (body, visibility > 0)):
        # The box of what shows, or of the whole body as far as it is in the picture.
        shown = [np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1)]
        reach = REACH * max(len(places) and float(np.ptp(places)) + 1 for places in shown) + 1
        distance = np.asarray(cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5))
        limit = np.array([mask.shape[1], mask.shape[0]]) - 1
        x, y = np.clip(np.round(points), 0, limit).astype(np.int64).T
        names += [HALPE136.keypoint_names[k] for k in np.flatnonzero(counted & (distance[y, x] > reach))]
    return names


def swapped_pairs(points: NDArray[np.float64]) -> list[str]:
    """Names of what is not on its side, from the keypoints (136, 3) in space."""

    def at(name: str) -> NDArray[np.float64]:
        return points[INDEX[name]]

    def left_of(up: NDArray[np.float64], ahead: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cross(up, ahead)

    ears = (at("left_ear") + at("right_ear")) / 2
    head_left = left_of(at("head") - at("nose"), at("nose") - ears)
    wrong = [f"left_{part}" for part in ("eye", "ear") if (at(f"left_{part}") - at(f"right_{part}")) @ head_left <= 0]
    face = points[list(HALPE136.parts["face"])]
    wrong += [f"face {a}" for a, b in ((0, 16), (36, 45), (48, 54), (17, 26)) if (face[b] - face[a]) @ head_left <= 0]
    shoulders, hips = at("left_shoulder") - at("right_shoulder"), at("left_hip") - at("right_hip")
    wrong += ["hips against shoulders"] if shoulders @ hips <= 0 else []
    wrong += ["head against shoulders"] if shoulders @ head_left <= 0 else []
    for start, end in LIMBS:
        left = np.linalg.norm(at(f"left_{end}") - at(f"left_{start}"))
        right = np.linalg.norm(at(f"right_{end}") - at(f"right_{start}"))
        if abs(left - right) > 0.3 * max(left, right) + 0.02:
            wrong.append(f"{start} to {end}: {left:.3f} and {right:.3f} m")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True, help="empty folder for the pictures and report.json")
    parser.add_argument("--assets", type=Path, help="folder of MakeHuman assets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    people = Checked(options.seed, (144, 192), people=(1, 2), assets=options.assets, clean=True).watch()
    people.load()
    started = time.monotonic()

    def advance(done: int) -> None:
        if done % 500 == 0 and people.pictures:
            speed = people.pictures / (time.monotonic() - started)
            print(
                f"{done} pictures, {people.people_seen} people, {len(people.stray)} stray keypoints, "
                f"{len(people.swapped)} on the wrong side, {speed:.1f} pictures/s",
                flush=True,
            )

    # Ctrl-C ends the drawing early; what is there is checked and reported.
    with contextlib.suppress(KeyboardInterrupt):
        write_dataset(people, options.out, options.count, {"seed": options.seed, "check": True}, advance=advance)
    annotations = read_annotations(options.out / "annotations.json")
    problems = check_annotations(annotations).problems
    share = people.seen / np.maximum(people.inside, 1)
    report = {
        "pictures": people.pictures,
        "people": people.people_seen,
        "problems_of_data_check": list(problems),
        "stray": people.stray[:200],
        "num_stray": len(people.stray),
        "wrong_side": people.swapped[:200],
        "num_wrong_side": len(people.swapped),
        "seen_of_those_in_the_picture": {
            name: round(float(share[list(part)].mean()), 3) for name, part in HALPE136.parts.items()
        },
    }
    (options.out / "report.json").write_text(json.dumps(report, indent=1, default=str))
    print(json.dumps(report, indent=1, default=str)[:4000])


if __name__ == "__main__":
    main()
