"""The exceptions that wholepose raises on purpose, all under one base."""

from __future__ import annotations

import importlib
from types import ModuleType


class WholeposeError(Exception):
    """Base of every error that wholepose raises on purpose; its message names the thing, the value and the remedy."""


class ImageError(WholeposeError):
    """A picture cannot be read or is not what it claims to be."""


class VideoError(WholeposeError):
    """A video cannot be read or written."""


class AnnotationError(WholeposeError):
    """An annotation, detection or results file is malformed."""


class WeightsError(WholeposeError):
    """Model weights are missing, damaged, unsafe or do not fit."""


class TrainingError(WholeposeError):
    """A training run cannot go on."""


class ConfigError(WholeposeError):
    """An option, a recipe or the installation does not allow what was asked for."""


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional dependency.

    Args:
        module: Dotted name of the module, such as ``"torch"``.
        extra: The extra of wholepose that installs it, such as ``"train"``.

    Returns:
        The imported module.

    Raises:
        ConfigError: The module is not installed; the message says which extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise ConfigError(
            f"this needs {module.split('.')[0]!r}, which is not installed: pip install 'wholepose[{extra}]'"
        ) from error
