"""COCO's box metrics; the only file that knows the library which computes them.

Shapes of the library's answer: T IoU thresholds, R recalls, K classes, S areas (all, small, medium, large).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from kdet.data import DetectionIndex
from kdet.evaluate.coco_tables import coco_tables
from kdet.evaluate.metrics import Curves, Metrics, Values
from kdet.evaluate.predictions import ImagePredictions

Array = NDArray[np.float64]

MAX_DETECTIONS = 100
"""Largest number of detections for an image and class, as COCO counts."""
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
    tables = coco_tables(ground_truth, predictions)
    truth, found = _coco(tables.of_truth()), _coco(tables.of_found())
    names = [category["name"] for category in tables.categories]
    precision = _precision(truth, found)
    return Metrics(
        overall=_values(precision),
        per_class={name: _values(precision[:, :, k : k + 1]) for k, name in enumerate(names)},
        curves=_curves(precision, names),
    )


def _coco(content: dict[str, Any]) -> COCO:
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


def _curves(precision: Array, names: Sequence[str]) -> Curves:
    present = precision[0, 0, :, _ALL] > -1
    own = precision[:, :, present, _ALL]
    drawn = {"50": own[_IOU_50], "75": own[_IOU_75], "all": own.mean(axis=0)}
    with_objects = [name for name, known in zip(names, present, strict=True) if known]
    return Curves(
        recall=[r / 100 for r in range(101)],
        precision={name: values.mean(axis=1).tolist() if present.any() else None for name, values in drawn.items()},
        iou=[t / 100 for t in range(50, 100, 5)],
        ap_per_iou=[_mean(at_threshold) for at_threshold in own],
        per_class={
            class_name: {name: values[:, k].tolist() for name, values in drawn.items()}
            for k, class_name in enumerate(with_objects)
        },
    )


def _silent(*_: object) -> None:
    """The library reports its progress through a function like print."""
