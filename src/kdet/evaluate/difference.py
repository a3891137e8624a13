"""How much two sets of detections of one image differ.

Legend: M detections of the one, L of the other.
"""

import torch
from torchvision.ops import box_iou

from kdet.evaluate.predictions import ImagePredictions

SHOWN_SCORE = 0.3
"""Detections below it are not drawn, so they do not count here."""
_MATCH_IOU = 0.5


def difference(one: ImagePredictions, other: ImagePredictions) -> float:
    """Sum the scores of what only one found, and the differences of score where both found the same; 0 where equal.

    Found the same: one class, IoU of at least 0.5. The better scores of the one choose first.
    """
    ours, theirs = one.scores >= SHOWN_SCORE, other.scores >= SHOWN_SCORE
    scores, other_scores = one.scores[ours], other.scores[theirs]
    iou_ML = box_iou(torch.from_numpy(one.boxes_xyxy[ours]), torch.from_numpy(other.boxes_xyxy[theirs])).numpy()
    iou_ML = iou_ML * (one.labels[ours][:, None] == other.labels[theirs][None, :])
    total, free = 0.0, set(range(len(other_scores)))
    for i in (-scores).argsort(kind="stable").tolist():
        best = max(free, key=lambda j: iou_ML[i, j], default=None)
        if best is None or iou_ML[i, best] < _MATCH_IOU:
            total += float(scores[i])
        else:
            free.remove(best)
            total += abs(float(scores[i]) - float(other_scores[best]))
    return total + sum(float(other_scores[j]) for j in free)
