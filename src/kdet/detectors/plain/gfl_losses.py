"""The two halves of the generalized focal loss, and the expectation that makes a box edge of a distribution.

Legend: P positives, E edges of a box, B bins of an edge's distribution.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .exact import at_least_float32

QUALITY_POWER = 2.0


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Return QFL of each logit against a quality in 0…1, of any shape."""
    distance = (quality - logits.sigmoid()).abs()
    return distance**QUALITY_POWER * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def distribution_focal_loss(logits_PEB: Tensor, edges_PE: Tensor) -> Tensor:
    """Return DFL of each edge, P×E: cross entropy with the two bins beside its place, which is clipped to 0 … B-1."""
    last = logits_PEB.shape[-1] - 1
    log_share_PEB = at_least_float32(logits_PEB).log_softmax(-1)
    place_PE = edges_PE.clamp(0, last)
    left_PE = place_PE.floor().clamp_max(last - 1)
    right_share_PE = place_PE - left_PE
    index_PE1 = left_PE.long()[..., None]
    left = log_share_PEB.gather(-1, index_PE1).squeeze(-1)
    right = log_share_PEB.gather(-1, index_PE1 + 1).squeeze(-1)
    return -((1 - right_share_PE) * left + right_share_PE * right)


def expectation(logits: Tensor) -> Tensor:
    """Return the mean bin of each distribution over the last axis."""
    shares = at_least_float32(logits).softmax(-1)
    return (shares * torch.arange(shares.shape[-1], dtype=shares.dtype, device=shares.device)).sum(-1)
