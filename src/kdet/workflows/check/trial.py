"""kdet check --trial: a few steps with and without each term, from the same start, judged on held-out training images.

A hint and no verdict: one start, few steps, a learning rate that falls as in a run, and what helps early may not help
late. What it can show is a term that works against the task from the first steps on.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from kdet.errors import InputError
from kdet.evaluate import paired_t_interval
from kdet.train import Recipe, open_data
from kdet.train.recipe.models import TermRecipe
from kdet.workflows.check.problems import Problem
from kdet.workflows.check.teacher_worth import sampled
from kdet.workflows.check.trial_run import Outcome, outcome_of
from kdet.workflows.search.run import HOLD_OUT
from kdet.workflows.seen import flattered

WITHOUT, ALL = "without", "all together"
_TRAINING, _JUDGING = 0.7, 0.2
"""Shares of the time; the rest is for building the models."""
_LEAST_STEPS = 12
_LEAST_BATCHES = 2
_KNOWN_AP = 0.02
"""AP that some student must have for AP to say anything."""
_WORSE_LOSS, _WORSE_AP = 0.1, 0.2
"""Parts of what the student without terms has, from which on harm is clear."""

Way = Literal["better", "worse", "no clear difference"]


class TooShort(Exception):
    """The time does not allow a trial."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One student after the steps of the trial."""

    name: str
    loss: float
    """The task's on the held-out images: mean over batches."""
    difference: float | None
    """Difference of the loss from that of the student without terms, which has None."""
    interval: tuple[float, float] | None
    """95 % over the batches: how sure the difference is on such images, for this one start."""
    way: Way | None
    AP: float | None
    """AP on the same images; None where no student's is worth naming."""


def try_terms(recipe: Recipe, seconds: float, step: Mapping[str, Any]) -> dict[str, Any]:
    """Train and judge a student without terms, one with each of them, and one with all, in about so many seconds.

    Args:
        recipe: with a teacher and terms; a part of its training images is held out if it does not say so itself.
        seconds: that it may take.
        step: what a step costs: the section of `kdet check`.

    Returns:
        Steps, images and notes, and under `students` the fields of a `Tried` for each.

    Raises:
        InputError: no terms to try.
        TooShort: there is no time for a dozen steps.
        WorkError: the numbers of a student broke.
    """
    variants = variants_of(recipe)
    costs = [step["seconds" if own.teachers and name != WITHOUT else "alone_seconds"] for name, own in variants.items()]
    together = recipe.train.accumulate * sum(cost + step["load_seconds"] for cost in costs)
    steps = int(_TRAINING * seconds / together)
    if steps < _LEAST_STEPS:
        raise TooShort(
            f"{_LEAST_STEPS} steps of {len(variants)} students take {_LEAST_STEPS * together:.0f} s here, and judging "
            f"them comes on top: nothing was tried; give --trial {_LEAST_STEPS * together / _TRAINING:.0f}s or more"
        )
    held_out = open_data(variants[WITHOUT]).val
    batch = step["alone_seconds"] + step["load_seconds"]
    batches = max(_LEAST_BATCHES, int(_JUDGING * seconds / (len(variants) * batch)))
    rows = sampled(len(held_out.index), recipe.train.seed, most=batches * recipe.train.batch_size)
    found: dict[str, Outcome] = {}
    for name, own in variants.items():
        print(f"trial: {name}", file=sys.stderr, flush=True)
        found[name] = outcome_of(own, name, steps=steps, rows=rows)
    known = max(one.ap for one in found.values()) >= _KNOWN_AP
    first = found[WITHOUT]
    return {
        "steps": first.steps,
        "of_steps": first.of_steps,
        "training_images": first.images,
        "held_out_images": len(rows),
        "students": [asdict(_tried(name, one, first, known=known)) for name, one in found.items()],
        "notes": list(flattered(variants[WITHOUT].model_copy(update={"teacher": recipe.teacher}), held_out)),
    }


def harm(trial: Mapping[str, Any]) -> Iterator[Problem]:
    """Students that are clearly worse than the one without terms: by AP where it is known, else by the loss."""
    without, *others = trial["students"]
    for one in others:
        if without["AP"] is not None:
            clear = one["AP"] < (1 - _WORSE_AP) * without["AP"]
            shown = f"AP {one['AP']:.3f} against {without['AP']:.3f}"
        else:
            clear = one["way"] == "worse" and one["difference"] > _WORSE_LOSS * abs(without["loss"])
            shown = f"the task's loss {one['loss']:.3g} against {without['loss']:.3g}"
        if clear:
            text = (
                f"{one['name']}: after {trial['steps']} steps {shown} without it, on held-out training images; a "
                "smaller `ratio` or weight may mend it, and `kdet compare` tells whether it does"
            )
            yield Problem("trial", "warning", text)


def variants_of(recipe: Recipe) -> dict[str, Recipe]:
    """Return what is trained, by name; all start alike, from the teacher's weights where the recipe inherits them.

    Raises:
        InputError: no terms to try.
    """
    hold_out = HOLD_OUT if recipe.data.hold_out is None else recipe.data.hold_out
    data = recipe.data.model_copy(update={"unlabelled": None, "hold_out": hold_out})
    base = recipe.model_copy(update={"data": data, "arms": {}})
    terms: dict[str, Recipe] = {}
    for place, teacher in enumerate(recipe.teachers):
        whose = f"{teacher.name or f't{place + 1}'}/" if len(recipe.teachers) > 1 else ""
        for term in recipe.distill if teacher.distill is None else teacher.distill:
            if not term.placebo:
                terms[whose + (term.name or term.method)] = _with_only(base, place, term)
    if not terms:
        raise InputError("--trial: the recipe has no terms to try; add e.g. `distill: [{method: structural}]`")
    return {WITHOUT: base.alone(inherit=True), **terms, **({ALL: base} if len(terms) > 1 else {})}


def _with_only(recipe: Recipe, place: int, term: TermRecipe) -> Recipe:
    """One term of one teacher; where the student starts from the first one, it stays, with a term that does nothing."""
    kept = [recipe.teachers[place].model_copy(update={"distill": [term]})]
    if place and recipe.student.inherit:
        nothing = term.model_copy(update={"weight": 0.0, "placebo": True})
        kept.insert(0, recipe.teachers[0].model_copy(update={"distill": [nothing]}))
    return recipe.model_copy(update={"teacher": kept if len(kept) > 1 else kept[0], "distill": []})


def _tried(name: str, own: Outcome, without: Outcome, *, known: bool) -> Tried:
    ap, loss = own.ap if known else None, fmean(own.losses)
    if own is without:
        return Tried(name=name, loss=loss, difference=None, interval=None, way=None, AP=ap)
    differences = [one - other for one, other in zip(own.losses, without.losses, strict=True)]
    interval = paired_t_interval(differences)
    return Tried(name=name, loss=loss, difference=fmean(differences), interval=interval, way=_way(interval), AP=ap)


def _way(interval: Sequence[float] | None) -> Way:
    """A lower loss is better."""
    if interval is None:
        return "no clear difference"
    low, high = interval
    return "better" if high < 0 else "worse" if low > 0 else "no clear difference"
