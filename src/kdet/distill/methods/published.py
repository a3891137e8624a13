"""The papers' weights, for `weight: published`; what each stands on, METHODS says in words (`official`)."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from kdet.distill.terms import Learned, Term, Weight
from kdet.distill.views.base import View
from kdet.errors import InputError

MethodWeight = Weight | Literal["published"]
"""What a method takes as `weight`."""

PUBLISHED: dict[str, float] = {
    "structural": 4.0,
    "rank_mimicking": 4.0,
    "prediction_guided": 1.5,
    "hint": 1.0,
    "attention_transfer": 1000.0,
    "cwd": 10.0,
    "pkd": 6.0,
    "mgd": 2e-5,
    "fgd": 1.0,
    "score_weighted": 6.0,
    "dist": 1.0,
    "ld": 1.0,
    "crosskd": 1.0,
    "bckd": 1.0,
}


def term_of(
    method: str, loss: Callable[..., Tensor] | Learned, view: View, weight: MethodWeight, **options: Any
) -> Term:
    """The term of a method, under its name and with its published weight where that is asked for.

    Args:
        method: as in METHODS.
        loss: as a Term's.
        view: as a Term's.
        weight: as the method takes it.
        options: a Term's other fields.

    Raises:
        InputError: as `settled`.
    """
    return Term(name=method, loss=loss, view=view, weight=settled(method, weight), **options)


def settled(method: str, weight: MethodWeight) -> Weight:
    """The weight as a term has it.

    Raises:
        InputError: the published one of a method that has none.
    """
    if weight != "published":
        return weight
    if method not in PUBLISHED:
        raise InputError(f"no weight of {method} was published, or none is known to us; use auto or a number")
    return PUBLISHED[method]
