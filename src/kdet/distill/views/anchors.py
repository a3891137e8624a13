"""Whether two models lay the same anchors, settled by their levels before training."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import starmap

import torch

from kdet.distill.pairing import LevelPair, Pairing
from kdet.ops.boxes import centre_and_size, paired_iou
from kdet.types import Anchor, Level

_SAME_OVERLAP = 0.9
"""IoU from which two anchors are one: libraries round their sides to whole pixels."""
_SAME_POINT = 0.05
"""Part of a cell within which two anchors' centres count as one point."""
_SHOWN = 3
"""Anchors in a message."""


def same_in_cell(student: Level, teacher: Level, overlap: float = _SAME_OVERLAP) -> bool:
    """Whether anchor i of a cell is the same in both, by place and size in cells; two that say nothing are."""
    return len(student.anchors) == len(teacher.anchors) and _alike(student.anchors, teacher.anchors, overlap)


def same_centres(student: Level, teacher: Level) -> bool:
    """Whether they stand around the same points of a cell, whatever their sizes."""
    centres = [
        tuple(((x1 + x2) / 2, (y1 + y2) / 2) * 2 for x1, y1, x2, y2 in level.anchors) for level in (student, teacher)
    ]
    return len(centres[0]) == len(centres[1]) and _alike(centres[0], centres[1], _SAME_OVERLAP)


@lru_cache
def _alike(ours: Sequence[Anchor], theirs: Sequence[Anchor], overlap: float) -> bool:
    first, second = (torch.tensor(anchors, dtype=torch.float64).reshape(-1, 4) for anchors in (ours, theirs))
    (centre_s, size_s), (centre_t, size_t) = (centre_and_size(boxes).split(2, 1) for boxes in (first, second))
    points = (size_s == 0).all(1) & (size_t == 0).all(1)
    together = ((centre_s - centre_t).abs() <= _SAME_POINT).all(1)
    return bool(torch.where(points, together, paired_iou(first, second) >= overlap).all())


def other_grids(student: Sequence[Level], teacher: Sequence[Level], pairing: Pairing) -> str | None:
    """Say in what their cells differ; None where all levels of both have the same."""
    pairs = pairing.levels
    if len(student) == len(teacher) == len(pairs) and all(p.exact and p.student == p.teacher for p in pairs):
        return None
    scale = pairs[0].teacher_stride / teacher[pairs[0].teacher].stride
    ours, theirs = ([f"{level.stride * s:g}" for level in side] for side, s in ((student, 1), (teacher, scale)))
    return f"the student has cells of {', '.join(ours)} pixels, the teacher of {', '.join(theirs)}"


def other_anchors(student: Sequence[Level], teacher: Sequence[Level], pairing: Pairing) -> str | None:
    """Say in what their anchors differ, in pixels of the student's input; None where they do not."""
    if differ := other_grids(student, teacher, pairing):
        return differ
    for pair in pairing.levels:
        ours, theirs = student[pair.student], teacher[pair.teacher]
        if not same_in_cell(ours, theirs):
            return f"at stride {pair.stride} the student has {_shown(ours, pair)}, the teacher {_shown(theirs, pair)}"
    return None


def no_common_cells(pairing: Pairing) -> str | None:
    """Return the refusal of a term that compares cells, where no paired level has common ones; else None."""
    if any(pair.exact for pair in pairing.levels):
        return None
    pairs = ", ".join(f"{pair.stride} against {pair.teacher_stride:g}" for pair in pairing.levels)
    return f"needs common cells, and no paired level has them (strides {pairs}); use feature terms for this pair"


def _shown(level: Level, pair: LevelPair) -> str:
    sizes = [((x2 - x1) * pair.stride, (y2 - y1) * pair.stride) for x1, y1, x2, y2 in level.anchors]
    if not any(map(any, sizes)):
        return "a point a cell" if len(sizes) == 1 else f"{len(sizes)} points a cell"
    more = ", …" if len(sizes) > _SHOWN else ""
    return f"{len(sizes)} a cell, of {', '.join(starmap('{:.0f}×{:.0f}'.format, sizes[:_SHOWN]))}{more} pixels"
