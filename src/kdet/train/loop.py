"""fit(): for batch … step … log … evaluate … save; reads top to bottom."""

import copy
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from kdet.data import DetectionDataset, EpochSampler, Pipeline, Source, make_loader
from kdet.distill import Distiller, prove_it_acts
from kdet.errors import InputError, WorkError
from kdet.train import checkpoint
from kdet.train.build import build_distiller, build_student, image_size, open_data, relabelled
from kdet.train.checkpoint import Counters
from kdet.train.engine import Engine
from kdet.train.optim import learning_rate, make_optimizer
from kdet.train.recipe import Recipe
from kdet.train.run_folder import BEST, LAST, RESUME, begin, save_student, write_json
from kdet.train.run_log import Progress, RunLog
from kdet.train.scoring import Scorer
from kdet.types import Batch, Detector, LossReport

_MEND = "The state saved last is intact: lower train.lr, set train.clip_norm, or use fp32, and continue with --resume"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run comes to."""

    folder: Path
    metrics: dict[str, Any]
    """Of the last epoch."""
    best_epoch: int
    seconds: float
    """Training time, evaluation left out."""
    parameters: int
    steps: int


@dataclass(kw_only=True)
class _Run:
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
    counters: Counters = field(default_factory=Counters)
    unlogged: int = 0
    """Images since the last record."""
    since: float = 0.0


def fit(recipe: Recipe, folder: Path, *, resume: bool = False) -> Outcome:
    """Train the student of a recipe, alone or distilled.

    Args:
        recipe: with `teacher:` and `distill:`, or without either.
        folder: the run folder to make, or with `resume` to continue.
        resume: continue where the saved state stands.

    Raises:
        InputError: wrong input; nothing is left half-written.
        WorkError: the training itself failed.
    """
    torch.manual_seed(recipe.train.seed)
    engine = Engine(recipe.train.precision)
    notes: list[str] = []
    train_source, val_source = open_data(recipe, notes.append)
    student = build_student(recipe, train_source.index.classes, notes.append)
    distiller = build_distiller(recipe, student, train_source.index.classes, notes.append)
    if engine.is_main:
        begin(folder, recipe, resume=resume)
    engine.wait()
    with RunLog(folder, active=engine.is_main) as log:
        for note in notes:
            log.say(note)
        run = _prepare(recipe, folder, engine, log, student, distiller, train_source, val_source)
        if resume:
            run.counters = checkpoint.load(folder / RESUME, distiller, run.optimizer, run.average)
            log.say(f"resumed at step {run.counters.step} of {run.total_steps}")
        else:
            try:
                _prove(run)
                run.scorer.teacher(distiller.teacher)
            except InputError:
                shutil.rmtree(folder)  # wrong input leaves nothing half-written
                raise
        return _train(run)


def _prepare(
    recipe: Recipe,
    folder: Path,
    engine: Engine,
    log: RunLog,
    student: Detector,
    distiller: Distiller,
    train_source: Source,
    val_source: Source,
) -> _Run:
    settings = recipe.train
    labelled = relabelled(train_source, student.class_names)
    data = DetectionDataset(labelled, Pipeline(image_size(recipe), recipe.data.augment), seed=settings.seed)
    sampler = EpochSampler(
        len(data), batch_size=settings.batch_size, seed=settings.seed, rank=engine.rank, world=engine.world
    )
    optimizer = make_optimizer(distiller.parameters(), settings)
    module, optimizer = engine.prepare(distiller, optimizer)
    average = None
    if settings.ema is not None:
        average = AveragedModel(student.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
    steps = math.ceil(sampler.steps / settings.accumulate) * settings.epochs
    return _Run(
        recipe=recipe,
        folder=folder,
        engine=engine,
        log=log,
        student=student,
        distiller=distiller,
        module=module,
        optimizer=optimizer,
        average=average,
        sampler=sampler,
        loader=make_loader(data, sampler, workers=settings.workers, pin_memory=engine.device.type == "cuda"),
        scorer=Scorer(recipe, folder, engine, log, val_source),
        total_steps=min(steps, settings.max_steps or steps),
    )


def _prove(run: _Run) -> None:
    """Before the first epoch: distillation acts, or the run does not begin."""
    if run.distiller.criterion is None:
        return
    run.distiller.train()
    run.sampler.set_epoch(0)
    for batch in run.loader:
        if any(len(target["boxes"]) for target in batch.targets or []):
            # The run's random numbers stay as they are without a teacher, so that arms are paired.
            with torch.random.fork_rng(), run.engine.autocast():
                values = prove_it_acts(run.distiller, batch.to(run.engine.device), run.optimizer)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            run.log.say(f"distillation acts; first values before weights: {shown}")
            return
    raise InputError("no training image holds an object, so nothing can be learned; check the annotations")


def _train(run: _Run) -> Outcome:
    counters, epochs = run.counters, run.recipe.train.epochs
    metrics: dict[str, Any] | None = None
    finished = counters.step >= run.total_steps
    while counters.epoch < epochs and not finished:
        finished = _epoch(run)
        counters.epoch += 1
        counters.batch = 0
        every = run.recipe.train.evaluate_every
        finished = finished or counters.epoch == epochs
        metrics = _evaluate(run) if finished or (every and counters.epoch % every == 0) else None
        if run.engine.is_main:
            _require_finite(run)
            checkpoint.save(run.folder / RESUME, run.distiller, run.optimizer, run.average, counters)
    if metrics is None:
        metrics = _evaluate(run)
    return Outcome(
        folder=run.folder,
        metrics=metrics,
        best_epoch=counters.best_epoch,
        seconds=counters.seconds,
        parameters=sum(p.numel() for p in run.student.model.parameters()),
        steps=counters.step,
    )


def _epoch(run: _Run) -> bool:
    """One pass over the images; whether the run is to end here."""
    counters, settings = run.counters, run.recipe.train
    run.sampler.set_epoch(counters.epoch, counters.batch)
    run.module.train()
    size = settings.batch_size * run.engine.world
    progress = Progress(
        f"epoch {counters.epoch + 1}/{settings.epochs}", run.sampler.steps * size, done=counters.batch * size
    )
    before = run.since = time.monotonic()
    run.unlogged = 0
    try:
        for batch in run.loader:
            run.unlogged += size
            report = _step(run, batch.to(run.engine.device))
            counters.batch += 1
            now = time.monotonic()
            counters.seconds += now - before
            before = now
            if run.engine.is_main:
                progress.advance(size, f"loss {float(report.total.detach()):.3f}")
            if counters.step >= run.total_steps:
                return True
    finally:
        progress.close()
    return False


def _step(run: _Run, batch: Batch) -> LossReport:
    """Forward, backward, and where gradients are complete an optimizer step."""
    counters, settings = run.counters, run.recipe.train
    lr = learning_rate(settings, counters.step, run.total_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    updates, batches = _place_in_step(run)
    with run.engine.step(run.module, updates=updates):
        try:
            report: LossReport = run.module(batch, progress=counters.step / run.total_steps)
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
        if counters.step % settings.log_every == 0 or counters.step == 1:
            _log_step(run, report, lr)
    return report


def _place_in_step(run: _Run) -> tuple[bool, int]:
    """Whether this batch ends an optimizer step, and how many batches make it; the last of an epoch may be of fewer."""
    wanted, done = run.recipe.train.accumulate, run.counters.batch
    first = done - done % wanted
    batches = min(wanted, run.sampler.steps - first)
    return done + 1 == first + batches, batches


def _log_step(run: _Run, report: LossReport, lr: float) -> None:
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
        rate=rate,
    )


def _non_finite(report: LossReport, batch: Batch) -> str:
    values = ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in report.parts.items())
    low, high = float(batch.images.min()), float(batch.images.max())
    return f"the loss is not finite ({values}) on images {batch.image_ids}, pixels {low:.3g}…{high:.3g}. {_MEND}"


def _require_finite(run: _Run) -> None:
    """Before a state is saved: weights that broke in the epoch's last step must not replace the last good ones."""
    for name, parameter in run.distiller.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise WorkError(f"{name} is not finite after step {run.counters.step}. {_MEND}")


def _evaluate(run: _Run) -> dict[str, Any]:
    """A look at AP; keeps the last weights and the best ones."""
    counters = run.counters
    detector = run.student
    if run.average is not None:
        detector = copy.copy(run.student)
        detector.model = run.average.module
    metrics = run.scorer.student(detector, step=counters.step, epoch=counters.epoch)
    if run.engine.is_main:
        state = detector.native_state()
        save_student(detector, state, run.folder / LAST)
        if metrics["AP"] > counters.best_ap:
            counters.best_ap, counters.best_epoch = metrics["AP"], counters.epoch
            save_student(detector, state, run.folder / BEST)
        best = {"best": {"epoch": counters.best_epoch, "AP": counters.best_ap}}
        write_json(run.folder / "metrics.json", metrics | best | {"epoch": counters.epoch})
    run.engine.wait()
    return metrics
