"""Gradients of single losses, where half precision would round them to nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdet.ops.ranks import mean_over_ranks

_SCALES = (2.0**15, 2.0**8, 1.0)
"""What a loss is multiplied by on its way back: the largest power of two of fp16, and less where that is too much."""


def gradients_of(value: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradient of a scalar in float32; None where it does not depend on an input.

    Under fp16 a gradient passes layers whose least number is 6e-8, and what a single loss sends there is often less. So
    the loss is scaled there as a training's is (torch.amp.GradScaler), and the gradient divided in float32 afterwards.
    All ranks must take part.
    """
    trained = [tensor for tensor in inputs if tensor.requires_grad]
    if not value.requires_grad or not trained:
        return [None] * len(inputs)
    found: list[Tensor | None] = []
    for scale in _SCALES if _in_fp16(value, trained) else (1.0,):
        scaled = _plain(value.float() * scale, trained)
        found = [None if gradient is None else gradient.float() / scale for gradient in scaled]
        if scale == 1 or _finite_on_all_ranks(found, value):
            break
    by_input = iter(found)
    return [next(by_input) if tensor.requires_grad else None for tensor in inputs]


def _in_fp16(value: Tensor, inputs: Sequence[Tensor]) -> bool:
    device = value.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return autocast or any(tensor.dtype == torch.float16 for tensor in inputs)


def _plain(value: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    return torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)


def _finite_on_all_ranks(gradients: Sequence[Tensor | None], value: Tensor) -> bool:
    """All ranks go the same way, since the backward pass of some losses waits for the others."""
    finite = [gradient.isfinite().all() for gradient in gradients if gradient is not None]
    return bool(mean_over_ranks(torch.stack([*finite, value.new_ones((), dtype=torch.bool)]).all()) == 1)
