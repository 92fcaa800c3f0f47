"""What every request passes: the checks of host and key, counting, and the headers of every answer."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wholepose.serving.access import check_host, check_key
from wholepose.serving.metrics import Metrics
from wholepose.serving.problems import ApiError
from wholepose.serving.settings import ServerSettings

_LOG = logging.getLogger("wholepose.serving")
_OPEN = ("/", "/favicon.ico", "/healthz", "/readyz", "/openapi.json")
_ROUTES = (*_OPEN, "/metrics", "/v1/models", "/v1/poses", "/v1/poses:batch")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """ASGI middleware. There are no CORS headers: pages of other servers may not use this one.

    Args:
        app: What stands behind it.
        settings: Has the key, and whether any host name will do.
        metrics: Told of every answer.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request pass, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        route = path if path in _ROUTES else "/static" if path.startswith("/static/") else "other"

        statuses: list[int] = []  # of the answer, once it has begun

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                self._metrics.requests.labels(route, str(message["status"])).inc()
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            with self._metrics.time("total"):
                self._check(path, Headers(scope=scope))
                await self._app(scope, receive, send_counted)
        except ApiError as problem:
            self._metrics.rejected.labels(problem.code).inc()
            await problem.response()(scope, receive, send_counted)
        except Exception as error:
            if statuses:  # too late to say so; the server closes the connection
                raise
            _LOG.error("a request to %s failed", route, exc_info=error)
            failure = ApiError("internal_error", "the server failed on this request; its log says why")
            await failure.response()(scope, receive, send_counted)

    def _check(self, path: str, headers: Headers) -> None:
        if self._settings.api_key is not None:
            if path not in _OPEN and not path.startswith("/static/"):
                check_key(headers, self._settings.api_key)
        elif not self._settings.any_host:
            check_host(headers)
