"""Made-up labelled people and detections, as COCO documents and as the package's own types."""

from pathlib import Path

import numpy as np

from wholepose.data.annotations import AnnotationSet
from wholepose.evaluation.results import Results
from wholepose.skeletons import HALPE136, Skeleton


def annotation_set(
    keypoints,
    visibility=None,
    *,
    images=None,
    image_count=None,
    areas=None,
    crowds=None,
    boxes=None,
    skeleton: Skeleton = HALPE136,
    labelled=None,
    files=(),
) -> AnnotationSet:
    """People at keypoints (N, K, 2), each on an image of their own unless told otherwise; image ids count from 1."""
    keypoints = np.asarray(keypoints, dtype=np.float32)
    people, count = keypoints.shape[:2]
    visibility = np.full((people, count), 2.0) if visibility is None else np.asarray(visibility)
    images = np.arange(people) if images is None else np.asarray(images)
    total = image_count or int(images.max(initial=-1)) + 1
    if boxes is None:
        boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return AnnotationSet(
        path=Path("made_up.json"),
        skeleton=skeleton,
        source_skeleton=skeleton,
        category_id=1,
        image_ids=np.arange(total) + 1,
        image_files=tuple(files),
        image_sizes=np.zeros((total, 2), dtype=np.int64),
        person_ids=np.arange(people) + 1,
        image_rows=images,
        boxes=boxes.copy(),
        file_boxes=boxes.copy(),
        keypoints=keypoints,
        visibility=visibility.astype(np.float32),
        areas=np.full(people, 10_000.0) if areas is None else np.asarray(areas, dtype=np.float64),
        crowds=np.zeros(people, dtype=bool) if crowds is None else np.asarray(crowds, dtype=bool),
        counts=(visibility > 0).sum(axis=1),
        labelled=np.ones(count, dtype=bool) if labelled is None else np.asarray(labelled, dtype=bool),
        scored=np.ones(count, dtype=bool) if labelled is None else np.asarray(labelled, dtype=bool),
        repeated_images=0,
        repeated_people=0,
        suspects=np.zeros(people, dtype=bool),
    )


def results_of(
    keypoints, image_ids=None, *, scores=None, keypoint_scores=None, labels=None, skeleton=HALPE136
) -> Results:
    """Detections at keypoints (M, K, 2), each on an image of their own unless told otherwise."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    people, count = keypoints.shape[:2]
    return Results(
        skeleton=skeleton,
        provided=np.ones(count, dtype=bool),
        image_ids=np.arange(people) + 1 if image_ids is None else np.asarray(image_ids, dtype=np.int64),
        keypoints=keypoints,
        keypoint_scores=np.ones((people, count)) if keypoint_scores is None else np.asarray(keypoint_scores),
        scores=np.linspace(0.9, 0.5, people) if scores is None else np.asarray(scores, dtype=np.float64),
        labels=None if labels is None else np.asarray(labels, dtype=np.int64),
    )


def random_documents(
    seed: int, count: int, *, images: int = 6, hide: float = 0.4, crowd: float = 0.15, found: float = 0.8
):
    """A COCO document and results with every difficulty: crowds, people without labels, false and repeated detections.

    Detections stay near people's keypoints, so that all thresholds come into play. Scores are distinct.
    """
    random = np.random.default_rng(seed)
    image_ids = random.permutation(np.arange(3, 3 + 5 * images, 5)).tolist()
    people, results = [], []
    for image_id in image_ids:
        for _ in range(random.poisson(2)):
            places = random.uniform(0, 200, 2) + random.normal(0, 30, (count, 2))
            visible = np.where(random.random(count) < hide, 0, random.integers(1, 3, count))
            if random.random() < 0.2:
                visible[:] = 0
            labelled = np.where(visible[:, None] > 0, places, 0).round(2)
            low, high = places.min(axis=0), places.max(axis=0)
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": np.r_[low, high - low].round(2).tolist(),
                    "area": float(random.uniform(400, 20_000)),
                    "iscrowd": int(random.random() < crowd),
                    "num_keypoints": int((visible > 0).sum()),
                    "keypoints": np.c_[labelled, visible].ravel().tolist(),
                }
            )
            for _ in range(random.binomial(2, found)):
                results.append(
                    _result(image_id, places + random.normal(0, random.choice([1, 4, 12]), (count, 2)), random)
                )
        for _ in range(random.poisson(0.5)):
            results.append(_result(image_id, random.uniform(0, 300, (count, 2)), random))
    for order in (people, results):
        random.shuffle(order)
    scores = random.permutation(len(results)) / max(1, len(results)) + 0.001
    for result, score in zip(results, scores.tolist(), strict=True):
        result["score"] = score
    document = {
        "images": [
            {"id": image_id, "file_name": f"{image_id}.jpg", "width": 400, "height": 400} for image_id in image_ids
        ],
        "annotations": people,
        "categories": [{"id": 1, "name": "person"}],
    }
    return document, results


def _result(image_id, places, random):
    triples = np.c_[places.round(3), random.uniform(0, 1, len(places)).round(3)]
    return {"image_id": image_id, "category_id": 1, "keypoints": triples.ravel().tolist()}
