"""Weights given as numbers that leave a term without effect, or the task without a say."""

from collections.abc import Iterator, Mapping

from kdet.distill.criterion import Criterion
from kdet.types import GradientRatio

USUAL_RATIO = (0.05, 30.0)
"""Usual range of a term's gradient at the student's neck over the task's; docs/adr/0007-auto-weights.md says why."""


def doubtful_weights(criterion: Criterion, gradients: Mapping[str, GradientRatio]) -> Iterator[str]:
    """Name the terms of a fixed weight that pull unusually hard or weakly, and what `weight: auto` would make of them.

    Args:
        criterion: whose terms they are; placebos are meant to do nothing.
        gradients: of one batch with objects, by term; of one that is 0 or not finite there is nothing to say.
    """
    least, most = USUAL_RATIO
    for term in criterion.terms:
        if term.weight == "auto" or term.placebo or term.name not in gradients:
            continue
        ratio = gradients[term.name].ratio
        if 0 < ratio < least or most < ratio < float("inf"):
            effect = "drowns the task" if ratio > most else "does next to nothing"
            yield (
                f"{term.name}: weight {term.weight:g} pulls {ratio:.3g} times as hard as the task at the student's "
                f"neck and {effect} ({least:g} to {most:g} is usual); `weight: auto` pulls {term.ratio:g} times as "
                f"hard, like a weight of about {term.weight * term.ratio / ratio:.2g}"
            )
