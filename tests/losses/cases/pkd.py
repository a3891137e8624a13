"""Half the squared difference of standardised channels, entry by entry."""

import math

from torch import Tensor

from losses.contract import Case, feature_levels, no_images, permute_images


def entries(level: Tensor, images: list[int], channel: int) -> list[float]:
    return [x for n in images for row in level[n, channel].tolist() for x in row]


def standardised(level: Tensor, images: list[int]) -> list[list[float]]:
    """Channel by channel, over these images together."""
    channels = [entries(level, images, c) for c in range(level.shape[1])]
    means = [sum(values) / len(values) for values in channels]
    deviations = [
        math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
        for values, mean in zip(channels, means, strict=True)
    ]
    floor = max(1e-6, 0.01 * sum(deviations) / len(deviations))
    return [
        [(x - mean) / max(deviation, floor) for x in values]
        for values, mean, deviation in zip(channels, means, deviations, strict=True)
    ]


def reference(student: list[Tensor], teacher: list[Tensor], *, statistics="batch") -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        every_image = list(range(len(level_s)))
        groups = [every_image] if statistics == "batch" else [[n] for n in every_image]
        total = 0.0
        for images in groups:
            for s, t in zip(standardised(level_s, images), standardised(level_t, images), strict=True):
                total += sum((x - y) ** 2 for x, y in zip(s, t, strict=True))
        loss += total / level_s.numel() / 2
    return loss


CASES = [
    Case(
        loss="pkd",
        make=feature_levels,
        reference=reference,
        options=options,
        empty=no_images(1),
        permute=permute_images,
    )
    for options in ({}, {"statistics": "image"})
]
