"""Which detections of an image hit which objects, by COCO's rule; kept by image, so that images can be drawn anew.

The libraries that compute AP do not hand this out, or not with their required part.
Shapes: N images, D detections of one class, T IoU thresholds, M objects of one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdet.data import DetectionIndex
from kdet.evaluate.coco_ap import MAX_DETECTIONS
from kdet.evaluate.coco_tables import check_predictions
from kdet.evaluate.predictions import ImagePredictions
from kdet.ops.classes import real_classes

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMatches:
    """All detections of one class in all images, best score first."""

    image: Ints
    """D, row of the image in the ground truth."""
    scores: Floats
    """D."""
    hit: Flags
    """T×D."""
    ignored: Flags
    """T×D; inside a crowd region, neither hit nor miss."""
    objects: Ints
    """N, objects of the class in each image, crowd regions left out."""


def match(ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> list[ClassMatches]:
    """Return one entry for each class of the data.

    Raises:
        InputError: as in `coco_metrics`.
        WorkError: as in `coco_metrics`.
    """
    check_predictions(ground_truth, predictions)
    by_id = {image.image_id: image for image in predictions}
    rows = np.argsort(ground_truth.image_ids)  # COCO breaks ties between scores by the order of ids
    images = [(int(row), by_id.get(int(ground_truth.image_ids[row]))) for row in rows]
    return [_match_class(ground_truth, images, label) for label in real_classes(ground_truth.classes).values()]


def _match_class(
    index: DetectionIndex, images: Sequence[tuple[int, ImagePredictions | None]], label: int
) -> ClassMatches:
    objects = np.zeros(len(index), np.int64)
    scores, rows, hits, ignored = [np.zeros(0)], [np.zeros(0, np.int64)], [_no_flags()], [_no_flags()]
    for row, found in images:
        truth = index.objects(row)
        own = truth.labels == label
        objects[row] = np.count_nonzero(own & ~truth.crowd)
        chosen = np.zeros(0, np.int64) if found is None else _best_first(found, label)
        if found is None or not chosen.size:
            continue
        iou = overlaps(found.boxes_xyxy[chosen], truth.boxes_xyxy[own], truth.crowd[own])
        hit, passed_over = _match_image(iou, truth.crowd[own])
        scores.append(found.scores[chosen].astype(np.float64))
        rows.append(np.full(chosen.size, row))
        hits.append(hit)
        ignored.append(passed_over)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return ClassMatches(
        image=np.concatenate(rows)[order],
        scores=all_scores[order],
        hit=np.concatenate(hits, axis=1)[:, order],
        ignored=np.concatenate(ignored, axis=1)[:, order],
        objects=objects,
    )


def _best_first(found: ImagePredictions, label: int) -> Ints:
    own = np.flatnonzero(found.labels == label)
    return own[np.argsort(-found.scores[own], kind="stable")][:MAX_DETECTIONS]


def _match_image(iou: Floats, crowd: Flags) -> tuple[Flags, Flags]:
    """Each detection takes the free object that it overlaps most; D×M overlaps → T×D hit, T×D ignored."""
    hit, ignored = _no_flags(len(iou)), _no_flags(len(iou))
    free = np.tile(~crowd, (len(IOU_THRESHOLDS), 1))
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    for d in np.flatnonzero((iou >= thresholds[0]).any(axis=1)) if crowd.size else ():
        reached = iou[d] >= thresholds[:, None]
        overlap = np.where(reached & free, iou[d], -1.0)
        best = crowd.size - 1 - overlap[:, ::-1].argmax(axis=1)  # of equal ones COCO takes the last
        hit[:, d] = overlap.max(axis=1) > 0
        free[hit[:, d], best[hit[:, d]]] = False
        ignored[:, d] = ~hit[:, d] & (reached & crowd).any(axis=1)
    return hit, ignored


def overlaps(found: NDArray[np.float32], truth: NDArray[np.float32], crowd: Flags) -> Floats:
    """D×M IoU; against a crowd region the share of the detection that lies in it."""
    first, second = found.astype(np.float64)[:, None], truth.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    inside = sides.clip(min=0).prod(axis=-1)
    area, area_of_truth = (np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (first, second))
    union = np.where(crowd, area, area + area_of_truth - inside)
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def _no_flags(count: int = 0) -> Flags:
    return np.zeros((len(IOU_THRESHOLDS), count), bool)
