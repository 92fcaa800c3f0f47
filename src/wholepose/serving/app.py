"""The HTTP application: routes, who may use them, and errors as JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from wholepose.detectors import NamedPersonDetector
from wholepose.errors import ConfigError
from wholepose.estimator import PoseEstimator
from wholepose.outputs import to_json
from wholepose.serving.answers import PiecewiseResponse
from wholepose.serving.framing import MEDIA_TYPE, split_pictures
from wholepose.serving.gate import Gate
from wholepose.serving.models_document import models_document
from wholepose.serving.openapi import openapi_document
from wholepose.serving.page_files import page_response, read_page_files
from wholepose.serving.problems import ApiError
from wholepose.serving.queries import ONE_PICTURE, SEVERAL_PICTURES, Query, read_query
from wholepose.serving.service import Service, deadline_of
from wholepose.serving.settings import ServerSettings

_FRESH = {"Cache-Control": "no-store"}


def create_app(estimator: PoseEstimator, settings: ServerSettings) -> Starlette:
    """The application around a loaded model. Its ``state.service`` starts and stops with its lifespan.

    Args:
        estimator: The model, with a detector or without; threads share it.
        settings: Limits and the key.

    Returns:
        An ASGI application.

    Raises:
        ConfigError: The detector is a file of boxes, which knows pictures by names.
    """
    if isinstance(estimator.detector, NamedPersonDetector):
        raise ConfigError("a file of boxes goes with `wholepose predict`; a server's clients send boxes with pictures")
    service = Service(estimator, settings)
    page = read_page_files()
    description = to_json(models_document(estimator, settings))
    openapi = json.dumps(openapi_document(settings))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    async def models(_request: Request) -> Response:
        return Response(description, media_type="application/json", headers={"Cache-Control": "no-cache"})

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_FRESH)

    async def readiness(_request: Request) -> Response:
        if service.is_ready:
            return JSONResponse({"status": "ready"}, headers=_FRESH)
        return ApiError("shutting_down", "the server is not ready", {"Retry-After": "5"}).response()

    async def metrics(_request: Request) -> Response:
        return Response(
            generate_latest(service.metrics.registry), headers={**_FRESH, "Content-Type": CONTENT_TYPE_LATEST}
        )

    async def specification(_request: Request) -> Response:
        return Response(openapi, media_type="application/json", headers={"Cache-Control": "no-cache"})

    async def page_file(request: Request) -> Response:
        name = request.path_params.get("name", "favicon.ico" if request.url.path == "/favicon.ico" else "index.html")
        if name not in page:
            raise ApiError("not_found", "there is no such file")
        return page_response(page[name], request)

    async def on_problem(_request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ApiError)
        service.metrics.rejected.labels(problem.code).inc()
        return problem.response()

    app = Starlette(
        routes=[
            Route("/v1/poses", OnePicture(service), methods=["POST"]),
            Route("/v1/poses:batch", SeveralPictures(service), methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", health),
            Route("/readyz", readiness),
            Route("/metrics", metrics),
            Route("/openapi.json", specification),
            Route("/", page_file),
            Route("/favicon.ico", page_file),
            Route("/static/{name:path}", page_file),
        ],
        middleware=[Middleware(Gate, settings=settings, metrics=service.metrics)],
        exception_handlers={ApiError: on_problem, HTTPException: _on_http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect of a POST would send the picture twice
    app.state.service = service
    return app


class OnePicture:
    """``POST /v1/poses``: a picture's bytes in, its poses out."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request; it counts as being worked on until its answer is on the way."""
        request, service = Request(scope, receive), self._service
        query = _query(request, service, ONE_PICTURE)
        _check_body_type(request, ("image/", "application/octet-stream"))
        with suppress(ClientDisconnect), service.admitted() as admission:
            body = await admission.read_body(request, service.settings.max_body_bytes)
            work = service.pose(body, query, deadline_of(service.settings))
            del body
            content, media_type = await service.while_connected(request, work)
            admission.exchange(content)
            response = PiecewiseResponse(content, media_type=media_type, headers=_FRESH)
            await response(scope, receive, send)
            return
        service.metrics.disconnects.inc()


class SeveralPictures:
    """``POST /v1/poses:batch``: several pictures in, a list of their poses out."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request; a picture that cannot be answered does not keep the others from it."""
        request, service = Request(scope, receive), self._service
        settings = service.settings
        query = _query(request, service, SEVERAL_PICTURES)
        _check_body_type(request, (MEDIA_TYPE,))
        with suppress(ClientDisconnect), service.admitted() as admission:
            body = await admission.read_body(request, settings.max_batch_body_bytes)
            pictures = split_pictures(body, most=settings.max_batch_images, max_bytes=settings.max_body_bytes)
            admission.add_pictures(len(pictures) - 1)
            work = self._documents(pictures, query)
            del body, pictures
            content = await service.while_connected(request, work)
            admission.exchange(content)
            await PiecewiseResponse(content, media_type="application/json", headers=_FRESH)(scope, receive, send)
            return
        service.metrics.disconnects.inc()

    async def _documents(self, pictures: list[bytes], query: Query) -> bytes:
        deadline = deadline_of(self._service.settings)
        results = await self._service.documents(pictures, query, deadline)
        return to_json({"results": results}).encode("ascii")


def _query(request: Request, service: Service, allowed: tuple[str, ...]) -> Query:
    return read_query(
        request.query_params,
        allowed,
        max_boxes=service.settings.max_boxes,
        can_detect=service.estimator.detector is not None,
    )


def _check_body_type(request: Request, accepted: tuple[str, ...]) -> None:
    """Refuses other bodies than pictures, and compressed ones: a small body must not become a large one here.

    Raises:
        ApiError: The media type is another, or the body is encoded.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ApiError("unsupported_media_type", "the body is encoded; send the file's bytes as they are")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.startswith(accepted):
        names = " or ".join(f"{name}*" if name.endswith("/") else name for name in accepted)
        raise ApiError("unsupported_media_type", f"Content-Type must be {names}")


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem = ApiError("method_not_allowed", "this address takes other methods", error.headers)
    else:
        problem = ApiError("not_found", "there is nothing at this address")
    return problem.response()
