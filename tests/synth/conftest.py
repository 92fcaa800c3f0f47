"""The body of synthetic people, built once into wholepose's cache folder, and what is made from it."""

import pytest

pytest.importorskip("warp", reason="needs the [synth] extra")

from wholepose.synth.body import Body, load_body
from wholepose.synth.build import FORMAT
from wholepose.weights import cache_folder


@pytest.fixture(scope="session")
def body() -> Body:
    """The body; where no earlier run has built it, that takes anny and two minutes."""
    if not (cache_folder() / f"body_{FORMAT}.npz").is_file():
        pytest.importorskip("anny", reason="needs the [synth] extra")
    return load_body(cache_folder())


@pytest.fixture(scope="session")
def adult() -> dict[str, float]:
    """A phenotype in the middle of everything."""
    return {"gender": 0.5, "age": 2 / 3, "african": 1.0, "asian": 1.0, "caucasian": 1.0}
