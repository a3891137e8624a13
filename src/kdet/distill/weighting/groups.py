"""What of a term has a weight of its own: the whole term, or with `weight: auto` each level that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdet.distill.pairing import Pairing
from kdet.distill.terms import Term
from kdet.errors import InputError
from kdet.types import Need


@dataclass(frozen=True, kw_only=True)
class WeightGroup:
    """One weight of a term, and the levels that it weighs."""

    name: str
    """The term's, with the stride where the term is divided."""
    term: Term
    pairing: Pairing
    """Pairing with the levels of this part alone."""
    positions: tuple[int, ...]
    """Positions of its levels among those of the term."""
    reaches: tuple[int, ...] | None
    """The student's levels whose gradient its weight is measured against; None = all."""


def weight_groups(term: Term, pairing: Pairing) -> tuple[WeightGroup, ...]:
    """Divide an auto term that compares neck features, since levels may differ in their pull by powers of ten.

    Such terms are sums or means over levels, so the parts add up to the term, or to a multiple of it.

    Raises:
        InputError: `strides` of a term that compares no neck features, or strides that are not paired.
    """
    compares_features = Need.FEATURES in term.view.student_needs
    if term.strides is not None and not compares_features:
        raise InputError(f"{term.name} compares no neck features, so `strides` has no meaning for it; leave it out")
    own = pairing.only(term.strides, term.finest)
    positions = tuple(range(len(own.levels)))
    if term.weight != "auto" or not compares_features or len(own.levels) == 1:
        return (WeightGroup(name=term.name, term=term, pairing=own, positions=positions, reaches=None),)
    return tuple(
        WeightGroup(
            name=f"{term.name}/{level.stride}",
            term=term,
            pairing=replace(own, levels=(level,)),
            positions=(position,),
            reaches=(level.student,),
        )
        for position, level in enumerate(own.levels)
    )


def ratios_of(parts: Sequence[WeightGroup]) -> dict[str, float]:
    """Return the gradient ratio that each auto part is to have, 1 = as hard as the task: terms divide theirs."""
    auto = [part for part in parts if part.term.weight == "auto"]
    terms = len({part.term.name for part in auto})
    return {part.name: part.term.ratio / terms for part in auto}
