"""Correlation of class probabilities, row by row and column by column."""

import math
from typing import Any

import torch
from torch import Tensor

from losses.contract import Case, Inputs, permute_images, rand
from losses.reference import softmax


def centred(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def uncorrelated(student: list[float], teacher: list[float]) -> float:
    s, t = centred(student), centred(teacher)
    norm_s, norm_t = (math.sqrt(sum(x**2 for x in v)) for v in (s, t))
    if norm_t <= 1e-4:
        return 0.0
    return 1 - sum(a * b for a, b in zip(s, t, strict=True)) / (max(norm_s, 1e-4) * norm_t)


def reference(student: Tensor, teacher: Tensor, *, temperature=1.0, beta=1.0, gamma=1.0, activation="softmax",
              normaliser=None) -> float:  # fmt: skip
    def probabilities(logits: Tensor) -> list[list[float]]:
        rows = (logits / temperature).tolist()
        return [softmax(row) if activation == "softmax" else [1 / (1 + math.exp(-x)) for x in row] for row in rows]

    s, t = probabilities(student), probabilities(teacher)
    inter = sum(uncorrelated(*both) for both in zip(s, t, strict=True)) / (normaliser or len(s))
    columns_s, columns_t = (list(zip(*rows, strict=True)) for rows in (s, t))
    intra = sum(uncorrelated(list(a), list(b)) for a, b in zip(columns_s, columns_t, strict=True)) / len(columns_s)
    return temperature**2 * (beta * inter + gamma * intra)


def class_logits(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return Inputs(*([[rand(generator, dtype, 5, 4, scale=6) - 3]] for _ in range(2)), as_list=False)


def one_candidate(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return class_logits(generator, dtype).map(lambda logits: logits[:1].clone())


def one_class(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return class_logits(generator, dtype).map(lambda logits: logits[:, :1].clone())


def no_candidates() -> Inputs:
    return Inputs([[torch.zeros(0, 4)]], [[torch.zeros(0, 4)]], as_list=False)


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (class_logits, {}),
    (class_logits, {"activation": "sigmoid"}),
    (class_logits, {"temperature": 4.0, "beta": 2.0, "gamma": 0.5}),
    (class_logits, {"activation": "sigmoid", "beta": 0.0}),
    (class_logits, {"normaliser": 7.5}),
    (one_candidate, {"gamma": 3.0}),
    (one_class, {"activation": "sigmoid", "beta": 3.0}),
]

CASES = [
    Case(
        loss="dist",
        make=make,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_images,
    )
    for make, options in OPTIONS
]
