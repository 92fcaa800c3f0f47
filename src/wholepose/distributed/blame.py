"""Which file takes its worker down: known only to somebody who outlives the worker."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

_DEATHS = 2
"""So many workers must die over a file, each while it was alone in hand, before it is given up."""


class Attempt(NamedTuple):
    """What a worker should know when it starts on a part.

    Attributes:
        alone: An earlier worker died over the part: read its files one at a time, and say which.
        given_up: Names of the files to leave out, since workers die over them.
    """

    alone: bool
    given_up: frozenset[str]


class BlameLedger:
    """Notes what workers begin and finish. It runs as an actor of its own, so that it is still there when one dies.

    A decoder that crashes on a file kills its process, and the part is tried again on the next one; without this, the
    job would do so for ever. The first death over a part tells nothing, since files are read ahead. From then on the
    part is done file by file.
    """

    def __init__(self) -> None:
        self._attempts: Counter[str] = Counter()
        self._in_hand: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def begin(self, part: str) -> Attempt:
        """A worker starts on a part."""
        self._attempts[part] += 1
        deaths = self._in_hand[part]
        given_up = frozenset(name for name, begun in deaths.items() if begun >= _DEATHS)
        return Attempt(self._attempts[part] > 1, given_up)

    def take(self, part: str, name: str) -> None:
        """A worker takes a file in hand, and no other."""
        self._in_hand[part][name] += 1

    def put_back(self, part: str, name: str) -> None:
        """A worker is done with a file, and lives."""
        self._in_hand[part][name] -= 1

    def end(self, part: str) -> None:
        """A worker has finished a part."""
        self._attempts.pop(part, None)
        self._in_hand.pop(part, None)
