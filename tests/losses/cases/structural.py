"""Structural similarity cell by cell, and what is asked of its options."""

import math
from typing import Any

from torch import Tensor

from losses.contract import Case, feature_levels, levels_of_a_half_dead_teacher, no_images, permute_images
from losses.reference import gaussian_taps, local_mean, product, rescaled, taught

C1, C2 = 0.01**2, 0.03**2
C3 = C2 / 2


def ssim_at(moments: list[float], powers: tuple[float, ...]) -> float:
    mean_s, mean_t, square_s, square_t, product_st = moments
    sigma_s, sigma_t = math.sqrt(max(square_s - mean_s**2, 0)), math.sqrt(max(square_t - mean_t**2, 0))
    sigma_st = product_st - mean_s * mean_t
    factors = (
        (2 * mean_s * mean_t + C1) / (mean_s**2 + mean_t**2 + C1),
        (2 * sigma_s * sigma_t + C2) / (sigma_s**2 + sigma_t**2 + C2),
        (sigma_st + C3) / (sigma_s * sigma_t + C3),
    )
    value = 1.0
    for factor, power in zip(factors, powers, strict=True):
        if power:
            value *= (factor if power == int(power) else max(factor, 1e-6)) ** power
    return value


def reference(student: list[Tensor], teacher: list[Tensor], *, alpha=1.0, beta=1.0, gamma=1.0, window=11, sigma=1.5,
               normalize="channel") -> float:  # fmt: skip
    taps, loss = gaussian_taps(window, sigma), 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        images, channels, height, width = level_s.shape
        total = 0.0
        for n in range(images):
            s_image, t_image = rescaled(level_s[n].tolist(), normalize), rescaled(level_t[n].tolist(), normalize)
            for s, t, counts in zip(s_image, t_image, taught(level_t[n].tolist(), normalize), strict=True):
                if not counts:
                    continue
                maps = (s, t, product(s, s), product(t, t), product(s, t))
                for row in range(height):
                    for column in range(width):
                        moments = [local_mean(values, row, column, taps) for values in maps]
                        total += (1 - ssim_at(moments, (alpha, beta, gamma))) / 2
        loss += total / (images * channels * height * width)
    return loss


OPTIONS: list[dict[str, Any]] = [
    {},
    {"normalize": "sample"},
    {"normalize": None},
    {"window": 5, "sigma": 0.8},
    {"window": 3},
    {"alpha": 0.0},
    {"alpha": 0.0, "beta": 0.0},
    {"beta": 0.0, "gamma": 0.0},
    {"alpha": 2.0},
    {"gamma": 2.0, "normalize": "sample"},
    {"alpha": 0.5, "beta": 0.7, "gamma": 0.3},
]

CASES = [
    Case(
        loss="structural",
        make=make,
        reference=reference,
        options=options,
        empty=no_images(1),
        permute=permute_images,
        has_roots=options.get("beta", 1) != 1 or options.get("gamma", 1) != 1,
    )
    for make, every in ((feature_levels, OPTIONS), (levels_of_a_half_dead_teacher, [{}, {"gamma": 2.0}]))
    for options in every
]
