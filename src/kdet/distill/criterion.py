"""All terms of one teacher: two observations in, weighted parts out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from kdet.distill.adapters import make_adapter
from kdet.distill.balance import Balance, gradient_at, pull
from kdet.distill.pairing import Pairing
from kdet.distill.terms import Learned, Term
from kdet.distill.views import NO_NEEDS, Sight
from kdet.errors import InputError
from kdet.types import Detector, Need, Pull


class Criterion(nn.Module):
    """Holds everything trainable of the terms: adapters, and losses that learn."""

    def __init__(self, terms: Sequence[Term], student: Detector, teacher: Detector, pairing: Pairing) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"two terms are called {twice[0]!r}; give one of them another `name:`")
        for term in terms:
            _require(term, term.view.student_needs, student, "student")
            _require(term, term.view.teacher_needs, teacher, "teacher")
        self.terms = tuple(terms)
        self.pairings = {term.name: _pairing_of(term, pairing) for term in terms}
        self.adapters = nn.ModuleDict()
        self.learned_losses = nn.ModuleDict()
        for term in terms:
            levels = self.pairings[term.name].levels
            adapted = levels * term.view.adapted_maps
            self.adapters[term.name] = make_adapter(term.adapter, adapted, student, teacher)
            if isinstance(term.loss, Learned):
                self.learned_losses[term.name] = term.loss.make([p.teacher_channels for p in levels])
        self.balance = Balance(terms)
        self.student_needs = frozenset({Need.FEATURES}).union(*(term.view.student_needs for term in terms))
        self.teacher_needs = NO_NEEDS.union(*(term.view.teacher_needs for term in terms))

    def raw(self, sight: Sight) -> dict[str, Tensor]:
        """The terms' values before weight and schedule."""
        values: dict[str, Tensor] = {}
        for term in self.terms:
            own = replace(sight, pairing=self.pairings[term.name])
            values[term.name] = self._loss(term)(**term.view(own, self.adapters[term.name]))
        return values

    def measured(self, features: Sequence[Tensor], task: Tensor, values: dict[str, Tensor]) -> dict[str, Pull]:
        """How hard each term pulls at the student's neck, at full weight; calibrates what is due.

        Args:
            features: the student's neck outputs, with their graph.
            task: the sum of the task losses.
            values: what `raw` returned.
        """
        at_neck = gradient_at(features, task)
        unweighted = {name: gradient_at(features, value) for name, value in values.items()}
        if self.balance.due():
            self.balance.calibrate(at_neck, unweighted)
        weights = self.weights()
        return {name: pull(at_neck, weights[name] * gradient) for name, gradient in unweighted.items()}

    def weights(self) -> dict[str, float]:
        """What each term is multiplied by, schedules set aside."""
        return {t.name: t.weight for t in self.terms if t.weight != "auto"} | self.balance.weights()

    def forward(self, values: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Weighted scalars by name, of what `raw` returned; `progress` is the fraction of the run, for schedules."""
        weights = self.weights()
        return {t.name: weights[t.name] * t.schedule.factor(progress) * values[t.name] for t in self.terms}

    def trained_parts(self, term: Term) -> list[nn.Parameter]:
        """What is trained for this term beside the student."""
        modules = [self.adapters[term.name]]
        if term.name in self.learned_losses:
            modules.append(self.learned_losses[term.name])
        return [parameter for module in modules for parameter in module.parameters()]

    def _loss(self, term: Term) -> Callable[..., Tensor]:
        return self.learned_losses[term.name] if isinstance(term.loss, Learned) else term.loss


def _pairing_of(term: Term, pairing: Pairing) -> Pairing:
    """The levels that a term compares."""
    if term.strides is not None and Need.FEATURES not in term.view.student_needs:
        raise InputError(f"{term.name} compares no neck features, so `strides` has no meaning for it; leave it out")
    return pairing.only(term.strides)


def _require(term: Term, needs: frozenset[Need], detector: Detector, side: str) -> None:
    missing = sorted(needs - detector.gives)
    if side == "teacher":
        missing = [need for need in missing if need not in (Need.ASSIGNMENT, Need.LOSSES)]
    if not missing:
        return
    raise InputError(
        f"{term.name} reads {', '.join(missing)}, which the {side} ({detector.family}) does not have: "
        f"{_way_out(missing, detector)}"
    )


def _way_out(missing: Sequence[Need], detector: Detector) -> str:
    """What to use in place of a term that reads what a detector does not have."""
    features = "use structural or lp on its features"
    if Need.QUERIES in missing:
        return f"it predicts no set of boxes, as detectors of `detector: hf` do; {features}"
    if Need.QUERIES in detector.gives:
        return (
            f"it predicts a set of boxes, not scores of a grid or of regions; {features}, or detrdistill on its "
            "queries where teacher and student are both such detectors"
        )
    if {Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT} & set(missing):
        return (
            f"a two-stage detector scores sampled regions, not a dense grid; {features}, or soft_labels on its regions"
        )
    return features
