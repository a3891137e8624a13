"""Classes and boxes of matched queries, pair by pair."""

import math
from typing import Any

import torch
from torch import Tensor

from losses.cases.crosskd import generalised_iou, sigmoid
from losses.contract import Case, Inputs, permute_images, rand


def divergence(s: float, t: float) -> float:
    p, q = sigmoid(t), sigmoid(s)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def centre_and_size(x1: float, y1: float, x2: float, y2: float) -> tuple[float, ...]:
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def reference(student: Tensor, teacher: Tensor, student_boxes: Tensor, teacher_boxes: Tensor, *, weight: Tensor,
              class_weight=2.0, box_weight=5.0, giou_weight=2.0, normaliser=None) -> float:  # fmt: skip
    total = 0.0
    rows = (student, teacher, student_boxes, teacher_boxes, weight)
    for row_s, row_t, a, b, w in zip(*(r.tolist() for r in rows), strict=True):
        classes = sum(divergence(s, t) for s, t in zip(row_s, row_t, strict=True))
        distance = sum(abs(x - y) for x, y in zip(centre_and_size(*a), centre_and_size(*b), strict=True))
        total += w * (class_weight * classes + box_weight * distance + giou_weight * (1 - generalised_iou(a, b)))
    return total / (max(weight.sum().item(), 1) if normaliser is None else normaliser)


def pairs(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Corners within 30, sides of 5 to 25: some of the six pairs overlap, some do not."""

    def groups() -> list[list[Tensor]]:
        corners, sides = rand(generator, dtype, 6, 2, scale=30), rand(generator, dtype, 6, 2, scale=20) + 5
        return [[rand(generator, dtype, 6, 4, scale=6) - 3], [torch.cat([corners, corners + sides], 1)]]

    weight = rand(generator, torch.float64, 6).to(dtype)
    return Inputs(groups(), groups(), as_list=False, keywords={"weight": weight})


def no_pairs() -> Inputs:
    empty = [[torch.zeros(0, 4)], [torch.zeros(0, 4)]]
    return Inputs(empty, empty, as_list=False, keywords={"weight": torch.zeros(0)})


OPTIONS: list[dict[str, Any]] = [
    {},
    {"class_weight": 1.0, "box_weight": 0.5, "giou_weight": 0.25},
    {"normaliser": 7.5},
]

CASES = [
    Case(
        loss="detrdistill",
        make=pairs,
        reference=reference,
        options=options,
        empty=no_pairs,
        permute=permute_images,
    )
    for options in OPTIONS
]
