"""Servers for tests: real ones, on free ports of this machine, in threads."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def servers():
    """The module tests/serving/live_servers.py."""
    for module in ("starlette", "uvicorn", "prometheus_client", "httpx"):
        pytest.importorskip(module, reason="needs the [serve] extra, and httpx")
    spec = importlib.util.spec_from_file_location("live_servers", HERE / "live_servers.py")
    module = sys.modules.setdefault("live_servers", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def live_server(servers):
    """A server with the embedded models; ``.url`` is its address."""
    from wholepose.estimator import PoseEstimator

    with servers.running(PoseEstimator.from_pretrained(threads=1)) as live:
        yield live


@pytest.fixture(scope="session")
def tiny_estimator(tiny_models, tmp_path_factory):
    """A model whose keypoints are where the box is brightest; there is no detector."""
    from wholepose.estimator import PoseEstimator
    from wholepose.runtimes.onnx import OnnxRuntime

    path = tiny_models.save_heatmap_model(tmp_path_factory.mktemp("tiny") / "tiny.onnx", name="tiny")
    return PoseEstimator(OnnxRuntime(path, threads=1))


@pytest.fixture(scope="session")
def tiny_server(servers, tiny_estimator):
    """A server with that model."""
    with servers.running(tiny_estimator) as live:
        yield live


@pytest.fixture(scope="session")
def blob_png(tiny_models):
    """A PNG of 180 x 200 pixels with a blob at (100, 90)."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(tiny_models.blob_image((200, 180), (100, 90), 9)).save(file, "PNG")
    return file.getvalue()
