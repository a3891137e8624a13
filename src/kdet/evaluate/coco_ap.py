"""COCO's box metrics; the only file that knows the library which computes them.

Shapes of the library's answer: T IoU thresholds, R recalls, K classes, S areas (all, small, medium, large).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from kdet.data import DetectionIndex
from kdet.errors import InputError, WorkError
from kdet.evaluate.metrics import Curves, Metrics, Values
from kdet.evaluate.predictions import ImagePredictions, coco_results
from kdet.ops.classes import real_classes

Array = NDArray[np.float64]

MAX_DETECTIONS = 100
"""Per image and class, as COCO counts."""
_IOU_50, _IOU_75 = 0, 5
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


def coco_metrics(ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> Metrics:
    """AP, AP50, AP75, AP by size and by class, as COCO defines them.

    An image without predictions counts as one on which nothing was found; crowd regions are neither hit nor miss.
    What the ground truth holds no object for is None.

    Raises:
        InputError: predictions of an unknown image, twice of the same, of an unknown class, or with a negative side.
        WorkError: a box or a score is not finite.
    """
    # Images in the order of their ids: that is how COCO's own code breaks ties between scores.
    numbers = {int(image_id): i + 1 for i, image_id in enumerate(np.sort(ground_truth.image_ids))}
    _check(ground_truth, predictions, numbers)
    names = real_classes(ground_truth.classes)
    if not numbers or not names:
        raise InputError(f"{ground_truth.root}: no images or no classes, so there is nothing to evaluate on")
    images = [{"id": number} for number in numbers.values()]
    categories = [{"id": column + 1, "name": name} for name, column in names.items()]
    truth = _coco(images, categories, _truth_records(ground_truth, numbers))
    found = _coco(images, categories, _found_records(predictions, numbers))
    precision = _precision(truth, found)
    return Metrics(
        overall=_values(precision),
        per_class={name: _values(precision[:, :, k : k + 1]) for k, name in enumerate(names)},
        curves=_curves(precision),
    )


def _check(index: DetectionIndex, predictions: Sequence[ImagePredictions], numbers: dict[int, int]) -> None:
    """The library counts wrongly, or dies without saying where, on what is refused here."""
    seen: set[int] = set()
    for image in predictions:
        where = f"predictions of image {image.image_id}"
        if image.image_id not in numbers:
            raise InputError(f"{where}: the ground truth in {index.root} has no such image")
        if image.image_id in seen:
            raise InputError(f"{where}: given twice")
        seen.add(image.image_id)
        if not np.isfinite(image.boxes_xyxy).all() or not np.isfinite(image.scores).all():
            raise WorkError(f"{where}: a box or a score is not finite; the detector's weights are probably broken")
        if (image.boxes_xyxy[:, 2:] < image.boxes_xyxy[:, :2]).any():
            raise InputError(f"{where}: a box has a negative width or height; expected x1 y1 x2 y2")
        if image.labels.size and not 0 <= image.labels.min() <= image.labels.max() < len(index.classes):
            raise InputError(f"{where}: a label is none of the {len(index.classes)} classes of the data")


def _truth_records(index: DetectionIndex, numbers: dict[int, int]) -> Iterator[dict[str, Any]]:
    for i, image_id in enumerate(index.image_ids):
        own = index.objects(i)
        boxes = own.boxes_xyxy.astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        for corner, side, label, crowd, area in zip(boxes, sides, own.labels, own.crowd, own.areas, strict=True):
            yield {
                "image_id": numbers[int(image_id)],
                "category_id": int(label) + 1,
                "bbox": [*corner[:2].tolist(), *side.tolist()],
                "area": float(area),
                "iscrowd": int(crowd),
            }


def _found_records(predictions: Sequence[ImagePredictions], numbers: dict[int, int]) -> Iterator[dict[str, Any]]:
    for image in sorted(predictions, key=lambda image: image.image_id):
        for result in coco_results(image):
            width, height = result["bbox"][2:]
            yield {**result, "image_id": numbers[image.image_id], "area": width * height, "iscrowd": 0}


def _coco(images: list[dict[str, Any]], categories: list[dict[str, Any]], records: Iterator[dict[str, Any]]) -> COCO:
    """The library's table of boxes; ids start at 1 because 0 means "unmatched" inside it."""
    annotations = [{**record, "id": i} for i, record in enumerate(records, start=1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    return COCO(content, print_function=_silent)


def _precision(truth: COCO, found: COCO) -> Array:
    """T×R×K×S, -1 where there is no ground truth."""
    evaluation = COCOeval_faster(truth, found, iouType="bbox", print_function=_silent)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[..., 0]


def _values(precision: Array) -> Values:
    return {
        "AP": _mean(precision[..., _ALL]),
        "AP50": _mean(precision[_IOU_50, ..., _ALL]),
        "AP75": _mean(precision[_IOU_75, ..., _ALL]),
        "AP_S": _mean(precision[..., _SMALL]),
        "AP_M": _mean(precision[..., _MEDIUM]),
        "AP_L": _mean(precision[..., _LARGE]),
    }


def _mean(precision: Array) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _curves(precision: Array) -> Curves:
    present = precision[0, 0, :, _ALL] > -1
    own = precision[:, :, present, _ALL]
    thresholds = {"50": own[_IOU_50], "75": own[_IOU_75]}
    return Curves(
        recall=[r / 100 for r in range(101)],
        precision={
            name: values.mean(axis=1).tolist() if present.any() else None for name, values in thresholds.items()
        },
        iou=[t / 100 for t in range(50, 100, 5)],
        ap_per_iou=[_mean(at_threshold) for at_threshold in own],
    )


def _silent(*_: object) -> None:
    """The library reports its progress through a function like print."""
