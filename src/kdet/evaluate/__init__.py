"""Detectors → detections in original pixels → COCO metrics."""

from kdet.evaluate.bootstrap import NUM_DRAWS, draws, percentile_interval, resampled_ap
from kdet.evaluate.coco_ap import coco_metrics
from kdet.evaluate.difference import SHOWN_SCORE, difference
from kdet.evaluate.errors import ErrorType, error_types
from kdet.evaluate.intervals import LEVEL, holm, paired_t_interval, paired_t_p, smallest_shown
from kdet.evaluate.matching import ClassMatches, match
from kdet.evaluate.metrics import Curves, Metrics
from kdet.evaluate.predictions import ImagePredictions, read_predictions, write_predictions
from kdet.evaluate.run import Evaluation, evaluate, predict_loader
from kdet.evaluate.thresholds import Threshold, best_thresholds
from kdet.evaluate.voc_ap import VOC_NAMES, voc_ap, with_voc_ap

__all__ = [
    "LEVEL",
    "NUM_DRAWS",
    "SHOWN_SCORE",
    "VOC_NAMES",
    "ClassMatches",
    "Curves",
    "ErrorType",
    "Evaluation",
    "ImagePredictions",
    "Metrics",
    "Threshold",
    "best_thresholds",
    "coco_metrics",
    "difference",
    "draws",
    "error_types",
    "evaluate",
    "holm",
    "match",
    "paired_t_interval",
    "paired_t_p",
    "percentile_interval",
    "predict_loader",
    "read_predictions",
    "resampled_ap",
    "smallest_shown",
    "voc_ap",
    "with_voc_ap",
    "write_predictions",
]
