"""Pascal VOC's own AP at IoU 0.5, for data in VOC's format; beside COCO's metrics, from which it differs.

Shapes: D detections, M objects of one image.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdet.data import DetectionIndex
from kdet.evaluate.coco_tables import check_predictions
from kdet.evaluate.matching import overlaps
from kdet.evaluate.metrics import Metrics, Values
from kdet.evaluate.predictions import ImagePredictions
from kdet.ops.classes import real_classes

Array = NDArray[Any]

AP50_VOC2007 = "AP50_VOC2007"
"""Mean of the best precision at the eleven recalls 0, 0.1 … 1, as in VOC 2007 to 2009."""
AP50_VOC2010 = "AP50_VOC2010"
"""Area under the best precision over all recalls, as since VOC 2010."""
VOC_NAMES = (AP50_VOC2007, AP50_VOC2010)
_LEAST_IOU = 0.5


def with_voc_ap(metrics: Metrics, ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> Metrics:
    """COCO's metrics, and VOC's own beside them where the ground truth is in VOC's format."""
    if ground_truth.first_pixel is None:
        return metrics
    own = voc_ap(ground_truth, predictions)
    means: dict[str, float | None] = {}
    for name in VOC_NAMES:
        known = [value for values in own.values() if (value := values[name]) is not None]
        means[name] = float(np.mean(known)) if known else None
    per_class = {name: {**values, **own[name]} for name, values in metrics.per_class.items()}
    return replace(metrics, overall={**metrics.overall, **means}, per_class=per_class)


def voc_ap(ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> dict[str, Values]:
    """Return AP at IoU 0.5 of each class by the rules of VOC's development kit; None where the class has no object.

    Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, IJCV 2010. A detection belongs to the object
    of its class that it overlaps most. Of those that overlap it by half or more the one with the highest score is a
    hit and all others are false alarms; COCO instead offers the others the objects that are still free. Detections
    that belong to a difficult object are left out, by their IoU and not by the share that lies in it.

    Deviations: recalls are compared as whole numbers, so that 3 of 10 objects reach a recall of 0.3.

    Raises:
        InputError: as in `coco_metrics`.
        WorkError: as in `coco_metrics`.
    """
    check_predictions(ground_truth, predictions)
    rows = {int(image_id): row for row, image_id in enumerate(ground_truth.image_ids)}
    images = sorted(predictions, key=lambda image: image.image_id)
    labels, scores = (np.concatenate([np.zeros(0), *(getattr(i, key) for i in images)]) for key in ("labels", "scores"))
    parts = [_owners(ground_truth, rows[image.image_id], image) for image in images]
    owner = np.concatenate([np.zeros(0, np.int64), *parts])
    difficult, own_label = ground_truth.crowd, ground_truth.labels
    found: dict[str, Values] = {}
    for name, label in real_classes(ground_truth.classes).items():
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        whose = owner[mine]
        whose = whose[(whose < 0) | ~difficult[whose]]
        hits = np.zeros(len(whose), bool)
        hits[np.unique(whose, return_index=True)[1]] = True
        found[name] = _aps(hits & (whose >= 0), int(np.count_nonzero((own_label == label) & ~difficult)))
    return found


def _owners(index: DetectionIndex, row: int, found: ImagePredictions) -> Array:
    """D: the box of the data set that each detection belongs to, -1 for none."""
    own, first = index.objects(row), int(index.offsets[row])
    if not len(own.labels) or not len(found.labels):
        return np.full(len(found.labels), -1, np.int64)
    nowhere = np.zeros(len(own.labels), bool)
    iou = np.where(found.labels[:, None] == own.labels, overlaps(found.boxes_xyxy, own.boxes_xyxy, nowhere), -1.0)
    return np.where(iou.max(axis=1) >= _LEAST_IOU, first + iou.argmax(axis=1), -1)


def _aps(hits: Array, num_objects: int) -> Values:
    """Both numbers from hits in falling order of their scores."""
    if not num_objects:
        return dict.fromkeys(VOC_NAMES)
    num_hits = np.cumsum(hits)
    precision = num_hits / np.arange(1, len(hits) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # from each detection on; behind the last none
    at_recalls = [best[np.count_nonzero(10 * num_hits < tenth * num_objects)] for tenth in range(11)]
    return {AP50_VOC2007: float(np.mean(at_recalls)), AP50_VOC2010: float(best[:-1][hits].sum() / num_objects)}
