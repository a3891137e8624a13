"""Divergence of edge distributions, candidate by candidate and edge by edge."""

from typing import Any

import torch
from torch import Tensor

from losses.contract import Case, Inputs, permute_images, rand
from losses.reference import divergence, softmax


def reference(student: Tensor, teacher: Tensor, *, temperature=10.0, weight=None, normaliser=None) -> float:
    weights = [1.0] * len(student) if weight is None else weight.tolist()
    total = 0.0
    for w, edges_s, edges_t in zip(weights, student.tolist(), teacher.tolist(), strict=True):
        for bins_s, bins_t in zip(edges_s, edges_t, strict=True):
            p, q = (softmax([b / temperature for b in bins]) for bins in (bins_t, bins_s))
            total += w * divergence(p, q) / len(edges_s)
    return total * temperature**2 / (max(sum(weights), 1) if normaliser is None else normaliser)


def edges(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return Inputs(*([[rand(generator, dtype, 5, 4, 7, scale=12) - 6]] for _ in range(2)), as_list=False)


def weighted_edges(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    inputs = edges(generator, dtype)
    inputs.keywords["weight"] = rand(generator, dtype, 5)
    inputs.keywords["weight"][2] = 0
    return inputs


def no_candidates() -> Inputs:
    return Inputs([[torch.zeros(0, 4, 7)]], [[torch.zeros(0, 4, 7)]], as_list=False)


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (edges, {}),
    (edges, {"temperature": 1.0}),
    (weighted_edges, {"temperature": 4.0}),
    (weighted_edges, {"normaliser": 7.5}),
]

CASES = [
    Case(
        loss="ld",
        make=make,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_images,
    )
    for make, options in OPTIONS
]
