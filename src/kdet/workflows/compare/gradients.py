"""What each arm's terms weighed and how hard they pulled, by the logs of its runs."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from kdet.distill import Term
from kdet.distill.preflight.doubts import USUAL_RATIO
from kdet.report.collect import StepRecord, read_run
from kdet.train import Recipe
from kdet.train.teaching.teachers import terms_by_teacher
from kdet.workflows.compare.arms import Arm


def terms_of(recipe: Recipe, arm: Arm, folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return for each term its setting, what `weight: auto` came to, and its gradient ratio.

    Args:
        recipe: of the comparison.
        arm: whose terms.
        folders: its runs, one a seed.

    Returns:
        `weight` (a number or auto), `ratio` (of auto; else None), `placebo`, `weights` (of auto, by level or term: the
        median over seeds of the last ones; empty otherwise) and `pull`, the gradient at the student's neck as a
        multiple of the task's at full weight: the median over all measurements, None where there is none.
    """
    logs = [read_run(folder).steps for folder in folders]
    return {
        name: {
            "weight": term.weight,
            "ratio": term.ratio if term.weight == "auto" else None,
            "placebo": term.placebo,
            "weights": _last_weights(name, logs),
            "pull": _median_pull(name, logs),
        }
        for name, term in _named(recipe, arm)
    }


def straw_men(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the terms of fixed weight that pulled so hard or so weakly that their arm says little about the method.

    Args:
        arms: by arm what `terms_of` returned.
    """
    least, most = USUAL_RATIO
    found: list[str] = []
    for arm, terms in arms.items():
        for name, term in terms.items():
            if term["weight"] == "auto" or term["placebo"] or term["pull"] is None or least <= term["pull"] <= most:
                continue
            found.append(
                f"arm {arm}: {name} pulled {term['pull']:.3g} times as hard as the task at weight {term['weight']:g} "
                f"({least:g} to {most:g} is usual), which says little of the method; try `weight: auto`"
            )
    return found


def _named(recipe: Recipe, arm: Arm) -> Iterator[tuple[str, Term]]:
    if arm.terms:
        for paired, terms in terms_by_teacher(recipe.model_copy(update={"distill": list(arm.terms)})):
            yield from ((f"{paired}/{term.name}" if paired else term.name, term) for term in terms)


def _median_pull(name: str, logs: Sequence[Sequence[StepRecord]]) -> float | None:
    """A batch without objects measures nothing, and has a pull of 0."""
    shares = [step.gradients[name].ratio for steps in logs for step in steps if name in step.gradients]
    measured = [ratio for ratio in shares if isfinite(ratio) and ratio > 0]
    return median(measured) if measured else None


def _last_weights(name: str, logs: Sequence[Sequence[StepRecord]]) -> dict[str, float]:
    last = [steps[-1].weights for steps in logs if steps]
    parts = dict.fromkeys(part for weights in last for part in weights if part == name or part.startswith(f"{name}/"))
    return {part: median(weights[part] for weights in last if part in weights) for part in parts}
