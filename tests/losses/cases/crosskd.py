"""Scores and boxes of the cross-head predictions, candidate by candidate."""

import math
from typing import Any

import torch
from torch import Tensor

from losses.contract import Case, Inputs, permute_images, rand


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def generalised_iou(a: list[float], b: list[float]) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1, 0) * max(y2 - y1, 0)

    overlap = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    hull = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = area(*a) + area(*b) - overlap
    return overlap / union - (hull - union) / hull


def reference(student: Tensor, teacher: Tensor, student_boxes=None, teacher_boxes=None, *, power=1.0, box_weight=1.0,
              normaliser=None) -> float:  # fmt: skip
    total, highest = 0.0, [max(sigmoid(t) for t in row) for row in teacher.tolist()]
    for row_s, row_t in zip(student.tolist(), teacher.tolist(), strict=True):
        for s, t in zip(row_s, row_t, strict=True):
            p, q = sigmoid(t), sigmoid(s)
            total += abs(q - p) ** power * -(p * math.log(q) + (1 - p) * math.log(1 - q))
    if student_boxes is not None:
        for score, a, b in zip(highest, student_boxes.tolist(), teacher_boxes.tolist(), strict=True):
            total += box_weight * score * (1 - generalised_iou(a, b))
    return total / (max(sum(highest), 1) if normaliser is None else normaliser)


def logits_alone(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return Inputs(*([[rand(generator, dtype, 6, 4, scale=6) - 3]] for _ in range(2)), as_list=False)


def logits_and_boxes(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Corners within 30 pixels, sides of 5 to 25: some of the six pairs overlap, some do not."""

    def groups() -> list[list[Tensor]]:
        corners, sides = rand(generator, dtype, 6, 2, scale=30), rand(generator, dtype, 6, 2, scale=20) + 5
        return [[rand(generator, dtype, 6, 4, scale=6) - 3], [torch.cat([corners, corners + sides], 1)]]

    return Inputs(groups(), groups(), as_list=False)


def no_candidates() -> Inputs:
    empty = [[torch.zeros(0, 4)], [torch.zeros(0, 4)]]
    return Inputs(empty, empty, as_list=False)


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (logits_and_boxes, {}),
    (logits_alone, {}),
    (logits_and_boxes, {"power": 2.0, "box_weight": 0.3}),
    (logits_and_boxes, {"normaliser": 7.5}),
]

CASES = [
    Case(
        loss="crosskd",
        make=make,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_images,
    )
    for make, options in OPTIONS
]
