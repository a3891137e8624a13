"""Pairs of student and teacher, and every method as terms."""

import re
from collections.abc import Sequence
from typing import Any

from fakes import CLASSES, batch_for, tiny
from kdet.distill import METHODS, Distiller, Term
from kdet.types import Batch, Detector

CLASS_COLUMNS = re.compile(r"cls_logits\.|cls_score\.|classification_head\.module_list\.\d+\.1\.")
"""Parameters whose rows are (anchor, class)."""


def methods_of(name: str = "retinanet") -> tuple[str, ...]:
    """The methods that this family can serve with their defaults, on both sides."""
    gives = tiny(name).provides
    return tuple(key for key, method in METHODS.items() if frozenset.union(*method.needs()) <= gives)


DENSE_METHODS = methods_of()


def every_term(name: str = "retinanet") -> list[Term]:
    """All methods that the family can serve, with their defaults, at once."""
    return [term for method in methods_of(name) for term in METHODS[method].terms()]


def student(name: str = "retinanet", **options: Any) -> Detector:
    """The small side of a pair."""
    return tiny(name, seed=1, **options)


def teacher(name: str = "retinanet", **options: Any) -> Detector:
    """The large side: other channels, so that adapters are needed."""
    return tiny(name, seed=2, **({} if name == "ssdlite" else {"width": 0.5, "fpn_channels": 64}) | options)


def distiller(terms: Sequence[Term], name: str = "retinanet", **options: Any) -> Distiller:
    """A pair of one family under these terms, in training mode."""
    pair = Distiller(student(name), teacher(name), terms, **options)
    return pair.train()  # type: ignore[return-value]


def batch(name: str = "retinanet") -> Batch:
    """Three images, one of them empty, for models of this family."""
    return batch_for(tiny(name))


def permuted(detector: Detector, order: Sequence[int]) -> Detector:
    """A teacher with its classes, and the columns that score them, in another order; column 0 stays the background."""
    columns = [0, *(1 + i for i in order)]
    other = teacher(detector.family, classes=[CLASSES[i] for i in order])
    other.model.load_state_dict(detector.model.state_dict())
    for name, parameter in other.model.named_parameters():
        if CLASS_COLUMNS.search(name):
            grouped = parameter.data.reshape(-1, len(columns), *parameter.shape[1:])
            parameter.data = grouped[:, columns].reshape(parameter.shape)
    return other
