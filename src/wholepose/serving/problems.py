"""What can be wrong with a request, as clients are told it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import JSONResponse

CODES = {
    400: ("invalid_parameter", "invalid_request"),
    401: ("unauthorized",),
    404: ("not_found",),
    405: ("method_not_allowed",),
    408: ("request_timeout",),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    421: ("misdirected_request",),
    422: ("invalid_image",),
    500: ("internal_error",),
    503: ("overloaded", "deadline_exceeded", "decoder_failed", "shutting_down"),
}
"""The codes of each status."""

_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")


class ApiError(Exception):
    """A request that cannot be answered with what it asked for.

    Args:
        code: One of ``CODES``; it decides the status.
        message: A sentence for people; it holds no path and nothing of the server's inside.
        headers: Of the answer.
    """

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = next(status for status, codes in CODES.items() if code in codes)
        self.headers = dict(headers or {})

    def document(self) -> dict[str, dict[str, str]]:
        """The JSON that is sent."""
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        headers = {"Cache-Control": "no-store", **self.headers}
        return JSONResponse(self.document(), status_code=self.status, headers=headers)


def overloaded(retry_after_s: int) -> ApiError:
    """The server has all the work that it accepts."""
    return ApiError(
        "overloaded",
        f"the server has as much to do as it accepts; try again in {retry_after_s} s",
        {"Retry-After": str(retry_after_s)},
    )


def invalid_image(reason: str) -> ApiError:
    """The bytes are not a picture that is read.

    Args:
        reason: Message of an ImageError; what names objects of the decoder is left out.
    """
    message = _OBJECT.sub("the data", reason.removeprefix("image bytes: "))
    return ApiError(
        "invalid_image", f"the body {message}" if message.startswith(("is ", "has ", "holds ")) else message
    )
