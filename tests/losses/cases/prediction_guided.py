"""Feature gap times prediction gap, cell by cell."""

import math
from typing import Any

import torch

from losses.contract import Case, Inputs, Maps, no_images, permute_images, rand


def reference(features_s, features_t, logits_s, logits_t, *, reduction="mean", prediction="logit",
                      detach_weight=False) -> float:  # fmt: skip
    del detach_weight  # changes the gradient only
    per_level = []
    for f_s, f_t, p_s, p_t in zip(features_s, features_t, logits_s, logits_t, strict=True):
        if prediction == "probability":
            p_s, p_t = p_s.sigmoid(), p_t.sigmoid()
        images, _, height, width = f_s.shape
        per_image = []
        for n in range(images):
            cells = []
            for row in range(height):
                for column in range(width):
                    p_gap = [
                        float(a - b) ** 2 for a, b in zip(p_t[n, :, row, column], p_s[n, :, row, column], strict=True)
                    ]
                    f_gap = [
                        float(a - b) ** 2 for a, b in zip(f_t[n, :, row, column], f_s[n, :, row, column], strict=True)
                    ]
                    cells.append(sum(p_gap) / len(p_gap) * sum(f_gap) / len(f_gap))
            norm = math.sqrt(sum(cell**2 for cell in cells))
            per_image.append((norm if reduction == "l2" else sum(cells)) / len(cells))
        per_level.append(sum(per_image) / images)
    return sum(per_level) / len(per_level)


def features_and_logits(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    sizes = [(6, 5), (3, 2)]

    def groups() -> list[Maps]:
        return [
            [rand(generator, dtype, 2, 4, *size) for size in sizes],
            [rand(generator, dtype, 2, 6, *size, scale=4) - 2 for size in sizes],
        ]

    return Inputs(groups(), groups())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "l2"},
    {"prediction": "probability"},
    {"detach_weight": True},
]

CASES = [
    Case(
        loss="prediction_guided",
        make=features_and_logits,
        reference=reference,
        options=options,
        empty=no_images(2),
        permute=permute_images,
        detached=(1,) if options.get("detach_weight") else (),
    )
    for options in OPTIONS
]
