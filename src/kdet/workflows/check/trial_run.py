"""One student of a trial: trained as a run trains it, and judged on held-out images. Nothing of it is kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kdet.data import DetectionDataset, Pipeline, make_loader
from kdet.distill import Distiller
from kdet.errors import WorkError
from kdet.ops.randomness import seeded
from kdet.train import Recipe
from kdet.train.data import relabelled
from kdet.train.look import scored
from kdet.train.loop import assemble, fit_start
from kdet.train.optim import steps_of
from kdet.train.prepare import prepare
from kdet.train.processes.engine import Engine
from kdet.train.state.interruption import Interruption
from kdet.train.state.run import Run
from kdet.train.state.run_log import RunLog
from kdet.train.step import take_step
from kdet.train.teaching.teacher_boxes import put_teacher_boxes
from kdet.types import Batch, Detector
from kdet.workflows.check.teacher_worth import score

_BATCHES = 8
"""Least number of batches to judge on."""
_NEVER = 2**31
"""Steps between records of a log that nobody reads."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a student came to."""

    losses: list[float]
    """The task's, one a batch of the held-out images, the same batches and random numbers for all students."""
    ap: float
    steps: int
    of_steps: int
    """Steps of the whole run."""
    images: int
    """Number of images that it was trained on."""


def outcome_of(recipe: Recipe, name: str, *, steps: int, rows: Sequence[int]) -> Outcome:
    """Train for so many steps, or a whole run if it is shorter, and judge.

    Args:
        recipe: with `hold_out`.
        name: as messages call the student.
        steps: over which the learning rate falls.
        rows: of the held-out images, those that are judged on.

    Raises:
        WorkError: numbers that are not finite, or too little memory.
    """
    settings = recipe.train
    short = {"max_steps": min(steps, settings.max_steps or steps), "log_every": _NEVER, "patience": None}
    own = recipe.model_copy(update={"train": settings.model_copy(update=short)})
    with TemporaryDirectory() as folder:  # a step that breaks keeps its batch
        run = _built(own, Path(folder))
        try:
            _train(run)
        except WorkError as error:
            raise WorkError(f"--trial: {name}: {str(error).partition('. ')[0]}") from None
    student, size, judged = scored(run), recipe.data.image_size, list(rows)
    found = score(
        student,
        name,
        source=run.scorer.source,
        rows=judged,
        recipe=recipe,
        engine=run.engine,
        image_size=size,
        canvas=student.canvas,
    )
    return Outcome(
        losses=list(_losses(run, student, judged)),
        ap=found["AP"],
        steps=run.counters.step,
        of_steps=steps_of(settings, run.sampler.steps),
        images=run.sampler.length,
    )


def _built(recipe: Recipe, folder: Path) -> Run:
    """Build the run as `fit` does, up to its first step."""
    engine = Engine(recipe.train.precision)
    prepared = prepare(recipe)
    sampler, steps = prepared.sampler, (recipe.train.max_steps or 0) * recipe.train.accumulate
    seen = {i for batch in islice(sampler, steps) for _, i in batch} if steps <= sampler.steps else None
    put_teacher_boxes(recipe, prepared.distiller, prepared.data, engine, prepared.notes.append, only=seen)
    log, interruption = RunLog(folder, active=False), Interruption()  # not entered: Ctrl-C ends a check at once
    run = assemble(prepared, folder, engine, log, interruption)
    fit_start(run)
    return run


def _train(run: Run) -> None:
    counters = run.counters
    while not run.finished:
        run.sampler.set_epoch(counters.epoch)
        run.module.train()
        for batch in run.loader:
            take_step(run, batch.to(run.engine.device))
            counters.batch += 1
            if run.finished:
                break
        counters.epoch, counters.batch = counters.epoch + 1, 0


def _losses(run: Run, student: Detector, rows: Sequence[int]) -> Iterator[float]:
    """The sum of the task's losses of each batch, in training mode: the only one in which every family has them."""
    alone = Distiller(student).train()
    for place, batch in enumerate(_batches(run, student, rows)):
        with torch.no_grad(), seeded(run.recipe.train.seed, place, device=run.engine.device):
            yield float(alone(batch.to(run.engine.device), progress=1.0).total)


def _batches(run: Run, student: Detector, rows: Sequence[int]) -> Iterator[Batch]:
    """All of one size, two images or more, for batch normalisation; what remains is left out unless it is all."""
    # Small ones: the interval is over the batches, and of two or three it would show nothing.
    size = min(len(rows), max(2, min(run.recipe.train.batch_size, len(rows) // _BATCHES)))
    batches = [[(0, row) for row in rows[first : first + size]] for first in range(0, len(rows) - size + 1, size)]
    pipeline = Pipeline(run.recipe.data.image_size, canvas=student.canvas)
    data = DetectionDataset(relabelled(run.scorer.source, student.class_names), pipeline)
    yield from make_loader(data, batches)
