"""Half the weighted squared difference, entry by entry."""

from dataclasses import replace

import torch
from torch import Tensor

from losses.contract import Case, Inputs, feature_levels, no_images, permute_images, rand


def reference(student: list[Tensor], teacher: list[Tensor], *, weight=None) -> float:
    loss = 0.0
    for level, (level_s, level_t) in enumerate(zip(student, teacher, strict=True)):
        images, channels, height, width = level_s.shape
        for n in range(images):
            for row in range(height):
                for column in range(width):
                    share = 1 / (images * height * width) if weight is None else float(weight[level][n, 0, row, column])
                    s, t = level_s[n, :, row, column].tolist(), level_t[n, :, row, column].tolist()
                    loss += share * sum((x - y) ** 2 for x, y in zip(s, t, strict=True)) / channels / 2
    return loss


def weighted_features(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Some cells count more than others and some not at all; the weights of a level sum to 1."""
    made = feature_levels(generator, dtype)
    weights = [(rand(generator, dtype, len(s), 1, *s.shape[2:]) - 0.3).clamp(min=0) for s in made.student[0]]
    return replace(made, keywords={"weight": [weight / weight.sum() for weight in weights]})


CASES = [
    Case(loss="hint", make=make, reference=reference, empty=no_images(1), permute=permute_images)
    for make in (feature_levels, weighted_features)
]
