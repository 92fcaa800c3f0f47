import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_smoothing():
    """benchmarks/smoothing.py, with its simulated walk."""
    spec = importlib.util.spec_from_file_location("benchmark_smoothing", BENCHMARKS / "smoothing.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_smoothing"] = module
    spec.loader.exec_module(module)
    return module
