"""Squared difference times the teacher's score, entry by entry."""

import torch
from torch import Tensor

from losses.contract import Case, Inputs, feature_levels, permute_images, rand


def reference(student: list[Tensor], teacher: list[Tensor], teacher_scores: list[Tensor]) -> float:
    loss = 0.0
    for level_s, level_t, score in zip(student, teacher, teacher_scores, strict=True):
        images, _, height, width = level_s.shape
        total = 0.0
        for n in range(images):
            for row in range(height):
                for column in range(width):
                    s, t = level_s[n, :, row, column].tolist(), level_t[n, :, row, column].tolist()
                    gap = sum((x - y) ** 2 for x, y in zip(s, t, strict=True))
                    total += float(score[n, 0, row, column]) * gap
        loss += total / level_s.numel()
    return loss


def features_and_scores(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    made = feature_levels(generator, dtype)
    scores = [rand(generator, dtype, len(s), 1, *s.shape[2:]) for s in made.student[0]]
    return Inputs(made.student, [*made.teacher, scores])


def no_images() -> Inputs:
    return Inputs([[torch.zeros(0, 3, 4, 4)]], [[torch.zeros(0, 3, 4, 4)], [torch.zeros(0, 1, 4, 4)]])


CASES = [
    Case(
        loss="score_weighted",
        make=features_and_scores,
        reference=reference,
        empty=no_images,
        permute=permute_images,
    )
]
