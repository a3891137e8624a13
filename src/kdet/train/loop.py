"""fit(): for batch … step … log … evaluate … save; reads top to bottom."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim.swa_utils import AveragedModel

from kdet.data import DetectionDataset, Source, make_loader
from kdet.distill import fit_adapters
from kdet.distill.preflight.doubts import doubtful_weights
from kdet.distill.preflight.proof import proven
from kdet.errors import InputError, Interrupted
from kdet.train.build import resolved
from kdet.train.data import open_data
from kdet.train.look import evaluate, scored, stopped_early
from kdet.train.maps import write_maps
from kdet.train.optim import describe_groups, make_optimizer, moving_average, steps_of, warmup_steps
from kdet.train.prepare import Prepared, prepare
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe
from kdet.train.scoring import Scorer
from kdet.train.sound_data import require_apart, require_sound
from kdet.train.state import checkpoint
from kdet.train.state.failures import require_finite
from kdet.train.state.interruption import Interruption, said
from kdet.train.state.resuming import changed, take_anew
from kdet.train.state.run import Run, Watch
from kdet.train.state.run_folder import (
    RESUME,
    TEACHER,
    UNLABELLED,
    as_begun,
    begin,
    saved_state,
    write_json,
)
from kdet.train.state.run_log import Progress, RunLog
from kdet.train.step import take_step
from kdet.train.teaching.teacher_boxes import put_teacher_boxes
from kdet.train.teaching.teacher_cache import open_caches, say_what_was_found


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run comes to."""

    folder: Path
    metrics: dict[str, Any]
    """Metrics of the last epoch."""
    best_epoch: int
    stopped_early: str | None
    """Why, where `patience` ended the run."""
    seconds: float
    """Training time, evaluation left out."""
    parameters: int
    steps: int


def fit(
    recipe: Recipe, folder: Path, *, resume: bool = False, strict: bool = False, watch: Watch | None = None
) -> Outcome:
    """Train the student of a recipe, alone or distilled.

    Args:
        recipe: with `teacher:` and `distill:`, or without either.
        folder: the run folder to make, or with `resume` to continue.
        resume: continue where the saved state stands.
        strict: refuse data that would flatter the student.
        watch: asked after each look at AP; what it has to warn of goes to the log.

    Returns:
        Metrics of the last epoch, the best epoch, training time and where the run lies.

    Raises:
        InputError: wrong input; nothing is left half-written.
        WorkError: the training itself failed.
        Interrupted: SIGTERM or SIGINT came; the state is saved.
    """
    recipe = as_begun(recipe, folder) if resume else recipe
    engine = Engine(recipe.train.precision, shard=recipe.train.shard)
    splits = open_data(recipe)
    notes = list(splits.notes)
    require_sound(splits.train, splits.val, notes.append, strict=strict)
    prepared = prepare(recipe, splits=splits, rank=engine.rank, world=engine.world)
    distiller = prepared.distiller
    notes += prepared.notes
    if prepared.unlabelled is not None:
        require_apart(prepared.unlabelled, splits.val, notes.append, strict=strict)
    recorded = resolved(recipe, splits.train)
    changes = changed(recorded, folder) if resume and saved_state(folder) else {}
    going_on = engine.is_main and begin(folder, recorded, resume=resume)
    going_on = bool(engine.highest(int(going_on)))
    with RunLog(folder, active=engine.is_main) as log, Interruption() as interruption:
        run = assemble(prepared, folder, engine, log, interruption)
        run.watch = watch
        if going_on:
            run.counters = checkpoint.load(folder / RESUME, distiller, run.optimizer, run.average)
            engine.restore_scaler(run.counters.scaler)
            notes += take_anew(run, recorded, changes)
        for note in notes:
            log.say(note)
        log.say(f"data: training {_counted(splits.train)}; validation {_counted(splits.val)}")
        if loaders := engine.loaders(recipe.train.workers):
            log.say(f"train.workers: {loaders} processes load images")
        log.say(describe_groups(run.optimizer, distiller.model))
        try:
            _find_boxes(run)
            if going_on:
                log.say(f"resumed at step {run.counters.step} of {run.total_steps}")
            else:
                fit_start(run)
                _prove(run)
            if not (folder / TEACHER).exists():
                with interruption.at_once():
                    run.scorer.teach(distiller.paired_teachers)
            open_caches(run)  # not before the proof, which looks at other pixels
            engine.divide(run.module, run.optimizer)
            return _train(run)
        except InputError:
            if engine.is_main and not resume and not saved_state(folder):
                shutil.rmtree(folder, ignore_errors=True)  # wrong input leaves nothing half-written
            raise


def _counted(source: Source) -> str:
    index = source.index
    return f"{len(index)} images with {len(index.labels)} boxes of {len(index.classes)} classes"


def assemble(prepared: Prepared, folder: Path, engine: Engine, log: RunLog, interruption: Interruption) -> Run:
    """Assemble a run before its first step, from what was built for it."""
    recipe, distiller, student = prepared.recipe, prepared.distiller, prepared.student
    settings, data, sampler = recipe.train, prepared.data, prepared.sampler
    optimizer = make_optimizer(distiller, recipe)
    module, optimizer = engine.prepare(distiller, optimizer)
    average = None
    if settings.ema is not None:
        average = AveragedModel(student.model, multi_avg_fn=moving_average(settings.ema), use_buffers=True)
    total_steps = steps_of(settings, sampler.steps)
    if distiller.criterion is not None:
        distiller.criterion.balance.warmup = warmup_steps(settings, total_steps) * settings.accumulate
    return Run(
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
        loader=make_loader(
            data, sampler, workers=engine.loaders(settings.workers), pin_memory=engine.device.type == "cuda"
        ),
        scorer=Scorer(recipe, folder, engine, log, prepared.val, student.canvas),
        total_steps=total_steps,
        interruption=interruption,
    )


