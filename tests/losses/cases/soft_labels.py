"""Divergence of class distributions, candidate by candidate."""

import math
from typing import Any

import torch
from torch import Tensor

from losses.contract import Case, Inputs, permute_images, rand
from losses.reference import divergence, softmax


def reference(student: Tensor, teacher: Tensor, *, temperature=1.0, activation="sigmoid", normaliser=None) -> float:
    total = 0.0
    for row_s, row_t in zip((student / temperature).tolist(), (teacher / temperature).tolist(), strict=True):
        if activation == "softmax":
            total += divergence(softmax(row_t), softmax(row_s))
        else:
            for s, t in zip(row_s, row_t, strict=True):
                p, q = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
                total += divergence([p, 1 - p], [q, 1 - q])
    return total * temperature**2 / (max(len(student), 1) if normaliser is None else normaliser)


def class_logits(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return Inputs(
        [[rand(generator, dtype, 5, 4, scale=6) - 3]], [[rand(generator, dtype, 5, 4, scale=6) - 3]], as_list=False
    )


def no_candidates() -> Inputs:
    return Inputs([[torch.zeros(0, 4)]], [[torch.zeros(0, 4)]], as_list=False)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"activation": "softmax"},
    {"temperature": 2.5},
    {"activation": "softmax", "temperature": 3.0, "normaliser": 7.5},
]

CASES = [
    Case(
        loss="soft_labels",
        make=class_logits,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_images,
    )
    for options in OPTIONS
]
