"""kdet check: everything that can be known about a recipe before hours are spent on it. Writes nothing that stays."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from statistics import median
from typing import Any

import torch
from torch.optim import Optimizer

from kdet.data import Source, inspect, leak, look, make_loader
from kdet.distill import Distiller, fit_adapters
from kdet.distill.preflight.doubts import doubtful_weights
from kdet.distill.preflight.proof import Evidence, examine
from kdet.errors import InputError, WorkError
from kdet.ops.classes import real_classes
from kdet.train.optim import make_optimizer
from kdet.train.prepare import Prepared, prepare
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe
from kdet.train.state.failures import batch_norm_fault
from kdet.train.teaching.teacher_boxes import put_teacher_boxes
from kdet.types import Batch
from kdet.workflows.budget import seconds_of
from kdet.workflows.check.problems import Problem
from kdet.workflows.check.report import (
    Report,
    memory_section,
    step_section,
    teacher_sections,
    terms_section,
)
from kdet.workflows.check.step_cost import StepCost, measure
from kdet.workflows.check.teacher_worth import Worth, doubts, weigh
from kdet.workflows.check.trial import TooShort, harm, try_terms, variants_of
from kdet.workflows.seen import flattered

_SAMPLE = 64
"""Training images that are decoded."""
_BATCHES = 3
"""Batches of the first epoch on which steps are timed."""
_LOOKED_AT = 8
"""Batches whose unlabelled images have the teacher's boxes; further ones are read where these hold no object."""


@dataclass(frozen=True, kw_only=True)
class Probe(Prepared):
    """The same with its first batches, on the device and in training mode."""

    engine: Engine
    optimizer: Optimizer
    batches: list[Batch]
    """Batches of the run's first epoch; the first of them holds an object."""
    load_seconds: float
    """Seconds to load one batch in this process."""


def check(recipe: Recipe, *, trial: str | None = None) -> Report:
    """Check a recipe, with or without a teacher.

    Args:
        recipe: the recipe.
        trial: time for a few steps with and without each term, such as 2m; None = no such trial.

    Returns:
        What was found, in sections, with problems and how to mend them.

    Raises:
        InputError: it cannot even be built: missing files, other classes, terms that the pair cannot serve. Or it
            cannot be tried: no terms, or no time.
    """
    seconds = None if trial is None else seconds_of(trial, "--trial")
    if seconds is not None:
        variants_of(recipe)  # whether there is anything to try
    report = report_on(probe(recipe))
    if seconds is None or report.step is None or not report.passed():
        return report
    try:
        found = try_terms(recipe, seconds, report.step)
    except TooShort as error:  # what the check found stands all the same
        return replace(report, problems=[*report.problems, Problem("trial", "warning", str(error))])
    except WorkError as error:
        return replace(report, problems=[*report.problems, Problem("trial", "failed", str(error))])
    return replace(report, trial=found, problems=[*report.problems, *harm(found)])


def probe(recipe: Recipe) -> Probe:
    """Build what a run would build, and load its first batches.

    Raises:
        InputError: as `check`.
    """
    engine = Engine(recipe.train.precision)
    prepared = prepare(recipe)
    distiller, data = prepared.distiller.to(engine.device).train(), prepared.data
    pairing = {
        line for paired in distiller.paired_teachers for line in paired.describe()
    }  # the levels' section says it
    notes = [note for note in prepared.notes if note not in pairing]
    looked_at = {i for batch in islice(prepared.sampler, _LOOKED_AT) for _, i in batch}
    put_teacher_boxes(recipe, distiller, data, engine, notes.append, only=looked_at)
    loader = make_loader(data, prepared.sampler)
    fit_adapters(distiller, (batch.to(engine.device) for batch in loader))
    batches, load_seconds = _first_batches(loader, engine)
    common: dict[str, Any] = {**vars(prepared), "notes": notes}
    return Probe(
        **common,
        engine=engine,
        optimizer=make_optimizer(distiller, recipe),
        batches=batches,
        load_seconds=load_seconds,
    )


def report_on(prepared: Probe) -> Report:
    """Look at everything; nothing of `prepared` is changed."""
    recipe, distiller = prepared.recipe, prepared.distiller
    problems = [
        Problem("data", "warning", text) for text in _data_doubts(prepared.train, prepared.val, prepared.unlabelled)
    ]
    problems += _image_doubts(prepared.train, prepared.val)
    found = [paired.pairing.classes for paired in distiller.paired_teachers]
    problems += [Problem("classes", "warning", classes.unknown()) for classes in found if classes.only_student]
    problems += [Problem("teacher", "warning", text) for text in flattered(recipe, prepared.val)]
    evidence, cost = _tried(prepared, problems)
    worths = _worths(prepared, problems) if distiller.paired_teachers else []
    device, workers = str(prepared.engine.device), prepared.engine.loaders(recipe.train.workers)
    beside = zip_longest(distiller.paired_teachers, worths)  # no worths where a teacher's boxes are not finite
    sections = [teacher_sections(paired, worth) for paired, worth in beside]
    return Report(
        data={"train": inspect(prepared.train), "val": inspect(prepared.val)},
        **(sections[0] if sections else {}),
        more_teachers=sections[1:],
        terms=evidence and terms_section(distiller, evidence),
        step=cost and step_section(recipe.train, device, workers, prepared.sampler.steps, prepared.load_seconds, cost),
        memory=cost and memory_section(cost),
        notes=prepared.notes,
        problems=problems,
    )


