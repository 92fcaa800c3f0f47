"""The PyTorch runtime: runs ``.safetensors`` models on the CPU, an NVIDIA GPU or an Apple GPU.

PyTorch, and the networks of ``wholepose.models``, are imported inside functions, so that the base install never loads
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wholepose.errors import ConfigError, require
from wholepose.geometry import Protocol
from wholepose.runtimes.base import (
    CropPredictions,
    Device,
    Precision,
    check_crops,
    check_predictions,
    predict_in_halves,
)
from wholepose.runtimes.torch_crops import crop_on_device, upload
from wholepose.runtimes.torch_graphs import LARGEST_BATCH, GraphedFunction
from wholepose.skeletons import get_skeleton
from wholepose.weights.card import ModelCard

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from wholepose.models.posenet import PoseNet


class TorchRuntime:
    """A model in PyTorch. Several threads may share one.

    Crops travel to the device once, as bytes; they are normalised, run, flipped and decoded there, and the keypoints
    come back in one copy. For an estimator a GPU also cuts the crops (``predict_in_images``), so that what travels is
    the image. On an NVIDIA GPU the work of a batch is one CUDA graph. Batch norms are folded into the convolutions. In
    half precision (``"bf16"``, ``"fp16"``) the backbone runs in it, the last layer and the decoding in float32. On the
    CPU, denormal numbers count as zero in the threads that predict, since they would make some layers many times
    slower.

    Args:
        path: The ``.safetensors`` file, from ``wholepose convert`` or from training.
        device: ``"auto"`` takes an NVIDIA GPU, else an Apple one, else the CPU.
        precision: Of the arithmetic. ``"fp32"`` is full float32 on every device, without TF32.
        threads: CPU threads of the whole process; PyTorch's own choice when None.

    Raises:
        ConfigError: PyTorch is not installed, or the device is not to be had here.
        WeightsError: The file is missing, damaged or not a wholepose model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        require("torch", "train")
        require("safetensors", "train")
        from wholepose.models.checkpoints import load_model

        model, card = load_model(path)
        self._set_up(model, card, device, precision, threads)

    @classmethod
    def from_model(
        cls,
        model: PoseNet,
        card: ModelCard,
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> TorchRuntime:
        """Runs a model that is already in memory, such as one in training; a copy of its weights is taken.

        Args:
            model: Stays as it is.
            card: Describes the model.
            device: As above.
            precision: As above.
            threads: As above.

        Raises:
            ConfigError: The device is not to be had here.
            WeightsError: The card does not describe a network of this package.
        """
        from wholepose.models.checkpoints import check_card

        check_card(card, card.name)
        runtime = cls.__new__(cls)
        runtime._set_up(model, card, device, precision, threads)
        return runtime

    def _set_up(
        self, model: PoseNet, card: ModelCard, device: Device, precision: Precision, threads: int | None
    ) -> None:
        import torch

        from wholepose.models.folding import fold_batch_norms

        self._card = card
        self._device = _choose_device(device)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._protocol: Protocol = "mmpose0" if card.protocol == "mmpose0" else "default"
        self._model = fold_batch_norms(model).to(self._device)
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its annotations lack it
        self._model.backbone.to(self._dtype)
        self._flip_indices = torch.from_numpy(get_skeleton(card.skeleton).flip_indices.copy()).to(self._device)
        self._graphs = {
            flip_test: GraphedFunction(partial(self._answer, flip_test=flip_test)) for flip_test in (False, True)
        }
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def crops_on_device(self) -> bool:
        """Whether ``predict_in_images`` is the faster way: on a GPU it is, on a CPU OpenCV cuts faster."""
        return self._device.type != "cpu"

    @property
    def card(self) -> ModelCard:
        """What the weights are."""
        return self._card

    @property
    def name(self) -> str:
        """Engine and device, such as ``"torch-cuda"``."""
        return f"torch-{self._device.type}"

    def predict(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropPredictions:
        """Finds the keypoints of each crop; see ``Runtime.predict``.

        Where the device's memory does not hold the batch, it is halved until it does.

        Args:
            crops: (B, H, W, 3) uint8 RGB of the card's input size; B may be 0.
            flip_test: Average with the prediction on the mirrored crops.

        Returns:
            B x K keypoints in crop pixels.

        Raises:
            ValueError: The crops have another shape or dtype.
            ConfigError: Not even one crop fits into the device's memory.
            WeightsError: The model answers with numbers that are not finite.
        """
        check_crops(crops, self._card)
        if len(crops) == 0:
            return CropPredictions.empty(self._model.num_keypoints)

        def predict(part: NDArray[np.uint8]) -> CropPredictions:
            return self._predict(upload(part, self._device), flip_test)

        return check_predictions(self._in_halves(predict, crops), self._card)

    def predict_in_images(
        self,
        images: Sequence[NDArray[np.uint8]],
        owners: NDArray[np.int64],
        matrices: NDArray[np.float64],
        *,
        batch_size: int,
        flip_test: bool = False,
    ) -> CropPredictions:
        """Finds the keypoints of people in images; the crops are cut on the device, to which each image goes once.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any sizes.
            owners: (N,) in which image each person is; rising.
            matrices: (N, 2, 3) maps from the image's pixels to crop pixels.
            batch_size: Most crops at once.
            flip_test: As in ``predict``.

        Returns:
            N x K keypoints in crop pixels.

        Raises:
            ConfigError: Not even one crop, or not its image, fits into the device's memory.
            WeightsError: The model answers with numbers that are not finite.
        """
        on_device: dict[int, Tensor] = {}
        size = self._card.input_size

        def predict(people: NDArray[np.int64]) -> CropPredictions:
            import torch

            here = owners[people]
            for index in [index for index in on_device if index < here[0]]:
                del on_device[index]  # no one else is in it
            crops = []
            for index in np.unique(here).tolist():
                if index not in on_device:
                    on_device[index] = upload(images[index], self._device)
                crops.append(crop_on_device(on_device[index], matrices[people[here == index]], size))
            return self._predict(torch.cat(crops), flip_test)

        parts = [CropPredictions.empty(self._model.num_keypoints)]
        for start in range(0, len(owners), batch_size):
            people = np.arange(start, min(start + batch_size, len(owners)))
            parts.append(self._in_halves(predict, people))
        return check_predictions(CropPredictions.concatenate(parts), self._card)

    def _in_halves(self, predict: Callable[[Any], CropPredictions], batch: NDArray[Any]) -> CropPredictions:
        """Runs a batch, and where the device's memory does not hold it, less at a time."""
        try:
            return predict_in_halves(predict, batch, _is_out_of_memory)
        except Exception as error:
            if _is_out_of_memory(error):
                raise ConfigError(
                    f"{self._card.name}: not even one crop fits into the memory of {self.name}; free some of it, or "
                    "choose device 'cpu'"
                ) from error
            raise

    def _predict(self, batch: Tensor, flip_test: bool) -> CropPredictions:
        """Predicts (B, H, W, 3) uint8 crops that are on the device, and copies the answer from there."""
        import torch

        # TF32 keeps 10 bits of a product, which moves keypoints by more than rounding does.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        on_cuda = self._device.type == "cuda"
        with torch.inference_mode(), exact if on_cuda else _flushed_denormals():
            if on_cuda and len(batch) <= LARGEST_BATCH:
                answer = self._graphs[flip_test](batch).numpy()
            else:
                answer = self._answer(batch, flip_test=flip_test).cpu().numpy()
        people, keypoints = answer.shape[:2]
        return CropPredictions(
            np.ascontiguousarray(answer[..., :2]),
            np.ascontiguousarray(answer[..., 2]),
            np.ascontiguousarray(answer[..., 3:]).reshape(people, keypoints, 2, 2),
        )

    def _answer(self, batch: Tensor, *, flip_test: bool) -> Tensor:
        """(B, H, W, 3) uint8 crops to (B, K, 7) float32 of x, y, score and covariance, all on the device."""
        import torch

        from wholepose.models.decode import decode, merge_flipped

        heatmaps = self._heatmaps(batch)
        if flip_test:
            heatmaps = merge_flipped(heatmaps, self._heatmaps(batch.flip(2)), self._flip_indices)
        decoded = decode(heatmaps, kernel=self._card.decode_kernel, protocol=self._protocol)
        # A map with a NaN or an infinity is decoded as if it had none; let it be seen.
        sound = torch.isfinite(heatmaps.sum(dim=(2, 3)))
        scores = torch.where(sound, decoded.scores, torch.nan)
        stride = self._card.stride
        columns = [decoded.coordinates * stride, scores[..., None], decoded.covariances.flatten(2) * stride**2]
        return torch.cat(columns, dim=2)

    def _heatmaps(self, batch: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 crops on the device to (B, K, h, w) float32 heatmaps."""
        from wholepose.models.decode import normalize

        features = self._model.backbone(normalize(batch).to(self._dtype))
        heatmaps: Tensor = self._model.head(features.float())
        return heatmaps


@contextlib.contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Numbers too small to matter count as 0 meanwhile: with some weights the CPU is else many times slower."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # the caller's own arithmetic keeps them


def _choose_device(device: Device) -> torch.device:
    """The PyTorch device of a name; raises ConfigError where it is not to be had."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': this PyTorch finds no NVIDIA GPU; choose device 'cpu', or install its driver")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps': this PyTorch finds no Apple GPU; choose device 'cpu'")
    return torch.device(device)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
