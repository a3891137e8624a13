"""Normalised attention maps, cell by cell."""

import math

import torch
from torch import Tensor

from losses.contract import Case, Inputs, no_images, permute_images, rand


def attention(level: Tensor, image: int, power: float) -> list[float]:
    _, channels, height, width = level.shape
    maps = [
        sum(abs(float(level[image, c, row, column])) ** power for c in range(channels)) / channels
        for row in range(height)
        for column in range(width)
    ]
    norm = max(math.sqrt(sum(q**2 for q in maps)), 1e-6)
    return [q / norm for q in maps]


def reference(student: list[Tensor], teacher: list[Tensor], *, power=2.0) -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        images, _, height, width = level_s.shape
        total = 0.0
        for n in range(images):
            s, t = attention(level_s, n, power), attention(level_t, n, power)
            total += sum((x - y) ** 2 for x, y in zip(s, t, strict=True))
        loss += total / (images * height * width)
    return loss


def features_of_other_widths(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Two channels of the student, three of the teacher; of both signs."""
    sizes = [(6, 7), (2, 3)]
    return Inputs(*([[rand(generator, dtype, 2, c, *size, scale=4) - 2 for size in sizes]] for c in (2, 3)))


CASES = [
    Case(
        loss="attention_transfer",
        make=features_of_other_widths,
        reference=reference,
        options=options,
        empty=no_images(1),
        permute=permute_images,
        own_axes=(1,),
    )
    for options in ({}, {"power": 1.0}, {"power": 3.0})
]
