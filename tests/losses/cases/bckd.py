"""Class scores as binary questions and overlaps of boxes, candidate by candidate."""

import math
from typing import Any

from torch import Tensor

from losses.cases.crosskd import generalised_iou, logits_and_boxes, no_candidates, sigmoid
from losses.contract import Case, permute_images


def iou(a: list[float], b: list[float]) -> float:
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


def reference(student: Tensor, teacher: Tensor, student_boxes: Tensor, teacher_boxes: Tensor, *, class_weight=1.0,
              box_weight=4.0, overlap="giou", normaliser=None) -> float:  # fmt: skip
    total, similarity = 0.0, generalised_iou if overlap == "giou" else iou
    for row_s, row_t, a, b in zip(*(x.tolist() for x in (student, teacher, student_boxes, teacher_boxes)), strict=True):
        apart = []
        for s, t in zip(row_s, row_t, strict=True):
            p, q = sigmoid(t), sigmoid(s)
            apart.append(abs(p - q))
            total += class_weight * apart[-1] * -(p * math.log(q) + (1 - p) * math.log(1 - q))
        total += box_weight * max(apart) * (1 - similarity(a, b))
    return total / (len(student) if normaliser is None else normaliser)


OPTIONS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({}, (0,)),
    ({"box_weight": 0.0}, ()),
    ({"class_weight": 0.5, "overlap": "iou"}, (0,)),
    ({"normaliser": 7.5}, (0,)),
]

CASES = [
    Case(
        loss="bckd",
        make=logits_and_boxes,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_images,
        detached=detached,
    )
    for options, detached in OPTIONS
]
