"""One optimizer step of a run, and everything that a run holds while it goes."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from kdet.data import EpochSampler
from kdet.distill import Distiller
from kdet.errors import InputError, WorkError
from kdet.train.checkpoint import Counters
from kdet.train.engine import Engine
from kdet.train.interruption import Interruption
from kdet.train.optim import learning_rate
from kdet.train.recipe import Recipe
from kdet.train.run_log import RunLog
from kdet.train.scoring import Scorer
from kdet.types import Batch, Detector, LossReport

_MEND = "The state saved last is intact: lower train.lr, set train.clip_norm, or use fp32, and continue with --resume"

_RECORDS_PER_MEASUREMENT = 5
"""Measuring the terms' pull costs a backward pass through the head for each, so not every record has it."""


@dataclass(kw_only=True)
class Run:
    """Everything that a run holds while it goes."""

    recipe: Recipe
    folder: Path
    engine: Engine
    log: RunLog
    student: Detector
    distiller: Distiller
    module: nn.Module
    """The distiller as the engine wrapped it."""
    optimizer: Optimizer
    average: AveragedModel | None
    sampler: EpochSampler
    loader: DataLoader[Batch]
    scorer: Scorer
    total_steps: int
    interruption: Interruption
    counters: Counters = field(default_factory=Counters)
    unlogged: int = 0
    """Images since the last record."""
    since: float = 0.0
    saved: float = 0.0
    """When the state was saved last."""

    @property
    def finished(self) -> bool:
        """All epochs, or as many steps as were wanted."""
        return self.counters.epoch >= self.recipe.train.epochs or self.counters.step >= self.total_steps


def take_step(run: Run, batch: Batch) -> LossReport:
    """Forward, backward, and where gradients are complete an optimizer step."""
    counters, settings = run.counters, run.recipe.train
    lr = learning_rate(settings, counters.step, run.total_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    updates, batches = _place_in_step(run)
    logged = updates and ((counters.step + 1) % settings.log_every == 0 or counters.step == 0)
    measured = logged and (counters.step // settings.log_every) % _RECORDS_PER_MEASUREMENT == 0
    with run.engine.step(run.module, updates=updates):
        try:
            report: LossReport = run.module(batch, progress=counters.step / run.total_steps, measure=measured)
        except InputError:
            raise
        except ValueError as error:  # a loss that refuses NaN in what it reads
            raise WorkError(f"{error}; images {batch.image_ids}. {_MEND}") from None
        if not bool(torch.isfinite(report.total)):
            raise WorkError(_non_finite(report, batch))
        run.engine.backward(report.total / batches)
        if settings.clip_norm is not None and updates:
            run.engine.clip(run.module, settings.clip_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
    if updates:
        counters.step += 1
        if run.average is not None:
            run.average.update_parameters(run.student.model)
        if logged:
            _log_step(run, report, lr)
    return report


def _place_in_step(run: Run) -> tuple[bool, int]:
    """Whether this batch ends an optimizer step, and how many batches make it; the last of an epoch may be of fewer."""
    wanted, done = run.recipe.train.accumulate, run.counters.batch
    first = done - done % wanted
    batches = min(wanted, run.sampler.steps - first)
    return done + 1 == first + batches, batches


def _log_step(run: Run, report: LossReport, lr: float) -> None:
    now = time.monotonic()
    rate = run.unlogged / max(1e-9, now - run.since)
    run.since, run.unlogged = now, 0
    parts = {name: float(value.detach()) for name, value in report.parts.items()}
    run.log.step(
        step=run.counters.step,
        epoch=run.counters.epoch,
        lr=lr,
        total=float(report.total.detach()),
        parts=parts,
        pulls={name: asdict(pull) for name, pull in report.pulls.items()},
        weights=run.distiller.criterion.balance.weights() if run.distiller.criterion else {},
        rate=rate,
    )


def _non_finite(report: LossReport, batch: Batch) -> str:
    values = ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in report.parts.items())
    low, high = float(batch.images.min()), float(batch.images.max())
    return f"the loss is not finite ({values}) on images {batch.image_ids}, pixels {low:.3g}…{high:.3g}. {_MEND}"


def require_finite(run: Run) -> None:
    """Before a state is saved: weights that broke in the epoch's last step must not replace the last good ones."""
    for name, parameter in run.distiller.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise WorkError(f"{name} is not finite after step {run.counters.step}. {_MEND}")
