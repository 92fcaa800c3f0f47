"""Validation inside a run: AP in the labelled boxes, and a few people as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wholepose.data.annotations import AnnotationSet, without_missing_images
from wholepose.data.augment import NO_AUGMENTATION
from wholepose.data.dataset import PoseDataset, Source
from wholepose.data.sampler import BatchSampler
from wholepose.draw import draw_poses
from wholepose.evaluation.checks import areas_from_boxes, check_annotations, check_labelled_boxes
from wholepose.evaluation.results import Results, rescore, suppress
from wholepose.evaluation.scoring import score
from wholepose.evaluation.selection import PARTS
from wholepose.geometry import invert_affine, transform_points
from wholepose.models.decode import decode, merge_flipped, normalize
from wholepose.models.posenet import STRIDE, PoseNet
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton
from wholepose.training import processes as group
from wholepose.training.config import TrainConfig
from wholepose.training.loading import TensorBatch, batches, make_loader

PICTURES = 4
PICTURE_HEIGHT_PX = 256
DRAWN_SCORE = 0.2
"""Predicted keypoints above this are drawn."""

_LARGEST_BATCH = 64
_BATCHES_WORTH_A_PROCESS = 8


@dataclass(frozen=True, eq=False)
class Validation:
    """What a validation found.

    Attributes:
        metrics: ``AP``, ``AP50``, ``AP75`` and ``AR`` of whole people, ``AP_body``, ``AP_feet``, ``AP_face``,
            ``AP_left_hand`` and ``AP_right_hand``, in [0, 1]; None where nobody is labelled.
        pictures: A few people, (H, W, 3) uint8 RGB each: on the left the labels, on the right what was predicted.
        failures: Photos that could not be read, one message each; their people count as not found.
    """

    metrics: Mapping[str, float | None]
    pictures: tuple[NDArray[np.uint8], ...]
    failures: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Found:
    """What one process predicted: (N,) rows of the people, (N, K, 2) photo pixels, (N, K) raw scores, pictures."""

    people: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    pictures: tuple[NDArray[np.uint8], ...]


def judgeable(annotations: AnnotationSet) -> AnnotationSet:
    """Gets a set ready to validate on: without missing photos, areas that are missing estimated from the boxes.

    Raises:
        AnnotationError: More than 1 % of the photos are missing, or nobody could be scored; the message says why.
    """
    ready = areas_from_boxes(without_missing_images(annotations))
    everything = np.ones(annotations.skeleton.num_keypoints, dtype=np.bool_)
    check_annotations(ready, everything)
    check_labelled_boxes(ready, everything)
    return ready


def validate(
    model: PoseNet,
    annotations: AnnotationSet,
    config: TrainConfig,
    *,
    rank: int = 0,
    processes: int = 1,
    device: torch.device | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Predicts the people of a set in their labelled boxes, and scores them.

    People are dealt out to the processes, each to one. Nothing of the run is changed: no random state, no weights.

    Args:
        model: In evaluation mode, on the device.
        annotations: From :func:`judgeable`.
        config: ``protocol``, ``flip_test``, ``model`` and ``data.workers`` count.
        rank: Which process this is.
        processes: How many there are.
        device: Where the model is; the CPU when None.
        stopped: Asked now and then; True ends it early.

    Returns:
        On process 0 the result; elsewhere, and where any process was stopped, None.

    Raises:
        TrainingError: A loader process died.
    """
    device = torch.device("cpu") if device is None else device
    dataset = PoseDataset([annotations], config.model.input_size, augment=NO_AUGMENTATION, protocol=config.protocol)
    batch_size = max(1, min(_LARGEST_BATCH, config.batch_size // processes // config.accumulate))
    sampler = BatchSampler(len(dataset), batch_size, rank=rank, processes=processes, shuffle=False, drop_last=False)
    workers = min(config.data.workers, len(sampler) // _BATCHES_WORTH_A_PROCESS)
    loader = make_loader(dataset, sampler, workers=workers, pin_memory=device.type == "cuda")
    predict = _Predictor(model, config, annotations.skeleton, device)
    shown = set(np.linspace(0, len(dataset) - 1, PICTURES).astype(np.int64).tolist()) if rank == 0 else set()
    found: list[_Found] = []
    failures: list[str] = []
    stop = False
    for batch in batches(loader, failures):
        found.append(predict(batch, shown))
        stop = stopped()
        if stop:
            break
    everybody = group.gather((found, failures, stop))
    if rank != 0 or any(stop for *_, stop in everybody):
        return None
    used = dataset.sources[0]
    assert isinstance(used, Source)
    everything = [each for found, *_ in everybody for each in found]
    unread = tuple(dict.fromkeys(message for _, failures, _ in everybody for message in failures))
    return _score(everything, unread, used.annotations, annotations, config)


class _Predictor:
    """From a batch of crops to keypoints in the photos."""

    def __init__(self, model: PoseNet, config: TrainConfig, skeleton: Skeleton, device: torch.device) -> None:
        self.model, self.config, self.skeleton, self.device = model, config, skeleton, device
        self.flip_indices = torch.from_numpy(np.array(skeleton.flip_indices)).to(device)

    @torch.inference_mode()
    def __call__(self, batch: TensorBatch, shown: set[int]) -> _Found:
        """Predicts, and draws those of the people who are to be shown."""
        pixels = normalize(batch.crops.to(self.device))
        heatmaps = self.model(pixels).float()
        if self.config.flip_test:
            mirrored = self.model(pixels.flip(-1)).float()
            heatmaps = merge_flipped(heatmaps, mirrored, self.flip_indices)
        decoded = decode(heatmaps, kernel=self.config.model.decode_kernel, protocol=self.config.protocol)
        places = decoded.coordinates.cpu().numpy().astype(np.float64) * STRIDE
        scores = decoded.scores.cpu().numpy().astype(np.float64)
        people = batch.people.numpy()
        pictures = [
            _picture(
                batch.crops[i].numpy(),
                batch.keypoints[i].numpy(),
                batch.weights[i].numpy(),
                places[i],
                scores[i],
                self.skeleton,
            )
            for i in range(len(people))
            if int(people[i]) in shown
        ]
        return _Found(people, transform_points(places, invert_affine(batch.matrices.numpy())), scores, tuple(pictures))


def _score(
    found: list[_Found],
    failures: tuple[str, ...],
    chosen: AnnotationSet,
    annotations: AnnotationSet,
    config: TrainConfig,
) -> Validation:
    count = annotations.skeleton.num_keypoints
    people = np.concatenate([np.zeros(0, dtype=np.int64), *(each.people for each in found)])
    scores = np.concatenate([np.zeros((0, count)), *(each.scores for each in found)])
    if config.protocol == "default":
        scores = np.clip(scores, 0, 1)
    columns = np.flatnonzero(annotations.scored)
    results = Results(
        skeleton=annotations.skeleton,
        provided=np.ones(count, dtype=np.bool_),
        image_ids=chosen.person_image_ids[people],
        keypoints=np.concatenate([np.zeros((0, count, 2)), *(each.keypoints for each in found)]),
        keypoint_scores=scores,
        scores=rescore(scores[:, columns], np.ones(len(people))),
        boxes=chosen.boxes[people],
    )
    height, width = config.model.input_size
    ranked = suppress(results, columns, aspect=width / height)
    parts = score(annotations, ranked, replicates=0).parts
    metrics = {name: parts["whole"].statistics[name] for name in ("AP", "AP50", "AP75", "AR")}
    metrics |= {f"AP_{part}": parts[part].statistics["AP"] for part in PARTS[1:]}
    return Validation(metrics, tuple(picture for each in found for picture in each.pictures), failures)


def _picture(
    crop: NDArray[np.uint8],
    labels: NDArray[np.float32],
    weights: NDArray[np.float32],
    places: NDArray[np.float64],
    scores: NDArray[np.float64],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    """A crop twice, side by side, with the labelled and with the predicted keypoints."""
    factor = max(1, round(PICTURE_HEIGHT_PX / crop.shape[0]))
    large = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    height, width = large.shape[:2]
    halves = []
    for keypoints, shown in ((labels, weights > 0), (places, scores > DRAWN_SCORE)):
        person = Poses(
            keypoints=((keypoints + 0.5) * factor - 0.5)[None].astype(np.float32),
            scores=shown[None].astype(np.float32),
            boxes=np.array([[0, 0, width, height]], dtype=np.float32),
            box_scores=np.ones(1, dtype=np.float32),
            skeleton=skeleton,
        )
        halves.append(draw_poses(np.asarray(large, dtype=np.uint8), person))
    return np.concatenate(halves, axis=1)
