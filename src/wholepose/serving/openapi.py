"""The OpenAPI description of the server, for `/openapi.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wholepose.serving.framing import MEDIA_TYPE
from wholepose.serving.problems import CODES
from wholepose.serving.queries import FORMATS, MAX_IMAGE_ID, MAX_NAME_LENGTH
from wholepose.serving.settings import ServerSettings

_VERSION = "1"
_MEANINGS = {
    400: "A parameter or the request is malformed.",
    401: "The API key is missing or wrong.",
    404: "There is nothing at this address.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is of another type, or compressed.",
    421: "The Host header names another server.",
    422: "The body is no picture that is read, or has too many pixels.",
    500: "The server failed.",
    503: "The server has too much to do, could not answer in time, or is stopping; Retry-After says when to try again.",
}
_NUMBER = {"type": "number"}


def openapi_document(settings: ServerSettings) -> dict[str, Any]:
    """The description of a server with these limits, in OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wholepose",
            "version": _VERSION,
            "description": "Whole-body 2D human pose of pictures. Coordinates are (x, y) pixels of the upright "
            "picture; the centre of its top-left pixel is (0, 0).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/poses": {"post": _one_picture(settings)},
            "/v1/poses:batch": {"post": _several_pictures(settings)},
            "/v1/models": {
                "get": _get("models", "The model that runs, its skeleton, and the limits", _ref("Models"), (401,))
            },
            "/healthz": {"get": _get("health", "Whether the process lives", _ref("Status"), (), key=False)},
            "/readyz": {"get": _get("readiness", "Whether pictures are answered", _ref("Status"), (503,), key=False)},
            "/metrics": {
                "get": {
                    **_get("metrics", "Counts and times, for Prometheus", {"type": "string"}, (401,)),
                    "responses": {
                        "200": {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                        **_problems((401, 421)),
                    },
                }
            },
            "/openapi.json": {"get": _get("openapi", "This document", {"type": "object"}, (), key=False)},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": _problem("An error.")},
        },
    }


def _one_picture(settings: ServerSettings) -> dict[str, Any]:
    picture = {"schema": {"type": "string", "format": "binary", "maxLength": settings.max_body_bytes}}
    number = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    box = ",".join([number] * 4)
    parameters = [
        *_parameters(FORMATS),
        _parameter(
            "boxes",
            {"type": "string", "pattern": f"^({box}(;{box})*)?$"},
            f"Whose poses: x1,y1,x2,y2 in pixels, at most {settings.max_boxes}, separated by ;. Empty means nobody. "
            "Without boxes, a detector looks for people.",
        ),
        _parameter(
            "name",
            {"type": "string", "maxLength": MAX_NAME_LENGTH},
            "What the document says in 'image'; printable. Goes with format=json.",
        ),
        _parameter(
            "image_id",
            {"type": "integer", "minimum": 0, "maximum": MAX_IMAGE_ID},
            "What COCO results say in 'image_id'. Goes with format=coco.",
        ),
    ]
    content = {
        "application/json": {"schema": {"anyOf": [_ref("Document"), _ref("CocoResults"), _ref("OpenPose")]}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }
    return {
        "operationId": "poses",
        "summary": "The poses in a picture",
        "security": [{}, {"key": []}],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"image/*": picture, "application/octet-stream": picture}},
        "responses": {
            "200": {"description": "The people found.", "content": content},
            **_problems((400, 401, 408, 413, 415, 421, 422, 500, 503)),
        },
    }


def _several_pictures(settings: ServerSettings) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary", "maxLength": settings.max_batch_body_bytes}
    return {
        "operationId": "posesBatch",
        "summary": "The poses in several pictures",
        "description": f"The body holds up to {settings.max_batch_images} pictures, each as 4 bytes of length, most "
        "significant first, and then so many bytes. A picture that cannot be answered has its error among the results.",
        "security": [{}, {"key": []}],
        "parameters": _parameters(FORMATS[:-1]),
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": schema}}},
        "responses": {
            "200": _json("One result a picture, in order.", _ref("Results")),
            **_problems((400, 401, 408, 413, 415, 421, 500, 503)),
        },
    }


def _parameters(formats: Sequence[str]) -> list[dict[str, Any]]:
    flag = {"type": "boolean"}
    return [
        _parameter("format", {"type": "string", "enum": list(formats)}, "Of the answer; json where it is left out."),
        _parameter("uncertainty", flag, "With each keypoint's covariance. Goes with format=json."),
        _parameter("whole_image", flag, "One person fills the picture. Not with boxes."),
        _parameter("flip_test", flag, "Average with the mirrored picture: slower, a little better."),
    ]


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _get(
    name: str, summary: str, schema: dict[str, Any], problems: Sequence[int], *, key: bool = True
) -> dict[str, Any]:
    responses = {"200": _json(f"{summary}.", schema), **_problems((*problems, 421))}
    security: dict[str, Any] = {"security": [{}, {"key": []}]} if key else {}
    return {"operationId": name, "summary": summary, **security, "responses": responses}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    return _json(description, _ref("Error"))


def _problems(statuses: Sequence[int]) -> dict[str, Any]:
    responses = {str(status): _problem(_MEANINGS[status]) for status in statuses}
    if 503 in statuses:
        responses["503"]["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    if 401 in statuses:
        responses["401"]["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return responses


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(items: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    bounds = {} if count is None else {"minItems": count, "maxItems": count}
    return {"type": "array", "items": items, **bounds}


def _schemas() -> dict[str, Any]:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    person = _object(
        {
            "box": _list(_NUMBER, 4),
            "box_score": _NUMBER,
            "score": _NUMBER,
            "keypoints": _list(_list(_NUMBER, 3)),
        },
        {"covariances": _list(_list(_NUMBER, 3))},
    )
    coco = _object(
        {
            "image_id": whole,
            "category_id": whole,
            "keypoints": _list(_NUMBER),
            "score": _NUMBER,
            "bbox": _list(_NUMBER, 4),
        }
    )
    skeleton = _object(
        {
            "name": text,
            "keypoint_names": _list(text),
            "edges": _list(_object({"start": whole, "end": whole, "color": _list(whole, 3)})),
            "parts": {"type": "object", "additionalProperties": _list(whole)},
            "keypoint_colors": _list(_list(whole, 3)),
        }
    )
    model = _object(
        {
            "name": text,
            "description": text,
            "licence": text,
            "input_size": _list(whole, 2),
            "detector": {"type": ["string", "null"]},
            "skeleton": skeleton,
        }
    )
    document = _object(
        {
            "image": text,
            "height": whole,
            "width": whole,
            "skeleton": text,
            "model": text,
            "people": _list(person),
        }
    )
    codes = [code for codes in CODES.values() for code in codes]
    result = {"anyOf": [_ref("Document"), _ref("CocoResults"), _ref("OpenPose"), _ref("Error")]}
    return {
        "Document": document,
        "CocoResults": _list(coco),
        "OpenPose": _object({"version": _NUMBER, "people": _list({"type": "object"})}),
        "Results": _object({"results": _list(result)}),
        "Models": _object({"models": _list(model), "limits": {"type": "object", "additionalProperties": whole}}),
        "Status": _object({"status": text}),
        "Error": _object({"error": _object({"code": {"type": "string", "enum": codes}, "message": text})}),
    }
