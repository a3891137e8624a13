"""Which kinds of error cost how much AP (TIDE); the only file that knows hotcoco, which is optional."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdet.data import DetectionIndex
from kdet.errors import InputError
from kdet.evaluate.coco_tables import coco_tables
from kdet.evaluate.predictions import ImagePredictions

ERROR_TYPES = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""Our words → the library's."""


@dataclass(frozen=True, kw_only=True)
class ErrorType:
    """One kind of error of a model."""

    cost: float
    """AP50 that mending all errors of this kind would gain, 0…1."""
    count: int


def error_types(ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> dict[str, ErrorType]:
    """TIDE: every false positive and every missed object in one of six kinds, at IoU 0.5 (background below 0.1).

    TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020, arXiv 2008.08115.

    Raises:
        InputError: hotcoco is not installed; or as in `coco_metrics`.
        WorkError: as in `coco_metrics`.
    """
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        raise InputError("error types need hotcoco; install it with `pip install 'kdet[report]'`") from None
    tables = coco_tables(ground_truth, predictions)
    evaluation = COCOeval(COCO(tables.of_truth()), COCO(tables.of_found()), "bbox")
    evaluation.evaluate()
    found = evaluation.tide_errors()
    return {
        name: ErrorType(cost=float(found["delta_ap"][theirs]), count=int(found["counts"][theirs]))
        for name, theirs in ERROR_TYPES.items()
    }
