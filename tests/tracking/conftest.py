import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_tracking():
    """benchmarks/tracking.py, with its simulated people and the plain tracker to beat."""
    spec = importlib.util.spec_from_file_location("benchmark_tracking", BENCHMARKS / "tracking.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_tracking"] = module
    spec.loader.exec_module(module)
    return module