def _first_batches(loader: Iterable[Batch], engine: Engine) -> tuple[list[Batch], float]:
    """The first batch that holds an object, then a few more of the run's first; seconds to load one."""
    others: list[Batch] = []
    with_objects: Batch | None = None
    taken: list[float] = []
    started = time.perf_counter()
    for batch in loader:
        taken.append(time.perf_counter() - started)
        if with_objects is None and any(len(target["boxes"]) for target in batch.targets or []):
            with_objects = batch.to(engine.device)
        elif len(others) < _BATCHES - 1:
            others.append(batch.to(engine.device))
        if with_objects is not None and len(others) == _BATCHES - 1:
            break
        started = time.perf_counter()
    if with_objects is None:
        raise InputError("no training image holds an object, so nothing can be learned; check the annotations")
    return [with_objects, *others], median(taken)


def _data_doubts(train: Source, val: Source, unlabelled: Source | None) -> Iterator[str]:
    for split, source in (("training", train), ("validation", val)):
        counts = source.index.class_counts()
        if empty := [name for name in real_classes(source.index.classes) if not counts[name]]:
            yield f"no {split} image holds {', '.join(empty)}; add some, or leave the class out"
    for seen in (train, unlabelled):
        if seen is not None and (shared := leak(seen, val)):
            yield shared


def _image_doubts(train: Source, val: Source) -> Iterator[Problem]:
    """All validation images are decoded, and a sample of the others."""
    for split, source, most in (("training", train, _SAMPLE), ("validation", val, None)):
        found = look(source, most=most, decode=True)
        yield from (Problem("data", "failed", f"{split} data: {text}; mend what is named") for text in found.faults)
        yield from (Problem("data", "warning", f"{split} data: {text}") for text in found.notes)


def _tried(prepared: Probe, problems: list[Problem]) -> tuple[Evidence | None, StepCost | None]:
    """The proof that distillation acts, and the cost of a step; what is wrong goes to `problems`."""
    evidence = None
    try:
        if prepared.distiller.criterion is not None:
            with prepared.engine.autocast():
                evidence = examine(prepared.distiller, prepared.batches[0], prepared.optimizer)
            problems += [Problem("terms", "failed", text) for text in evidence.all_faults]
            doubts_of_weights = doubtful_weights(prepared.distiller.criterion, evidence.gradients)
            problems += [Problem("terms", "warning", text) for text in doubts_of_weights]
        cost = _cost(prepared, evidence)
    except ValueError as error:
        fault = batch_norm_fault(error, prepared.recipe.train.batch_size)
        if fault is None:
            raise
        problems.append(Problem("step", "failed", str(fault)))
        return evidence, None
    except torch.OutOfMemoryError:
        size = prepared.recipe.train.batch_size
        mend = "lower train.batch_size (train.accumulate makes up for it), or use bf16-mixed or smaller images"
        problems.append(Problem("memory", "failed", f"a step of {size} images does not fit into the memory; {mend}"))
        return evidence, None
    if broken := [name for name, value in cost.parts.items() if not math.isfinite(value)]:
        text = f"{', '.join(broken)}: not finite on the first batch; check the student's weights and the boxes"
        problems.append(Problem("step", "failed", text))
    return evidence, cost


def _cost(prepared: Probe, evidence: Evidence | None) -> StepCost:
    """Measure the distilled student's step; the student's alone where no term is given, or none can be computed."""
    acts = evidence is not None and evidence.values
    module = prepared.distiller if acts else Distiller(prepared.distiller.student).train()
    average = prepared.recipe.train.ema is not None
    return measure(module, prepared.optimizer, prepared.batches, prepared.engine, average=average)


def _worths(prepared: Probe, problems: list[Problem]) -> list[Worth]:
    try:
        worths = weigh(prepared.recipe, prepared.distiller, prepared.val, prepared.engine)
    except WorkError as error:  # boxes or scores that are not finite
        problems.append(Problem("teacher", "failed", str(error)))
        return []
    for worth, paired in zip(worths, prepared.distiller.paired_teachers, strict=True):
        problems += doubts(worth, paired)
    return worths
