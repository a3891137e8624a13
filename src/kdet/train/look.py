"""A look at AP: which weights are kept for it, what metrics.json says of them, and whether it was the last."""

import copy
from typing import Any

from kdet.train.state.run import Run
from kdet.train.state.run_folder import BEST, LAST, METRICS, save_student, write_json
from kdet.types import Detector


def evaluate(run: Run) -> dict[str, Any]:
    """Score the student as it stands, keep the last and the best weights, and count looks without a new best.

    Returns:
        COCO's metrics in 0…1, per class too; VOC's own where the data are VOC.

    Raises:
        InputError: the validation images hold no object.
    """
    counters, detector = run.counters, scored(run)
    run.engine.share_buffers(detector.model)
    epoch = counters.epoch + (counters.batch > 0)  # an epoch that `max_steps` cut counts as one
    with run.engine.whole():
        metrics = run.scorer.student(detector, step=counters.step, epoch=epoch)
    better = metrics["AP"] > counters.best_ap  # on all ranks alike: each has the predictions of all
    if better:
        counters.best_ap, counters.best_epoch, counters.best_step = metrics["AP"], epoch, counters.step
    first = counters.step > counters.evaluated  # a finished run that is resumed looks once more at the same step
    if first:
        counters.misses = 0 if better else counters.misses + 1
        counters.evaluated = counters.step
    state = run.engine.gathered(detector.native_state())
    if run.engine.is_main:
        save_student(detector, state, run.folder / LAST)
        if better:
            save_student(detector, state, run.folder / BEST)
        write_json(run.folder / METRICS, metrics | _which(run, metrics["AP"], epoch))
        if run.watch is not None and (warning := run.watch()):
            run.log.say(f"{run.folder.name}: warning: {warning}")
            run.watch = None
    run.engine.wait()
    if first and (reason := stopped_early(run)):
        run.log.say(f"{run.folder.name}: {reason}")
    return metrics


def scored(run: Run) -> Detector:
    """Return the student whose AP counts: as it stands, or its moving average."""
    if run.average is None:
        return run.student
    detector = copy.copy(run.student)
    detector.model = run.average.module
    return detector


def stopped_early(run: Run) -> str | None:
    """Return why the run ended before its last step, where `patience` ended it."""
    counters = run.counters
    if not run.gave_up or counters.step >= run.total_steps:
        return None
    return (
        f"stopped early at step {counters.step} of {run.total_steps}: {counters.misses} looks at AP in a row without a "
        f"new best (patience {run.recipe.train.patience}); the best was {counters.best_ap:.3f} at step "
        f"{counters.best_step}"
    )


def _which(run: Run, ap: float, epoch: int) -> dict[str, Any]:
    """Say whose metrics these are, and which weights are the best."""
    counters = run.counters
    best = {"epoch": counters.best_epoch, "step": counters.best_step, "AP": counters.best_ap, "weights": BEST}
    return {
        "best": best,
        "last": {"epoch": epoch, "step": counters.step, "AP": ap, "weights": LAST},
        "epoch": epoch,
        "total_steps": run.total_steps,
        "stopped_early": stopped_early(run),
    }
