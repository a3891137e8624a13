"""φ before the first step: least squares on the run's first batches."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from kdet.distill.adapters import Adapter
from kdet.distill.distiller import Distiller
from kdet.distill.preflight.proof import buffers_kept
from kdet.distill.views.base import paired_features
from kdet.ops.randomness import seeded
from kdet.ops.ranks import sum_over_ranks
from kdet.types import Batch, Need

BATCHES = 8
"""What is fitted on: on a coarse level each has few cells."""
_RIDGE = 1e-2


@torch.no_grad()
def fit_adapters(distiller: Distiller, batches: Iterable[Batch]) -> list[str]:
    """Start the adapters of `adapter: auto` as close to the teacher as 1×1 convolutions can be.

    With s the student's channels in a cell of a level and t the teacher's there, a level's convolution becomes

        A, b = argmin  E‖A s + b − t‖² + r ‖A‖²        r: a hundredth of the mean variance of the student's channels

    over the cells of the batches. One that starts at random asks of the student, until it is trained itself, for
    features that nothing needs, and what pretrained features hold is lost meanwhile.

    Args:
        distiller: in training mode. Weights of adapters change; all else, random numbers included, stays.
        batches: the run's first; eight of them are read, none without an adapter to fit.

    Returns:
        Names of the terms whose adapters were fitted.
    """
    criterion = distiller.criterion
    if criterion is None:
        return []
    ours = [t.name for t in criterion.terms if t.adapter == "auto" and t.view.adapted_maps == 1]
    fitted = {name: a for name, a in criterion.adapters.items() if name in ours and isinstance(a, Adapter)}
    if not fitted:
        return []
    maps = frozenset({Need.FEATURES, Need.MEMORY})
    sums: dict[str, list[Tensor]] = {}
    with buffers_kept(distiller), seeded(torch.initial_seed(), device=next(distiller.parameters()).device):
        for batch in islice(batches, BATCHES):
            _, contexts = distiller.observe_pair(batch, only=maps)
            for name in fitted:
                context = replace(contexts[criterion.teacher_of[name]], pairing=criterion.pairings[name])
                found = [_products(s, t) for s, t in zip(*paired_features(context, _as_they_are), strict=True)]
                sums[name] = [a + b for a, b in zip(sums[name], found, strict=True)] if name in sums else found
    for name, levels in sums.items():
        for convolution, products in zip(fitted[name].convolutions, levels, strict=True):
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            weight, bias = _solved(sum_over_ranks(products), convolution.in_channels)
            convolution.weight.copy_(weight[:, :, None, None])
            convolution.bias.copy_(bias)
    return list(fitted)


def _as_they_are(features: list[Tensor]) -> list[Tensor]:
    return features


def _products(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ x xᵀ over the cells, float64 on the processor, of x: the student's channels, the teacher's, and 1."""
    one = torch.ones_like(student[:, :1], dtype=torch.float32)
    cells = torch.cat([student.float(), teacher.float(), one], 1).movedim(1, 0).flatten(1).cpu().double()
    return cells @ cells.mT


def _solved(products: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Weight, Ct×Cs, and bias, Ct, from those sums over (Cs + Ct + 1) × the same."""
    count = products[-1, -1]
    mean = products[:-1, -1] / count
    covariance = products[:-1, :-1] / count - mean[:, None] * mean
    own, shared = covariance[:channels, :channels], covariance[channels:, :channels]
    ridge = _RIDGE * own.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    weight = torch.linalg.solve(own + ridge * torch.eye(channels, dtype=own.dtype), shared, left=False)
    return weight, mean[channels:] - weight @ mean[:channels]
