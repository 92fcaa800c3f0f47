"""What ``wholepose predict`` says on stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass
class Report:
    """Counts what was done and lists what failed.

    Attributes:
        quiet: Say nothing but failures.
        failures: One line each, beginning with the input.
        pictures: Pictures done.
        videos: Videos done, also those with damage.
        frames: Frames of videos done.
        people: People in pictures, and people of videos, whom each video counts anew.
    """

    quiet: bool
    failures: list[str]
    pictures: int = 0
    videos: int = 0
    frames: int = 0
    people: int = 0
    _hinted: bool = False

    def say(self, message: str) -> None:
        """Prints a line above the progress bar."""
        if not self.quiet:
            _print(message)

    def fail(self, message: str) -> None:
        """Remembers a failure."""
        self.failures.append(message)

    def nobody(self, name: str, *, asked_detector: bool) -> None:
        """Says that nobody was found, and the first time what to try."""
        hint = "" if self._hinted or not asked_detector else " (if one person fills it, try --whole-image)"
        self._hinted = True
        self.say(f"{name}: nobody found{hint}")

    def list_failures(self) -> None:
        """Prints all failures."""
        if self.failures:
            _print(f"{plural(len(self.failures), 'input')} failed:")
            for failure in self.failures:
                _print(f"  {failure}")

    def summary(self) -> str:
        """What was done, in a few words."""
        parts = [plural(self.people, "person", "people")]
        if self.videos:
            parts.insert(0, f"{plural(self.videos, 'video')} of {plural(self.frames, 'frame')}")
        if self.pictures or not self.videos:
            parts.insert(0, plural(self.pictures, "picture"))
        return ", ".join(parts)


def _print(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)  # above the progress bar


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"
