"""A teacher's confident boxes as the targets of images that nobody has labelled."""

from dataclasses import replace

import torch

from kdet.distill.lesson import Taught
from kdet.types import Batch, Detections, Target

_LEAST_SIDE_PX = 1.0
"""As for labelled objects."""


def with_pseudo_boxes(batch: Batch, lesson: Taught, score: float) -> Batch:
    """The batch with the teacher's boxes of shared classes where there are no labels.

    Args:
        batch: as its teacher is to see it; its labelled images keep their targets.
        lesson: whose teacher finds the objects.
        score: boxes below it are left out.
    """
    rows = list(batch.unlabelled)
    some = replace(batch.only(rows), targets=None, unlabelled=())
    targets = list(batch.targets or [])
    for row, found in zip(rows, lesson.teacher.predict(some), strict=True):
        targets[row] = _target(found, lesson, score)
    return replace(batch, targets=targets, unlabelled=())


def _target(found: Detections, lesson: Taught, score: float) -> Target:
    classes = lesson.pairing.classes
    table = torch.full((len(lesson.teacher.class_names),), -1, dtype=torch.int64, device=found.labels.device)
    table[list(classes.teacher)] = torch.tensor(classes.student, device=table.device)
    labels = table[found.labels]
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    kept = (found.scores >= score) & (labels >= 0) & (sides >= _LEAST_SIDE_PX).all(dim=1)
    return Target(boxes=found.boxes[kept], labels=labels[kept])
