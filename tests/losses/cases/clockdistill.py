"""Squared differences of memory, objects and background apart, cell by cell."""

import torch
from torch import Tensor

from losses.contract import Case, Inputs, feature_levels, permute_images, rand


def reference(student: list[Tensor], teacher: list[Tensor], *, foreground: list[Tensor], background: list[Tensor],
              foreground_weight=1.0, background_weight=0.5) -> float:  # fmt: skip
    loss = 0.0
    for level_s, level_t, inside, outside in zip(student, teacher, foreground, background, strict=True):
        images, channels, height, width = level_s.shape
        for n in range(images):
            for row in range(height):
                for column in range(width):
                    s, t = level_s[n, :, row, column].tolist(), level_t[n, :, row, column].tolist()
                    gap = sum((x - y) ** 2 for x, y in zip(s, t, strict=True)) / channels
                    loss += foreground_weight * inside[n, 0, row, column].item() * gap / images
                    loss += background_weight * outside[n, 0, row, column].item() * gap / images
    return loss


def memory_and_regions(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    made = feature_levels(generator, dtype)
    names = ("foreground", "background")
    maps = {name: [rand(generator, dtype, len(s), 1, *s.shape[2:]) for s in made.student[0]] for name in names}
    return Inputs(made.student, made.teacher, keywords=maps)


def no_images() -> Inputs:
    empty = {name: [torch.zeros(0, 1, 4, 4)] for name in ("foreground", "background")}
    return Inputs([[torch.zeros(0, 3, 4, 4)]], [[torch.zeros(0, 3, 4, 4)]], keywords=empty)


CASES = [
    Case(
        loss="clockdistill",
        make=memory_and_regions,
        reference=reference,
        options=options,
        empty=no_images,
        permute=permute_images,
    )
    for options in ({}, {"foreground_weight": 0.25, "background_weight": 3.0})
]
