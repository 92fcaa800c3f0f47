"""The application on a local Ray: replicas answer as the library does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs the [ray] extra, with Ray Serve")
httpx = pytest.importorskip("httpx", reason="talks to the server with httpx")
pytest.importorskip("starlette", reason="needs the [serve] extra")

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

# In a process of its own: Ray's threads and signal handlers stay out of the tests.
PROGRAM = """
import json, pathlib, sys, threading
import httpx, ray
from ray import serve
from wholepose.serving.ray_app import build

port, key = int(sys.argv[1]), sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20,
         runtime_env={"env_vars": {"WHOLEPOSE_API_KEY": key}})
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(build({"replicas": "2", "cpus": "1"}))
url = f"http://127.0.0.1:{port}"
picture = open(sys.argv[3], "rb").read()
results = []

def ask():
    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=120, headers=headers) as client:
        for _ in range(4):
            answer = client.post("/v1/poses", params={"name": "people_1.jpg"}, content=picture)
            results.append((answer.status_code, answer.text))

threads = [threading.Thread(target=ask) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
statuses = serve.status().applications["default"].deployments["wholepose"].replica_states
refused = httpx.post(f"{url}/v1/poses", content=picture, headers={"Content-Type": "image/jpeg"})
damaged = httpx.post(f"{url}/v1/poses", content=picture[:5000],
                     headers={"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"})
pathlib.Path(sys.argv[4]).write_text(json.dumps({
    "results": results,
    "replicas": {str(getattr(state, "value", state)): count for state, count in statuses.items()},
    "refused": [refused.status_code, refused.json()["error"]["code"]],
    "damaged": [damaged.status_code, damaged.json()["error"]["code"]],
    "health": httpx.get(f"{url}/readyz").status_code,
}))
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.slow
def test_replicas(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(port), "0123456789abcdef", EXAMPLES / "people_1.jpg", tmp_path / "found"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found").read_text())
    printed = subprocess.run(
        [sys.executable, "-m", "wholepose", "predict", "people_1.jpg"], cwd=EXAMPLES, capture_output=True, text=True
    )
    assert len(found["results"]) == 24
    assert {tuple(result) for result in found["results"]} == {(200, printed.stdout)}
    assert found["replicas"] == {"RUNNING": 2}
    assert found["refused"] == [401, "unauthorized"]
    assert found["damaged"] == [422, "invalid_image"]
    assert found["health"] == 200


def test_bad_options():
    from wholepose.errors import ConfigError
    from wholepose.serving.ray_app import build

    with pytest.raises(ConfigError, match="there is no option 'modle'"):
        build({"modle": "a.onnx"})
    with pytest.raises(ConfigError, match="must be positive numbers"):
        build({"replicas": "0"})
    with pytest.raises(ConfigError, match="must be positive numbers"):
        build({"cpus": "many"})
