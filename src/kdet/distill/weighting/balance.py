"""Weights without magic: how hard each term pulls at the student's neck, against the task.

Values of losses say nothing about their pull: a method's weight on another neck, head or image size may be off by
powers of ten, and so may its levels among each other. What can be compared are gradients at the one place that all of
them pass, the student's neck outputs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdet.distill.weighting.gradients import gradients_of
from kdet.distill.weighting.groups import WeightGroup, ratios_of
from kdet.ops.ranks import mean_over_ranks, num_ranks
from kdet.types import GradientRatio

WINDOW = 20
"""Batches over which a weight is calibrated."""
RECHECK = 500
"""Batches from one calibration to the next."""
_KEPT = 5
"""Batches for which earlier calibrations count in a new one."""
_ROUNDING = 1e-6


class Balance(nn.Module):
    """The weights of the terms with `weight: auto`, and how they came about; all of it is saved with the run.

        λ_i = share_i / n_auto · Σ ‖∂L_task/∂F‖ / Σ ‖∂L_i/∂F‖         F neck outputs of the student

    A term that compares neck features has such a weight for each level, with F that level's output, so that its pull is
    divided among the levels as the task's is; F is all outputs for any other term. The sums are over the batches of a
    calibration, so that a level is judged by the batches that have objects there, however few they are. A calibration
    takes the first batches after the learning rate's warm-up, and again some batches at regular distances. During the
    warm-up, when gradients still change fast, the weight follows every batch of a window too. Calibrations count as
    geometric means do, the earlier ones together as a few batches of the new one.

    Where the task or the term does not pull in a whole calibration, the weight stays as it was, at first 0.
    """

    task_norms: Tensor
    """Σ ‖∂L_task/∂F‖ over the batches of this calibration, one entry an auto part."""
    term_norms: Tensor
    """Σ ‖∂L_i/∂F‖ over the same batches."""
    measured: Tensor
    """How many batches that is."""
    log_ratios: Tensor
    """What the calibrations before this one came to: the logarithm of the ratio of the sums."""
    kept: Tensor
    """Number of batches as which `log_ratios` counts; 0 where nothing was measured yet."""
    batches: Tensor
    """Training batches seen."""

    def __init__(self, parts: Sequence[WeightGroup]) -> None:
        super().__init__()
        self.wanted = ratios_of(parts)
        self.reaches = {part.name: part.reaches for part in parts if part.name in self.wanted}
        self.warmup = 0
        """Batches of the learning rate's warm-up; set by who knows it."""
        for name in ("task_norms", "term_norms", "measured", "log_ratios", "kept"):
            self.register_buffer(name, torch.zeros(len(self.wanted), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def due(self) -> bool:
        """Whether this batch belongs to a calibration."""
        return bool(self.wanted) and self._place() < WINDOW

    def ended(self) -> bool:
        """Whether the last batch that was counted ended a calibration."""
        return bool(self.wanted) and self._place() == WINDOW

    def weights(self) -> dict[str, float]:
        """λ of each auto part; 0 until its first measurement, that is until a batch that it sees something in."""
        if not self.wanted:  # a hot path: reading numbers back would make the host wait for an accelerator
            return {}
        ratios, counts = self._ratios()
        ratios = torch.where(counts > 0, ratios.exp(), 0.0)
        return {
            name: wanted * measured
            for (name, wanted), measured in zip(self.wanted.items(), ratios.tolist(), strict=True)
        }

    def measured_over(self) -> int:
        """Batches of the present or last calibration; 0 without a term that needs one."""
        return int(self.measured.max()) if self.wanted else 0

    def describe(self) -> str:
        """The weights, and over how many batches the last calibration measured them."""
        weights = self.weights()
        shown = [f"{name} {weight:.4g}" for name, weight in weights.items()]
        idle = [name for name, weight in weights.items() if not weight]
        why = f"; {', '.join(idle)} at 0, since the task or the term does not pull there" if idle else ""
        return f"weight: auto, measured over {self.measured_over()} batches: {', '.join(shown)}{why}"

    def calibrate(self, task: Sequence[Tensor], parts: Mapping[str, Sequence[Tensor]]) -> None:
        """Take in one batch; what is not finite counts for nothing.

        Args:
            task: the task losses' gradient at the neck, flat, one a level.
            parts: the same of the unweighted parts, by name.
        """
        if self._place() == 0:
            self._begin()
        norms: list[Tensor] = []
        for name, levels in self.reaches.items():
            chosen = range(len(task)) if levels is None else levels
            norms.append(torch.stack([_norm([side[i] for i in chosen]) for side in (task, parts[name])]))
        # Of the whole batch, as one process would find it: a rank's loss counts 1/W in the whole one, and the squares
        # of its images' gradients add up.
        squares = mean_over_ranks(torch.stack(norms, 1).square())
        task_norms, term_norms = (squares / num_ranks()).sqrt().double()
        finite = (task_norms + term_norms).isfinite()
        self.task_norms += torch.where(finite, task_norms, 0)
        self.term_norms += torch.where(finite, term_norms, 0)
        self.measured += finite

    def count(self) -> None:
        """One more training batch."""
        self.batches += 1

    def _begin(self) -> None:
        """A new calibration: all that was measured so far counts as a few batches of it."""
        ratios, counts = self._ratios()
        self.log_ratios.copy_(ratios)
        self.kept.copy_(counts.clamp_max(_KEPT))
        for sums in (self.task_norms, self.term_norms, self.measured):
            sums.zero_()

    def _ratios(self) -> tuple[Tensor, Tensor]:
        """Logarithm of the ratio of each part, and on how many batches it stands."""
        # What pulls a millionth as hard is rounding: on a level of a single cell some losses are constant.
        pulls = (self.task_norms > 0) & (self.term_norms > _ROUNDING * self.task_norms)
        fresh = torch.where(pulls, self.task_norms / self.term_norms, 1.0).log()
        measured = torch.where(pulls, self.measured, 0.0)
        counts = self.kept + measured
        return (self.kept * self.log_ratios + measured * fresh) / counts.clamp_min(1), counts

    def _place(self) -> int:
        """How far this batch is from the last start of a calibration: at 0, after the warm-up, and every so often."""
        done = int(self.batches)
        return done % RECHECK if done < self.warmup else (done - self.warmup) % RECHECK


def gradient_at(features: Sequence[Tensor], value: Tensor) -> list[Tensor]:
    """Compute a scalar's gradient at the neck outputs, one flat float32 a level; zeros where it has none."""
    found = gradients_of(value, features)
    return [
        torch.zeros(feature.numel(), device=feature.device) if gradient is None else gradient.flatten()
        for feature, gradient in zip(features, found, strict=True)
    ]


def pull(task: Sequence[Tensor], term: Sequence[Tensor]) -> GradientRatio:
    """Return ratio and cosine of a weighted term's gradient."""
    norms = float(_norm(task)), float(_norm(term))
    if not all(norms):
        return GradientRatio(ratio=0.0, cosine=0.0)
    product = sum(float(ours @ theirs) for ours, theirs in zip(task, term, strict=True))
    return GradientRatio(ratio=norms[1] / norms[0], cosine=product / (norms[0] * norms[1]))


def _norm(levels: Sequence[Tensor]) -> Tensor:
    """Norm of one gradient, given level by level."""
    return torch.stack([level.norm() for level in levels]).norm()
