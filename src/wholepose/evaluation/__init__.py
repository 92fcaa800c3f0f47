"""How good a model is: AP and AR whole and by part, PCK, AUC, EPE, NME, error kinds, intervals and reports."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Results": "results",
    "Scores": "scoring",
    "holdout_ids": "holdout",
    "read_results": "results",
    "rescore": "results",
    "score": "scoring",
    "split_photos": "holdout",
    "suppress": "results",
    "write_results": "results",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_EXPORTS)
