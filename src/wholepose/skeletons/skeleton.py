"""The description of one keypoint convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Edge:
    """A line between two keypoints, from the one nearer the trunk outwards.

    Attributes:
        start: Index of the keypoint nearer the trunk.
        end: Index of the other one.
        color: (red, green, blue), each 0 to 255.
    """

    start: int
    end: int
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Names, parts, lines, mirror pairs and tolerances of the K keypoints of a person.

    There is one object for each skeleton, so ``is`` and ``==`` tell skeletons apart, also after pickling.

    Attributes:
        name: Such as ``"halpe136"``; a part's own skeleton is called ``"halpe136.left_hand"``.
        keypoint_names: K names, in order, all different.
        parts: Indices of the keypoints of each part; the parts do not overlap and together hold all keypoints.
        edges: Lines to draw.
        flip_pairs: Pairs of keypoints that change places in a mirror image.
        sigmas: (K,) float64, read-only: the per-keypoint constants of object keypoint similarity.
    """

    name: str
    keypoint_names: tuple[str, ...]
    parts: Mapping[str, tuple[int, ...]]
    edges: tuple[Edge, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Freezes the containers.

        Raises:
            ValueError: The fields do not fit each other.
        """
        count = len(self.keypoint_names)
        sigmas = np.array(self.sigmas, dtype=np.float64)
        sigmas.setflags(write=False)
        object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))
        if len(set(self.keypoint_names)) != count:
            raise ValueError(f"skeleton {self.name!r} has two keypoints of one name")
        if sigmas.shape != (count,) or not (sigmas > 0).all():
            raise ValueError(f"skeleton {self.name!r} needs {count} positive sigmas, not shape {sigmas.shape}")
        if sorted(index for part in self.parts.values() for index in part) != list(range(count)):
            raise ValueError(f"the parts of skeleton {self.name!r} must hold each of its {count} keypoints once")
        paired = [index for pair in self.flip_pairs for index in pair]
        if len(set(paired)) != len(paired) or not set(paired) <= set(range(count)):
            raise ValueError(f"a flip pair of skeleton {self.name!r} repeats a keypoint or names one it lacks")
        if not {index for edge in self.edges for index in (edge.start, edge.end)} <= set(range(count)):
            raise ValueError(f"an edge of skeleton {self.name!r} names a keypoint it lacks")

    def __repr__(self) -> str:
        return f"<Skeleton {self.name}: {self.num_keypoints} keypoints>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled skeleton comes back as the one object of its name, where it has one.
        from wholepose.skeletons.tables import restore_skeleton

        fields = (self.keypoint_names, dict(self.parts), self.edges, self.flip_pairs, np.array(self.sigmas))
        return restore_skeleton, (self.name, *fields)

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoint_names)

    @cached_property
    def flip_indices(self) -> NDArray[np.int64]:
        """(K,) int64, read-only: the index of each keypoint's mirror, itself where it has none."""
        indices = np.arange(self.num_keypoints, dtype=np.int64)
        for left, right in self.flip_pairs:
            indices[[left, right]] = right, left
        indices.setflags(write=False)
        return indices

    @cached_property
    def keypoint_colors(self) -> NDArray[np.uint8]:
        """(K, 3) uint8 RGB, read-only: the colour of the first edge that touches a keypoint.

        White where no edge does, and where edges of several colours meet in a keypoint without a mirror, as in a nose.
        """
        colors = np.full((self.num_keypoints, 3), 255, dtype=np.uint8)
        for keypoint in range(self.num_keypoints):
            touching = [edge.color for edge in self.edges if keypoint in (edge.start, edge.end)]
            if touching and (len(set(touching)) == 1 or self.flip_indices[keypoint] != keypoint):
                colors[keypoint] = touching[0]
        colors.setflags(write=False)
        return colors

    def index(self, keypoint_name: str) -> int:
        """Index of the keypoint of that name.

        Raises:
            ValueError: The skeleton has no such keypoint.
        """
        try:
            return self._indices[keypoint_name]
        except KeyError:
            raise ValueError(
                f"skeleton {self.name!r} has no keypoint {keypoint_name!r}; it has {', '.join(self.keypoint_names)}"
            ) from None

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.keypoint_names)}

    def part(self, part_name: str) -> Skeleton:
        """The skeleton of one part alone, with the indices counted anew.

        Raises:
            ValueError: The skeleton has no such part.
        """
        if part_name not in self.parts:
            raise ValueError(f"skeleton {self.name!r} has no part {part_name!r}; it has {', '.join(self.parts)}")
        return self._part_skeletons[part_name]

    @cached_property
    def _part_skeletons(self) -> dict[str, Skeleton]:
        return {name: self._cut_out(name, indices) for name, indices in self.parts.items()}

    def _cut_out(self, part_name: str, indices: tuple[int, ...]) -> Skeleton:
        place = {old: new for new, old in enumerate(indices)}
        return Skeleton(
            name=f"{self.name}.{part_name}",
            keypoint_names=tuple(self.keypoint_names[index] for index in indices),
            parts={part_name: tuple(range(len(indices)))},
            edges=tuple(
                Edge(place[edge.start], place[edge.end], edge.color)
                for edge in self.edges
                if edge.start in place and edge.end in place
            ),
            flip_pairs=tuple((place[a], place[b]) for a, b in self.flip_pairs if a in place and b in place),
            sigmas=self.sigmas[list(indices)],
        )
