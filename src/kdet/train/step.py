"""One optimizer step of a run."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict

from kdet.distill import readings
from kdet.distill.criterion import Criterion
from kdet.distill.preflight.doubts import doubtful_weights
from kdet.errors import InputError, one_line
from kdet.ops.randomness import seeded
from kdet.train.optim import learning_rate, set_learning_rate, warmup_steps
from kdet.train.state.failures import batch_norm_fault, is_out_of_memory, non_finite, out_of_memory, shown
from kdet.train.state.run import Run
from kdet.types import Batch, GradientRatio, LossReport

_RECORDS_PER_MEASUREMENT = 5
"""Measuring the terms' pull costs a backward pass through the head for each, so not every record has it."""
_LONGEST_REFUSAL = 200
"""Some libraries print whole tensors when they refuse one."""


def take_step(run: Run, batch: Batch) -> float:
    """Forward, backward, and where gradients are complete an optimizer step; returns the loss.

    Raises:
        WorkError: numbers that are not finite, or too little memory.
    """
    counters, settings = run.counters, run.recipe.train
    lr = learning_rate(settings, counters.step, run.total_steps)
    set_learning_rate(run.optimizer, lr)
    updates, batches = _place_in_step(run)
    logged = updates and ((counters.step + 1) % settings.log_every == 0 or counters.step == 0)
    measured = logged and (counters.step // settings.log_every) % _RECORDS_PER_MEASUREMENT == 0
    before = {name: buffer.clone() for name, buffer in run.module.named_buffers()} if settings.skip_nonfinite else {}
    try:
        with run.engine.step(run.module, updates=updates):
            report, fault = _forward(run, batch, measure=measured)
            # All ranks take the same way: who waits for gradients that another does not send waits for ever. It costs
            # an all-reduce of one number a batch; the host waits for the loss already.
            broken = bool(run.engine.highest(int(fault is not None)))
            if not broken:
                assert report is not None
                run.engine.backward(report.total / batches)
                fault = _fault_of_gradient(run) if updates else None
                broken = fault is not None  # of the sum over ranks, so that all find the same
                if not broken:
                    run.optimizer.step()
                    run.skipped = 0
            if broken:
                _leave_out(run, batch, fault)
                for name, buffer in run.module.named_buffers():  # batch statistics have seen what is left out
                    buffer.copy_(before[name])
                if updates:
                    run.engine.leave_out(run.module)
            run.optimizer.zero_grad(set_to_none=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(run, batch) from None
    if updates:
        counters.step += 1
        if run.average is not None:
            with run.engine.whole():
                run.average.update_parameters(run.student.model)
        if logged and report is not None:
            _log_step(run, report, lr)
    if run.distiller.criterion is not None:
        _say_how_hard(run, run.distiller.criterion, report.gradients if measured and report is not None else {})
    return math.nan if report is None else float(report.total.detach())


def _place_in_step(run: Run) -> tuple[bool, int]:
    """Whether this batch ends an optimizer step, and how many batches make it; the last of an epoch may be of fewer."""
    wanted, done = run.recipe.train.accumulate, run.counters.batch
    first = done - done % wanted
    batches = min(wanted, run.sampler.steps - first)
    return done + 1 == first + batches, batches


def _forward(run: Run, batch: Batch, *, measure: bool) -> tuple[LossReport | None, str | None]:
    """The loss, and what is not finite in it, if anything is.

    Its random numbers follow from seed, batch and rank: what other arms or an earlier stop drew does not matter.
    """
    counters = run.counters
    key = run.recipe.train.seed, counters.epoch, counters.batch, run.engine.rank
    try:
        with seeded(*key, device=batch.images.device):
            report: LossReport = run.module(batch, progress=counters.step / run.total_steps, measure=measure)
    except InputError:
        raise
    except ValueError as error:
        if fault := batch_norm_fault(error, run.recipe.train.batch_size):
            raise fault from None
        # A loss, or the matching in one, refuses NaN in what it reads; every other refusal is an error of the code.
        if not any(reading.broken for reading in readings(run.distiller, batch)):
            raise
        return None, one_line(error)[:_LONGEST_REFUSAL]
    finite = math.isfinite(float(report.total.detach()))
    return report, None if finite else f"the loss is not finite ({shown(report)})"


def _fault_of_gradient(run: Run) -> str | None:
    """Clips, and says what is not finite; fp16's scaler finds that itself, and leaves such a step out."""
    norm = run.engine.clip(run.distiller.clipped_apart, run.recipe.train.clip_norm)
    if run.engine.scales or math.isfinite(norm):
        return None
    broken = [name for name, gradient in run.engine.gradients(run.distiller) if not gradient.isfinite().all()]
    return f"the gradient is not finite ({broken[0] if broken else 'its norm'}, and {max(0, len(broken) - 1)} more)"


def _leave_out(run: Run, batch: Batch, fault: str | None) -> None:
    """Count and tell a step that is skipped, on all ranks; no fault on those whose own numbers are sound.

    Raises:
        WorkError: more of them in a row than the recipe allows.
    """
    run.skipped += 1
    if run.skipped > run.recipe.train.skip_nonfinite:
        raise non_finite(run, batch, fault)
    found = run.engine.first(fault and f"{fault} on images {batch.image_ids}")
    run.log.say(f"step {run.counters.step + 1} is left out: {found}")


def _say_how_hard(run: Run, criterion: Criterion, gradients: Mapping[str, GradientRatio]) -> None:
    """What `weight: auto` has measured, and after the warm-up whether a fixed weight is far off."""
    settings, at = run.recipe.train, f"step {run.counters.step}"
    if criterion.balance.ended():
        run.log.say(f"{at}: {criterion.balance.describe()}")
    # The pull on an untrained student is no more than a hint, so that of the first measurement after the warm-up is
    # looked at too; so long a span of steps holds one measurement.
    since = run.counters.step - 1 - warmup_steps(settings, run.total_steps)
    if run.counters.step > 1 and 0 <= since < settings.log_every * _RECORDS_PER_MEASUREMENT:
        for doubt in doubtful_weights(criterion, gradients):
            run.log.say(f"{at}: {doubt}")


def _log_step(run: Run, report: LossReport, lr: float) -> None:
    now = time.monotonic()
    rate = run.unlogged / max(1e-9, now - run.since)
    run.since, run.unlogged = now, 0
    parts = {name: float(value.detach()) for name, value in report.parts.items()}
    criterion = run.distiller.criterion
    run.log.step(
        step=run.counters.step,
        epoch=run.counters.epoch,
        lr=lr,
        total=float(report.total.detach()),
        parts=parts,
        gradients={name: asdict(pull) for name, pull in report.gradients.items()},
        weights=criterion.balance.weights() if criterion else {},
        weights_over=criterion.balance.measured_over() if criterion else 0,
        rate=rate,
    )
