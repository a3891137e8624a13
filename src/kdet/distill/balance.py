"""Weights without magic: how hard each term pulls at the student's neck, against the task.

Values of losses say nothing about their pull: a method's weight on another neck, head or image size may be off by
powers of ten, and so may its levels among each other. What can be compared are gradients at the one place that all of
them pass, the student's neck outputs.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdet.distill.parts import Part, shares_of
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Pull

WINDOW = 20
"""Batches over which a weight is calibrated."""
RECHECK = 500
"""Batches from one calibration to the next."""
_KEPT = 5
"""Measurements for which the old weight counts in a new calibration."""
_ROUNDING = 1e-6


class Balance(nn.Module):
    """The weights of the terms with `weight: auto`, and how they came about; all of it is saved with the run.

        λ_i = share_i / n_auto · ‖∂L_task/∂F‖ / ‖∂L_i/∂F‖         F neck outputs of the student

    A term that compares neck features has such a weight for each level, with F that level's output, so that its pull is
    divided among the levels as the task's is; F is all outputs for any other term. The ratio is a geometric mean over
    the first batches after the learning rate's warm-up, and again over some batches at regular distances. During the
    warm-up, when gradients still change fast, it follows every batch of a window too.
    """

    log_ratios: Tensor
    """Sum of log(‖∂L_task‖ / ‖∂L_i‖) over the measurements, one entry an auto part."""
    counts: Tensor
    """Measurements in it."""
    batches: Tensor
    """Training batches seen."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.shares = shares_of(parts)
        self.reaches = {part.name: part.reaches for part in parts if part.name in self.shares}
        self.warmup = 0
        """Batches of the learning rate's warm-up; set by who knows it."""
        self.register_buffer("log_ratios", torch.zeros(len(self.shares), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(self.shares), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def due(self) -> bool:
        """Whether this batch belongs to a calibration."""
        return bool(self.shares) and self._place() < WINDOW

    def weights(self) -> dict[str, float]:
        """λ of each auto part; 0 until its first measurement, that is until a batch that it sees something in."""
        found: dict[str, float] = {}
        if not self.shares:  # a hot path: reading numbers back would make the host wait for an accelerator
            return found
        for (name, share), total, count in zip(
            self.shares.items(), self.log_ratios.tolist(), self.counts.tolist(), strict=True
        ):
            ratio = math.exp(total / count) if count else 0.0
            found[name] = share * ratio
        return found

    def calibrate(self, task: Sequence[Tensor], parts: Mapping[str, Sequence[Tensor]]) -> None:
        """Take in one batch.

        Args:
            task: the task losses' gradient at the neck, flat, one a level.
            parts: the same of the unweighted parts, by name.
        """
        if self._place() == 0 and int(self.batches) > 0:
            keep = (_KEPT / self.counts.clamp_min(1)).clamp_max(1)
            self.log_ratios *= keep
            self.counts *= keep
        for index, (name, levels) in enumerate(self.reaches.items()):
            chosen = range(len(task)) if levels is None else levels
            wanted, own = (mean_over_ranks(_norm([side[i] for i in chosen])) for side in (task, parts[name]))
            # A batch without objects measures nothing, and what pulls a millionth as hard is rounding: on a level of
            # a single cell some losses are constant.
            if bool(torch.isfinite(wanted / own)) and bool(own > _ROUNDING * wanted) and bool(wanted > 0):
                self.log_ratios[index] += (wanted / own).double().log()
                self.counts[index] += 1

    def count(self) -> None:
        """One more training batch."""
        self.batches += 1

    def _place(self) -> int:
        """How far this batch is from the last start of a calibration: at 0, after the warm-up, and every so often."""
        done = int(self.batches)
        return done % RECHECK if done < self.warmup else (done - self.warmup) % RECHECK


def gradient_at(features: Sequence[Tensor], value: Tensor) -> list[Tensor]:
    """The gradient of a scalar at the neck outputs, one flat float32 a level; zeros where it does not depend on it."""
    if not value.requires_grad:
        return [torch.zeros(f.numel(), device=value.device) for f in features]
    parts = torch.autograd.grad(value, list(features), retain_graph=True, allow_unused=True, materialize_grads=True)
    return [part.float().flatten() for part in parts]


def pull(task: Sequence[Tensor], term: Sequence[Tensor]) -> Pull:
    """Share and cosine of a weighted term's gradient."""
    norms = float(_norm(task)), float(_norm(term))
    if not all(norms):
        return Pull(share=0.0, cosine=0.0)
    product = sum(float(ours @ theirs) for ours, theirs in zip(task, term, strict=True))
    return Pull(share=norms[1] / norms[0], cosine=product / (norms[0] * norms[1]))


def _norm(levels: Sequence[Tensor]) -> Tensor:
    """Of one gradient, given level by level."""
    return torch.stack([level.norm() for level in levels]).norm()
