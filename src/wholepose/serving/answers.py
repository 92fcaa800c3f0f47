"""Poses as the body of an answer, in the format that was asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wholepose.draw import draw_poses
from wholepose.formats.openpose import openpose_document
from wholepose.outputs import poses_document, rounded_coco_result, to_json
from wholepose.poses import Poses
from wholepose.serving.queries import Query

_CHUNK_BYTES = 256 << 10
_DRAW_THRESHOLD = 0.3  # that of `wholepose predict --draw`


def document(poses: Poses, size: tuple[int, int], query: Query, model: str) -> Any:
    """The JSON answer about a picture, as ``wholepose predict`` writes it.

    Args:
        poses: The people found.
        size: (height, width) of the upright picture in pixels.
        query: Says the format: json, coco or openpose.
        model: Name of the model.
    """
    if query.format == "coco":
        return [rounded_coco_result(result) for result in poses.to_coco(query.image_id)]
    if query.format == "openpose":
        return openpose_document(poses)
    return poses_document(poses, image=query.name, size=size, model=model, uncertainty=query.uncertainty)


def answer(poses: Poses, image: NDArray[np.uint8], query: Query, model: str) -> tuple[bytes, str]:
    """The body of an answer about one picture, and its media type.

    Args:
        poses: The people found.
        image: (H, W, 3) uint8 RGB, the picture.
        query: Says the format.
        model: Name of the model.
    """
    if query.format == "png":
        file = io.BytesIO()
        drawn = draw_poses(image, poses, threshold=_DRAW_THRESHOLD)
        Image.fromarray(drawn).save(file, format="PNG", compress_level=1)  # larger by a third, several times as fast
        return file.getvalue(), "image/png"
    size = (image.shape[0], image.shape[1])
    return to_json(document(poses, size, query, model)).encode("ascii"), "application/json"


class PiecewiseResponse(Response):
    """An answer sent in pieces, so that one that its client does not read counts as being worked on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Sends it; waits between pieces until the client has taken what is on the way."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _CHUNK_BYTES):
            piece = bytes(self.body[start : start + _CHUNK_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
