"""Weights given as numbers that leave a term without effect, or the task without a say."""

from collections.abc import Iterator, Mapping

from kdet.distill.criterion import Criterion
from kdet.types import Pull

USUAL_PULL = (0.05, 30.0)
"""At the student's neck, 1 = as hard as the task; docs/adr/0007-auto-weights.md says why."""


def doubtful_weights(criterion: Criterion, pulls: Mapping[str, Pull]) -> Iterator[str]:
    """Which terms of a fixed weight pull unusually hard or weakly, and what `weight: auto` would make of them.

    Args:
        criterion: whose terms they are; placebos are meant to do nothing.
        pulls: of one batch with objects, by term; where one is 0 or not finite there is nothing to say of its weight.
    """
    least, most = USUAL_PULL
    for term in criterion.terms:
        if term.weight == "auto" or term.placebo or term.name not in pulls:
            continue
        share = pulls[term.name].share
        if 0 < share < least or most < share < float("inf"):
            effect = "drowns the task" if share > most else "does next to nothing"
            yield (
                f"{term.name}: weight {term.weight:g} pulls {share:.3g} times as hard as the task at the student's "
                f"neck and {effect} ({least:g} to {most:g} is usual); `weight: auto` pulls {term.share:g} times as "
                f"hard, like a weight of about {term.weight * term.share / share:.2g}"
            )
