"""Detectors → detections in original pixels → COCO metrics."""

from kdet.evaluate.coco_ap import coco_metrics
from kdet.evaluate.metrics import Curves, Metrics
from kdet.evaluate.predictions import ImagePredictions, read_predictions, write_predictions
from kdet.evaluate.run import Evaluation, evaluate, predict_loader

__all__ = [
    "Curves",
    "Evaluation",
    "ImagePredictions",
    "Metrics",
    "coco_metrics",
    "evaluate",
    "predict_loader",
    "read_predictions",
    "write_predictions",
]
