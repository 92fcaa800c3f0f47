"""FAULTS 50: who may use the server."""

import os
import statistics
import subprocess
import sys
import time

import pytest

KEY = "0123456789abcdef-secret"
pytest.importorskip("starlette", reason="needs the [serve] extra")


def serve(*words, environment=None):
    kept = {name: value for name, value in os.environ.items() if name != "WHOLEPOSE_API_KEY"}
    return subprocess.run(
        [sys.executable, "-m", "wholepose", "serve", "--port", "0", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=kept | (environment or {}),
    )


@pytest.fixture(scope="module")
def keyed(servers, tiny_estimator):
    with servers.running(tiny_estimator, api_key=KEY) as live:
        yield live


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_need_a_key(host):
    done = serve("--host", host)
    assert done.returncode == 2
    assert done.stderr == (
        f"wholepose: --host {host} lets other machines in: set an API key, with --api-key-file FILE or in the "
        "environment variable WHOLEPOSE_API_KEY\n"
    )


@pytest.mark.parametrize("key", ["", "short", "a" * 2000, "sp ace" * 5, "\u00fc" * 20])
def test_bad_keys_are_refused(tmp_path, key):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    done = serve("--host", "0.0.0.0", "--api-key-file", str(tmp_path / "key"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "key") in done.stderr
    assert not key or key not in done.stderr


def test_missing_key_file(tmp_path):
    done = serve("--api-key-file", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "cannot be read: No such file" in done.stderr


def test_key_from_file_and_environment(tmp_path):
    from wholepose.serving.access import read_api_key

    (tmp_path / "key").write_text(f"{KEY}\n")
    assert read_api_key(tmp_path / "key", {}) == KEY
    assert read_api_key(None, {"WHOLEPOSE_API_KEY": KEY}) == KEY
    assert read_api_key(None, {}) is None


def test_loopback_names():
    from wholepose.errors import ConfigError
    from wholepose.serving.access import is_loopback

    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("192.0.2.1")
    with pytest.raises(ConfigError, match="no address of this machine"):
        is_loopback("no such name")


def test_key_opens(keyed, servers, blob_png):
    answer = keyed.pose(blob_png, "?whole_image=true", servers.PNG | {"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
    # With a key any name of the server will do.
    assert keyed.client.get(
        "/v1/models", headers={"Host": "poses.example", "Authorization": f"bearer {KEY}"}
    ).is_success


@pytest.mark.parametrize(
    "word", [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer \xff"]
)
def test_wrong_key(keyed, servers, blob_png, word):
    headers = {} if word is None else {"Authorization": word.encode("latin-1")}
    for answer in (
        keyed.pose(blob_png, "?whole_image=true", servers.PNG | headers),
        keyed.client.get("/v1/models", headers=headers),
        keyed.client.get("/metrics", headers=headers),
        keyed.client.get("/nothing", headers=headers),
    ):
        assert (answer.status_code, servers.code_of(answer)) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


def test_open_without_key(keyed):
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert keyed.client.get(path).status_code == 200
    assert keyed.client.get("/static/nothing.js").status_code == 404


def test_constant_time():
    """A key that is right up to its last letter takes as long to refuse as one that is wrong from its first."""
    from starlette.datastructures import Headers

    from wholepose.serving.access import check_key
    from wholepose.serving.problems import ApiError

    key = "k" * 1000
    candidates = [Headers({"authorization": f"Bearer {word}"}) for word in ("x" + key[1:], key[:-1] + "x")]
    times = [[], []]
    for _ in range(400):
        for which, headers in enumerate(candidates):
            start = time.perf_counter()
            for _ in range(5):
                with pytest.raises(ApiError):
                    check_key(headers, key)
            times[which].append(time.perf_counter() - start)
    early, late = (statistics.median(each) for each in times)
    assert late == pytest.approx(early, rel=0.2)


def test_settings_hide_the_key():
    from wholepose.serving.settings import ServerSettings

    assert KEY not in repr(ServerSettings(api_key=KEY))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "[::", ""])
def test_other_host_names(tiny_server, servers, host):
    """A page whose name is made to point at loopback gets nothing."""
    answer = tiny_server.client.get("/v1/models", headers={"Host": host})
    assert (answer.status_code, servers.code_of(answer)) == (421, "misdirected_request")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "[::1]:8000"])
def test_loopback_host_names(tiny_server, host):
    assert tiny_server.client.get("/v1/models", headers={"Host": host}).status_code == 200


def test_no_cors(tiny_server):
    answer = tiny_server.client.options(
        "/v1/poses",
        headers={
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
