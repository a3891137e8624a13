"""Softmax inside groups of a flat vector, for all groups at once.

Legend: P entries, G groups; `index_P` names each entry's group. No loop over groups, and no wait for an accelerator.
"""

import torch
from torch import Tensor


def group_numbers(index_P: Tensor) -> tuple[Tensor, int]:
    """Return the groups renumbered where needed, and an upper bound of their count that costs no wait for the device.

    On the CPU the highest number is read off. Elsewhere, or where the numbers are sparse, the groups are numbered
    in ascending order, so that P bounds their count.

    Raises:
        ValueError: a negative number on the CPU.
    """
    if not torch.compiler.is_compiling() and index_P.device.type == "cpu":
        lowest, highest = (int(bound) for bound in index_P.aminmax())
        if lowest < 0:
            raise ValueError(f"expected group numbers of at least 0, got {lowest}")
        if highest < 2 * len(index_P) + 1024:
            return index_P, highest + 1
    sorted_P, order_P = index_P.sort()
    begins_P = sorted_P.diff(prepend=sorted_P[:1]).ne(0)
    return torch.empty_like(index_P).scatter(0, order_P, begins_P.long().cumsum(0)), len(index_P)


def segment_log_softmax(scores_P: Tensor, index_P: Tensor, num_groups: int) -> Tensor:
    """Return the logarithm of the softmax over the entries of the same group; exactly 0 in a group of one."""
    highest_G = scores_P.new_zeros(num_groups).scatter_reduce(
        0, index_P, scores_P.detach(), reduce="amax", include_self=False
    )
    shifted_P = scores_P - highest_G.index_select(0, index_P)
    total_G = scores_P.new_zeros(num_groups).index_add(0, index_P, shifted_P.exp())
    # A group without entries has the total 0, is never selected, and must not send log(0) through the backward pass.
    log_total_G = total_G.clamp(min=torch.finfo(total_G.dtype).tiny).log()
    return shifted_P - log_total_G.index_select(0, index_P)
