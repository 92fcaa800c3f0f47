"""Synthetic people: pictures with all 136 keypoints exact, made from a parametric body; needs the ``synth`` extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wholepose.synth.people import SynthPeople, SynthSample

__all__ = ["SynthPeople", "SynthSample"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from wholepose.synth import people

        return getattr(people, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
