"""Counts that hold over all processes of a run."""

import torch
from torch import Tensor
from torch import distributed as dist


def mean_over_ranks(count: Tensor) -> Tensor:
    """Mean of a count over ranks, float32; the count itself in a single process.

    DDP averages gradients over ranks. A loss divided by this mean is therefore, after that average, the loss of
    the whole batch divided by the global count.
    """
    total = count.to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        total = total.clone()
        dist.all_reduce(total)
        total = total / dist.get_world_size()
    return total
