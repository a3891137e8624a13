"""Counts and sums that hold over all processes of a run."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def num_ranks() -> int:
    """Return the number of processes of the run; 1 outside a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(count: Tensor) -> Tensor:
    """Return the mean of a count over ranks, float32; the count itself in a single process.

    DDP averages gradients over ranks. A loss divided by this mean is therefore, after that average, the loss of
    the whole batch divided by the global count.
    """
    total = count.to(torch.float32)
    if num_ranks() > 1:
        total = total.clone()
        dist.all_reduce(total)
        total = total / num_ranks()
    return total


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor of one shape over ranks, with a gradient; the tensor itself in a single process.

    What is computed from the sum on rank q depends on the inputs x_r of every rank r. The backward pass therefore
    adds the incoming gradients over ranks, so that rank r holds d(Σ_q L_q)/dx_r: the derivative of the sum of all
    losses and not of its own alone. DDP's average over ranks then gives

        1/W Σ_r d(Σ_q L_q)/dx_r · dx_r/dθ  =  d( 1/W Σ_q L_q )/dθ        W ranks, parameters θ

    which is the gradient of a single process with the whole batch, provided that the mean of the ranks' losses is its
    loss: each rank divides the sum over its own entries by the global count / W. With equal counts that is its local
    mean. Every rank must take part, forward and backward, also one that holds no images; else the others wait for it.

    (`torch.distributed.nn.functional.all_reduce` does the same, and is deprecated.)
    """
    return _SumOverRanks.apply(tensor) if num_ranks() > 1 else tensor  # pyright: ignore[reportReturnType]


def channel_moments(values_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and variance, 1×C×1×1, over the cells of all images of all ranks; with a gradient.

    Every rank must take part, as in `sum_over_ranks`.
    """
    entries = values_NCHW.numel() / max(values_NCHW.shape[1], 1)
    count = sum_over_ranks(values_NCHW.new_full((), entries)).clamp(min=1)
    mean = sum_over_ranks(values_NCHW.sum((0, 2, 3), keepdim=True)) / count
    return mean, sum_over_ranks((values_NCHW - mean).square().sum((0, 2, 3), keepdim=True)) / count


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return sum_over_ranks(grad_outputs[0])
