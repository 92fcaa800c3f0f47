"""The OpenAPI document is valid, and the server does what it says: schemathesis tries it."""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
pytest.importorskip("starlette", reason="needs the [serve] extra")

EXAMPLES = {"fast": 60, "thorough": 500}


def test_document(tiny_server):
    document = tiny_server.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    routes = {route.path for route in tiny_server.app.routes if not route.path.startswith(("/static", "/favicon"))}
    assert set(document["paths"]) == routes - {"/"}


@pytest.fixture(scope="module")
def pictures(blob_png):
    """Teaches schemathesis what bodies there are: pictures, damaged ones, and anything."""
    from hypothesis import strategies as st

    from wholepose.serving.framing import MEDIA_TYPE, join_pictures

    damaged = st.integers(0, len(blob_png)).map(lambda length: blob_png[:length])
    body = st.one_of(st.just(blob_png), damaged, st.binary(max_size=200))
    several = st.one_of(st.lists(body, max_size=3).map(join_pictures), st.binary(max_size=50))
    schemathesis.openapi.media_type("image/*", body, aliases=["application/octet-stream"])
    schemathesis.openapi.media_type(MEDIA_TYPE, several)


@pytest.fixture(scope="module")
def server(servers, tiny_estimator):
    """A server that also finds people by itself, so that a request without parameters is a good one."""
    from wholepose.detectors import load_detector
    from wholepose.estimator import PoseEstimator

    with servers.running(PoseEstimator(tiny_estimator.runtime, load_detector("default", threads=1))) as live:
        yield live


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("size", ["fast", pytest.param("thorough", marks=pytest.mark.slow)])
def test_schemathesis(server, size):
    """FAULTS 51: thousands of valid and invalid requests get documented answers, and never a 5xx."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
        checks.unsupported_method,
        checks.use_after_free,
    ]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    seen = set()

    def check(case):
        response = case.call()
        seen.add((case.operation.path, response.status_code))
        case.validate_response(response, checks=wanted)

    for result in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            strategy = result.ok().as_strategy(generation_mode=mode)
            run = settings(max_examples=EXAMPLES[size], deadline=None, suppress_health_check=list(HealthCheck))
            try:
                run(given(case=strategy)(check))()
            except Unsatisfiable:  # an operation without parameters has nothing to get wrong
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert seen >= {("/v1/poses", 200), ("/v1/poses", 400), ("/v1/poses", 422), ("/v1/poses:batch", 200)}
    assert seen >= {(path, 200) for path in ("/v1/models", "/healthz", "/readyz", "/metrics")}
