"""Rank mimicking, object by object."""

from dataclasses import replace

import torch
from torch import Tensor

from losses.contract import Case, Inputs, permute_images, rand
from losses.reference import divergence, softmax


def reference(student: Tensor, teacher: Tensor, object_index: Tensor, num_objects: float, *, temperature=1.0) -> float:
    loss = 0.0
    for number in sorted(set(object_index.tolist())):
        entries = [i for i, other in enumerate(object_index.tolist()) if other == number]
        t = softmax([float(teacher[i]) / temperature for i in entries])
        s = softmax([float(student[i]) / temperature for i in entries])
        loss += divergence(t, s)
    return loss / num_objects


def candidates(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    index = torch.tensor([4, 0, 0, 7, 4, 4, 0, 7, 2, 4])
    return Inputs(
        [[rand(generator, dtype, 10)]], [[rand(generator, dtype, 10, scale=3)]], extra=(index, 4), as_list=False
    )


def permute_candidates(inputs: Inputs, order: Tensor) -> Inputs:
    return replace(permute_images(inputs, order), extra=(inputs.extra[0][order], inputs.extra[1]))


def no_candidates() -> Inputs:
    return Inputs([[torch.zeros(0)]], [[torch.zeros(0)]], (torch.zeros(0, dtype=torch.int64), 0), as_list=False)


CASES = [
    Case(
        loss="rank_mimicking",
        make=candidates,
        reference=reference,
        options=options,
        empty=no_candidates,
        permute=permute_candidates,
    )
    for options in ({}, {"temperature": 0.3})
]
