"""What ends a run though its input was right: numbers that are not finite, and too little memory."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdet.distill import first_broken, readings
from kdet.errors import InputError, WorkError
from kdet.train.processes.memory import kept_for_backward, memory_of
from kdet.train.state import bad_batch
from kdet.train.state.run import Run
from kdet.train.state.run_folder import RECIPE
from kdet.types import Batch, LossReport

_MEND = "lower train.lr, set train.clip_norm, or use fp32, and continue with --resume"
_GB = 1e9


def shown(report: LossReport) -> str:
    """Return the parts of a loss by name."""
    return ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in report.parts.items())


def non_finite(run: Run, batch: Batch, fault: str | None) -> WorkError:
    """Keep the batch, look where it breaks, and say so, on all ranks; no fault on those whose own numbers are sound.

    All of them end with the line of the first one at fault, for the launcher lets one of them speak before it ends all.
    """
    folder = run.folder / (bad_batch.BAD_BATCH if run.engine.world == 1 else f"{bad_batch.BAD_BATCH}-{run.engine.rank}")
    weights = run.engine.gathered(run.distiller.state_dict(), everywhere=True)
    if fault is not None:
        bad_batch.keep(folder, batch, weights, run.scorer.truth.classes, run.counters.step)
    with run.engine.whole(), run.engine.autocast():
        where = first_broken(readings(run.distiller, batch))  # with sound numbers, too: terms count over all ranks
    found = (
        f"{fault} on images {batch.image_ids}; {where}. Look closer with kdet check {run.folder / RECIPE} --replay "
        f"{folder}. The state saved last is intact: {_MEND}"
    )
    return WorkError(run.engine.first(found if fault is not None else None))


def require_finite(run: Run, weights: Mapping[str, Tensor]) -> None:
    """Check weights before they are saved: those that broke in the epoch's last step must not replace good ones."""
    for name, _ in run.distiller.named_parameters():
        if not bool(torch.isfinite(weights[name]).all()):
            raise WorkError(
                f"{name} is not finite after step {run.counters.step}. The state saved last is intact: {_MEND}"
            )


def batch_norm_fault(error: ValueError, batch_size: int) -> InputError | None:
    """Explain torch's refusal of batch statistics of a single value; None for other errors."""
    if not str(error).startswith("Expected more than 1 value per channel when training"):
        return None
    return InputError(
        f"train.batch_size: {batch_size} leaves one value for the batch statistics of a layer ({error}); raise it to "
        "2, or set `student: {norm: group}` or `norm: frozen` with pretrained weights"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine ran out of memory; torch has no class of its own for the latter."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def out_of_memory(run: Run, batch: Batch) -> WorkError:
    """Make the error that says what to reduce, and what the step needs by an estimate from one image."""
    run.optimizer.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    height, width = batch.images.shape[-2:]
    return WorkError(
        f"out of memory at step {run.counters.step + 1} with {len(batch.images)} images of {height}×{width} px: "
        f"{_estimate(run, batch)}. The state saved last is intact: lower "
        "train.batch_size (train.accumulate makes up for it) or data.image_size, or use bf16-mixed, and continue with "
        "--resume"
    )


def _estimate(run: Run, batch: Batch) -> str:
    """What the step needs; where models are divided this process alone cannot try it."""
    if run.engine.shards:
        return "too much for the parameters, whole during a step, and what the backward pass keeps"
    average = run.average is not None
    try:
        one = kept_for_backward(run.distiller, batch.only([0]), run.engine)
        activations = one * len(batch.images)
        needed = memory_of(run.distiller, run.optimizer, average=average, activations=activations).total
    except (RuntimeError, MemoryError):
        return "not even one image fits"
    return f"it needs some {needed / _GB:.1f} GB by an estimate from one image, {one / _GB:.2f} GB of it for each"
