"""RT-DETR through Hugging Face's ``transformers`` (extra ``transformers``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wholepose.detectors.base import Detections, check_images, make_detections
from wholepose.errors import ConfigError, WeightsError, require

RTDETR_DEFAULT = "PekingU/rtdetr_r18vd_coco_o365"
"""Smallest published RT-DETR, Apache-2.0, COCO after Objects365."""

INPUT_SIDE = 640
"""Pictures are stretched to this square, as in training."""

_FAMILIES = ("rt_detr", "d_fine")
_PERSON = "person"


class RtdetrDetector:
    """RT-DETR, RT-DETRv2 or D-FINE with COCO's classes.

    Only safetensors weights are read and no code of a repository is run.

    Args:
        source: A folder, or a name on the Hugging Face hub, which is then downloaded into that library's own cache.
        threshold: Lowest score that counts.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        offline: Download nothing: a name must be in that library's cache.

    Raises:
        ConfigError: The extra is not installed, the device is missing, or the model is of another family.
        WeightsError: The folder or download is missing or damaged.
    """

    def __init__(
        self,
        source: str | Path = RTDETR_DEFAULT,
        *,
        threshold: float = 0.5,
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        transformers = require("transformers", "transformers")
        torch = require("torch", "transformers")
        self.name = str(source)
        self.threshold = threshold
        self._torch = torch
        self.device = _choose_device(torch, device)
        try:
            config = transformers.AutoConfig.from_pretrained(
                str(source), trust_remote_code=False, local_files_only=offline
            )
            if not str(config.model_type).startswith(_FAMILIES):
                raise ConfigError(
                    f"{source}: is a {config.model_type!r} model; RT-DETR, RT-DETRv2 or D-FINE is needed, "
                    f"such as {RTDETR_DEFAULT}"
                )
            people = [int(label) for label, name in config.id2label.items() if str(name).lower() == _PERSON]
            if not people:
                raise ConfigError(f"{source}: none of its {len(config.id2label)} classes is called {_PERSON!r}")
            model: Any = transformers.AutoModelForObjectDetection.from_pretrained(
                str(source), config=config, use_safetensors=True, trust_remote_code=False, local_files_only=offline
            )
        except ConfigError:
            raise
        except Exception as error:  # the library lets whatever its own dependencies raise through
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise WeightsError(
                f"{source}: transformers cannot load this model ({reason}); give a folder with config.json and "
                "model.safetensors, or a hub name while online"
            ) from error
        self._person = people[0]
        self._model = model.to(self.device).eval()

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds the people of several images, one after the other.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One entry an image, in the same order.

        Raises:
            ValueError: An image has another shape or dtype, or no pixels.
        """
        check_images(images)
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> Detections:
        torch = self._torch
        height, width = image.shape[:2]
        # No antialiasing: the published preprocessing resizes like this.
        step = max(1, -(-max(height, width) // 32_000))
        square = cv2.resize(image[::step, ::step], (INPUT_SIDE, INPUT_SIDE), interpolation=cv2.INTER_LINEAR)
        pixels = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))[None].to(self.device).float() / 255
        with torch.inference_mode():
            output = self._model(pixel_values=pixels)
        scores = output.logits[0, :, self._person].float().sigmoid().cpu().numpy()
        centers, sizes = np.split(output.pred_boxes[0].float().cpu().numpy(), 2, axis=1)
        boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1) * [width, height, width, height]
        return make_detections(boxes, scores, (height, width), self.threshold)


def _choose_device(torch: Any, device: str) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((name for name in ("cuda", "mps") if present[name]), "cpu")
    if device not in present:
        raise ConfigError(f"unknown device {device!r}: choose auto, cpu, cuda or mps")
    if not present[device]:
        raise ConfigError(
            f"device {device!r} is not there; choose one of {[name for name in present if present[name]]}"
        )
    return device
