"""Gradients of single losses, where half precision would round them to nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdet.ops.ranks import mean_over_ranks

_SCALES = (2.0**15, 2.0**8, 1.0)
"""What a loss is multiplied by on its way back; the largest power of two that fp16 holds, and less where that is too
much."""


def gradients_of(value: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a scalar in float32; None where it does not depend on an input.

    Under fp16 a gradient passes layers whose least number is 6e-8, and what a single loss sends there is often less. So
    the loss is scaled as a training's is (torch.amp.GradScaler), and the gradient divided afterwards, in float32. In
    float32 and bf16 this changes no bit. Every rank must take part where a loss is one over all ranks.
    """
    open_ones = [tensor for tensor in inputs if tensor.requires_grad]
    if not value.requires_grad or not open_ones:
        return [None] * len(inputs)
    found: list[Tensor | None] = []
    for scale in _SCALES:
        scaled = _plain(value.float() * scale, open_ones)
        found = [None if gradient is None else gradient.float() / scale for gradient in scaled]
        if _finite_on_all_ranks(found, value):
            break
    by_input = iter(found)
    return [next(by_input) if tensor.requires_grad else None for tensor in inputs]


def _plain(value: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    return torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)


def _finite_on_all_ranks(gradients: Sequence[Tensor | None], value: Tensor) -> bool:
    """All ranks go the same way, since the backward pass of some losses waits for the others."""
    finite = [gradient.isfinite().all() for gradient in gradients if gradient is not None]
    return bool(mean_over_ranks(torch.stack([*finite, value.new_ones((), dtype=torch.bool)]).all()) == 1)
