"""Mean structural dissimilarity of two models' levels with its gradient in one pass: `reference.py` made fast.

Since the loss is a single number, its gradient maps are computed along with its value, and the backward pass only
multiplies: one map a level is kept instead of a dozen. `one_pass.py` has the formulas; a processor goes through
them a few channels at a time, an accelerator with all levels at once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdet.ops.pairs import attached_zero
from kdet.ops.ssim import cpu as similarity_by_chunks
from kdet.ops.ssim import gpu as similarity_by_levels
from kdet.ops.ssim.one_pass import LossAndGradients, Options


class _Dissimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: Options, wants_grad: bool, *levels: Tensor) -> Tensor:
        ctx.options = options
        ctx.save_for_backward(*levels)
        loss, ctx.gradients = _loss_and_gradients(levels, options, wants_grad)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The gradients are scaled where they lie and given away: second maps of this size would cost more in page
        # faults than the multiplication. Only a second pass through a retained graph has to compute them again.
        gradients, ctx.gradients = ctx.gradients, None
        if not gradients:
            _, gradients = _loss_and_gradients(ctx.saved_tensors, ctx.options, wants_grad=True)
        return None, None, *(gradient.mul_(grad_outputs[0]) for gradient in gradients), *(None for _ in gradients)


def mean_dissimilarity(levels: Sequence[tuple[Tensor, Tensor]], options: Options) -> Tensor:
    """Return Σ over levels of the mean of (1 − SSIM) / 2 of a student's and a teacher's N×C×H×W map.

    Differentiable once, in the students. Levels without a cell give nothing.
    """
    full = [pair for pair in levels if pair[0].numel()]
    if not full:
        return attached_zero(*(student for student, _ in levels))
    students, teachers = zip(*full, strict=True)
    wants_grad = torch.is_grad_enabled() and any(student.requires_grad for student in students)
    return _Dissimilarity.apply(options, wants_grad, *students, *teachers)  # pyright: ignore[reportReturnType]


def _loss_and_gradients(levels: Sequence[Tensor], options: Options, wants_grad: bool) -> LossAndGradients:
    half = len(levels) // 2
    how = similarity_by_chunks if levels[0].is_cpu else similarity_by_levels
    return how.loss_and_gradients(levels[:half], levels[half:], options, wants_grad)
