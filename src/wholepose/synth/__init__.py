"""Synthetic people: pictures with all 136 keypoints exact, made from a parametric body; needs the ``synth`` extra."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wholepose.synth.annotate import SynthSample
    from wholepose.synth.people import SynthPeople

__all__ = ["SynthPeople", "SynthSample"]

_EXPORTS = {"SynthPeople": "people", "SynthSample": "annotate"}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
