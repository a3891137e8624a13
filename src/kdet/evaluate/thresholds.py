"""From which score on a detector's boxes are most nearly the objects, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdet.data import DetectionIndex
from kdet.evaluate.matching import ClassMatches, match
from kdet.evaluate.predictions import ImagePredictions
from kdet.ops.classes import real_classes

FEW = 10
"""Objects of a class; fewer say nothing of it alone."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The score from which on a class' boxes are taken for objects."""

    score: float
    f1: float
    """Harmonic mean of precision and recall that it comes to."""
    num_objects: int
    """Number of objects on which it was chosen: the class', or those of all classes where it has few."""


def best_thresholds(truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> Mapping[str, Threshold]:
    """Choose for each class the score with the largest F1 at IoU 0.5; classes with few objects share that of all.

    Args:
        truth: images on which all objects are labelled.
        predictions: what the detector finds there, at all scores.

    Raises:
        InputError: as in `match`.
    """
    matches = dict(zip(real_classes(truth.classes), match(truth, predictions), strict=True))
    of_all = _best(list(matches.values()))
    few = {name: int(own.objects.sum()) < FEW for name, own in matches.items()}
    return {name: of_all if few[name] else _best([own]) for name, own in matches.items()}


def _best(matches: Sequence[ClassMatches]) -> Threshold:
    """Find the best score over the detections of these classes together; where nothing is hit, 1: no box is taken."""
    counted = [~own.ignored[0] for own in matches]
    scores = np.concatenate([own.scores[kept] for own, kept in zip(matches, counted, strict=True)])
    hits = np.concatenate([own.hit[0][kept] for own, kept in zip(matches, counted, strict=True)])
    num_objects = sum(int(own.objects.sum()) for own in matches)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    f1 = 2 * np.cumsum(hits) / (np.arange(1, len(hits) + 1) + num_objects)
    f1 = f1 * (np.append(scores[1:], -1.0) < scores)  # of equal scores all are taken, or none
    if not len(f1) or not f1.max():
        return Threshold(score=1.0, f1=0.0, num_objects=num_objects)
    place = int(f1.argmax())
    return Threshold(score=float(scores[place]), f1=float(f1[place]), num_objects=num_objects)
