"""The page's files: types, caching, and the policy that keeps the page to its own server."""

import gzip

import pytest

pytest.importorskip("starlette", reason="needs the [serve] extra")


@pytest.fixture
def client(tmp_path, monkeypatch, servers, tiny_estimator):
    """Talks to a server with a page of its own."""
    from wholepose.serving import app as module
    from wholepose.serving.page_files import read_page_files

    (tmp_path / "index.html").write_text("<!doctype html>" + "<p>hello</p>" * 50)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / ".hidden.js").write_text("secret")
    (tmp_path / "notes.md").write_text("not served")
    monkeypatch.setattr(module, "read_page_files", lambda: read_page_files(tmp_path))
    with servers.running(tiny_estimator, decoders=1) as live:
        yield live.client


def test_index(client):
    answer = client.get("/", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "img-src 'self' blob: data:" in policy
    assert "media-src 'self' blob:" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "content-encoding" not in answer.headers
    assert answer.text.startswith("<!doctype html>")


def test_unchanged_files_are_not_sent_again(client):
    for encoding in ("identity", "gzip, br"):
        first = client.get("/", headers={"Accept-Encoding": encoding})
        second = client.get(
            "/", headers={"Accept-Encoding": encoding, "If-None-Match": f'"x", {first.headers["etag"]}'}
        )
        assert (second.status_code, second.content) == (304, b"")
        assert second.headers["etag"] == first.headers["etag"]
        assert "content-security-policy" in second.headers
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_packed(client):
    with client.stream("GET", "/", headers={"Accept-Encoding": "br, gzip;q=0.5"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(raw).startswith(b"<!doctype html>")
    assert "content-encoding" not in client.get("/", headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_other_files(client):
    picture = client.get("/static/samples/a.jpg")
    assert (picture.headers["content-type"], picture.content) == ("image/jpeg", b"\xff\xd8\xff")
    assert "vary" not in picture.headers
    for path in ("/static/.hidden.js", "/static/notes.md", "/static/samples", "/static/samples/", "/favicon.ico"):
        assert client.get(path).status_code == 404, path