def _find_boxes(run: Run) -> None:
    """Find the teacher's boxes before anything reads the training images; the same ones again where a run goes on."""
    assert isinstance(run.loader.dataset, DetectionDataset)
    with run.interruption.at_once():
        found = put_teacher_boxes(run.recipe, run.distiller, run.loader.dataset, run.engine, run.log.say)
    if found is not None and run.engine.is_main:
        write_json(run.folder / UNLABELLED, found)


def fit_start(run: Run) -> None:
    """Start the adapters before the proof, which shows the terms as they then are."""
    run.distiller.train()
    run.sampler.set_epoch(0)
    batches = (batch.to(run.engine.device) for batch in run.loader)
    if fitted := fit_adapters(run.distiller, batches):
        run.log.say(f"adapters of {', '.join(fitted)}: started by least squares on the first batches")


def _prove(run: Run) -> None:
    """Prove before the first epoch that distillation acts, or do not begin the run."""
    if run.distiller.criterion is None:
        return
    run.distiller.train()
    run.sampler.set_epoch(0)
    for batch in run.loader:
        if any(len(target["boxes"]) for target in batch.targets or []):
            with run.engine.autocast():
                evidence = proven(run.distiller, batch.to(run.engine.device), run.optimizer)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in evidence.values.items())
            run.log.say(f"distillation acts; first values before weights: {shown}")
            for doubt in doubtful_weights(run.distiller.criterion, evidence.gradients):
                run.log.say(f"before the first step, {doubt}")
            return
    raise InputError("no training image holds an object, so nothing can be learned; check the annotations")


def _train(run: Run) -> Outcome:
    counters, every = run.counters, run.recipe.train.evaluate_every
    metrics: dict[str, Any] | None = None
    while True:
        look = run.finished or (every and counters.batch == 0 and counters.epoch % every == 0)
        if look and counters.step > counters.evaluated:
            with run.interruption.at_once():
                metrics = evaluate(run)
            _save(run)
        if run.finished:
            break
        _epoch(run)
        _save(run)
    say_what_was_found(run)
    if metrics is None:  # it was finished before, or all of its time was needed
        metrics = evaluate(run)
    with run.engine.whole():
        _write_maps(run)
    return Outcome(
        folder=run.folder,
        metrics=metrics,
        best_epoch=counters.best_epoch,
        stopped_early=stopped_early(run),
        seconds=counters.seconds,
        parameters=sum(p.numel() for p in run.student.model.parameters()),
        steps=counters.step,
    )


def _write_maps(run: Run) -> None:
    if run.engine.is_main:
        assert isinstance(run.loader.dataset, DetectionDataset)
        data = DetectionDataset(run.scorer.source, run.loader.dataset.pipeline.plain())
        write_maps(run.folder, data, scored(run), run.distiller, run.engine.device)


def _epoch(run: Run) -> None:
    """One pass over the images, or what is left of it.

    Raises:
        Interrupted: a signal came; the state is saved.
    """
    counters, settings = run.counters, run.recipe.train
    run.sampler.set_epoch(counters.epoch, counters.batch)
    run.module.train()
    size = settings.batch_size * run.engine.world
    label = f"{run.folder.name}: epoch {counters.epoch + 1}/{settings.epochs}"
    progress = Progress(label, run.sampler.steps * size, done=counters.batch * size)
    before = run.since = run.saved = time.monotonic()
    run.unlogged = 0
    try:
        for batch in run.loader:
            run.unlogged += size
            loss = take_step(run, batch.to(run.engine.device))
            counters.batch += 1
            now = time.monotonic()
            counters.seconds += now - before
            before = now
            if run.engine.is_main:
                progress.advance(size, f"loss {loss:.3f}")
            if run.finished:
                break
            _save_in_between(run)
    finally:
        progress.close()
    if counters.batch == run.sampler.steps:
        counters.epoch += 1
        counters.batch = 0


def _save_in_between(run: Run) -> None:
    """Save where a signal came or the last state is old, all ranks alike, and never in the middle of a step."""
    if run.counters.batch % run.recipe.train.accumulate:
        return
    old = time.monotonic() - run.saved > 60 * run.recipe.train.save_minutes
    wanted = run.engine.highest(2 if run.interruption.caught else int(old))
    if wanted:
        _save(run)
    if wanted == 2:
        step = f"{run.folder}: after step {run.counters.step} of {run.total_steps}"
        raise Interrupted(f"{step} {said(run.interruption.caught or 'a signal to another process')}")


def _save(run: Run) -> None:
    """The state of all ranks, by the first."""
    weights = run.engine.gathered(run.distiller.state_dict())
    optimizer = run.engine.gathered(run.optimizer.state_dict())
    run.saved = time.monotonic()
    if run.engine.is_main:
        require_finite(run, weights)
        run.counters.scaler = run.engine.scaler_state()
        checkpoint.save(run.folder / RESUME, weights, optimizer, run.average, run.counters)
