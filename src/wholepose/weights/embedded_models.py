"""The models that come inside the package, so that the first prediction needs no network.

They lie beside this module in ``embedded/``, with a table of their hashes that ``scripts/embed_weights.py`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wholepose.errors import WeightsError
from wholepose.weights.files import sha256_of

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
TABLE_NAME = "embedded.json"


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that comes inside the package.

    Attributes:
        name: Name by which it is asked for: ``"default"`` for poses, ``"detector"`` for people.
        path: Where its ONNX file lies.
        sha256: What the file must hash to, 64 hex digits.
        size_bytes: Size of the file.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int

    def check(self) -> None:
        """Compares the file with its hash.

        Raises:
            WeightsError: It is missing or is not the file that was shipped.
        """
        actual = sha256_of(self.path)
        if actual != self.sha256:
            raise WeightsError(
                f"{self.path}: the embedded model {self.name!r} is not the one that was shipped (sha256 {actual}, "
                f"expected {self.sha256}); install wholepose again"
            )


def embedded_models(folder: Path = EMBEDDED_FOLDER) -> Mapping[str, EmbeddedModel]:
    """Reads the table of embedded models.

    Args:
        folder: Where table and models lie.

    Returns:
        The models by name.

    Raises:
        WeightsError: The table is missing or damaged.
    """
    table = folder / TABLE_NAME
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
        return {
            name: EmbeddedModel(name, folder / f"{name}.onnx", str(row["sha256"]), int(row["size_bytes"]))
            for name, row in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{table}: the table of embedded models is damaged ({error}); install again") from error
