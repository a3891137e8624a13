"""Divergence of each channel's distribution over the cells, channel by channel."""

import torch
from torch import Tensor

from losses.contract import Case, Inputs, feature_levels, no_images, permute_images
from losses.reference import divergence, softmax


def reference(student: list[Tensor], teacher: list[Tensor], *, temperature=1.0) -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        images, channels = level_s.shape[:2]
        total = 0.0
        for n in range(images):
            for c in range(channels):
                s, t = (
                    softmax([x / temperature for row in level[n, c].tolist() for x in row])
                    for level in (level_s, level_t)
                )
                total += divergence(t, s)
        loss += temperature**2 * total / (images * channels)
    return loss


def wide_features(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Spread enough for softmax to prefer some cells."""
    made = feature_levels(generator, torch.float64)
    return made.map(lambda t: (4 * t - 2).to(dtype))


CASES = [
    Case(
        loss="cwd",
        make=wide_features,
        reference=reference,
        options=options,
        empty=no_images(1),
        permute=permute_images,
    )
    for options in ({}, {"temperature": 4.0}, {"temperature": 0.5})
]
