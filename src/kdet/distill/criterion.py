"""All terms of all teachers: observations in, weighted parts out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from kdet.distill.adapters import make_adapter
from kdet.distill.paired_teacher import PairedTeacher
from kdet.distill.pairing import Pairing
from kdet.distill.required import require_served
from kdet.distill.terms import Learned, Term
from kdet.distill.views.base import NO_NEEDS, StepContext
from kdet.distill.weighting.balance import Balance, gradient_at, pull
from kdet.distill.weighting.groups import WeightGroup, weight_groups
from kdet.errors import InputError, NotANumber
from kdet.types import Detector, GradientRatio, Need


class Criterion(nn.Module):
    """Holds everything trainable of the terms: adapters, and losses that learn."""

    def __init__(self, paired_teachers: Sequence[PairedTeacher], student: Detector) -> None:
        """Collect the terms of all teachers and build what learns in them.

        Raises:
            InputError: two terms of one name, or a term that student and teacher cannot serve.
        """
        super().__init__()
        self.terms = tuple(term for paired in paired_teachers for term in paired.terms)
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"two terms are called {twice[0]!r}; give one of them another `name:`")
        self.teacher_of = {term.name: place for place, paired in enumerate(paired_teachers) for term in paired.terms}
        self.pairings: dict[str, Pairing] = {}
        self.parts: dict[str, tuple[WeightGroup, ...]] = {}
        self.adapters = nn.ModuleDict()
        self.learned_losses = nn.ModuleDict()
        for term in self.terms:
            paired = paired_teachers[self.teacher_of[term.name]]
            pairing, teacher = paired.pairing_of(term), paired.teacher.detector
            require_served(term, student, teacher, pairing)
            self.pairings[term.name] = pairing.only(term.strides, term.finest)
            self.parts[term.name] = weight_groups(term, pairing)
            adapted = self.pairings[term.name].levels * term.view.adapted_maps
            self.adapters[term.name] = make_adapter(term.adapter, adapted, student, teacher)
            if isinstance(term.loss, Learned):
                for part in self.parts[term.name]:
                    channels = [level.teacher_channels for level in part.pairing.levels]
                    self.learned_losses[part.name] = term.loss.make(channels)
        self.balance = Balance([part for parts in self.parts.values() for part in parts])
        self.student_needs = frozenset({Need.FEATURES}).union(*(term.view.student_needs for term in self.terms))
        self.teacher_needs = [
            NO_NEEDS.union(*(term.view.teacher_needs for term in paired.terms)) for paired in paired_teachers
        ]
        """Needs of the terms of each teacher."""

    def raw(self, contexts: Sequence[StepContext]) -> dict[str, Tensor]:
        """The terms' values before weight and schedule, by name; one entry for each part of a term.

        Args:
            contexts: what each teacher and the student saw, in the order of the teachers.
        """
        return {
            name: torch.stack([self._value(part, contexts[self.teacher_of[name]]) for part in parts])
            for name, parts in self.parts.items()
        }

    def by_level(self, contexts: Sequence[StepContext]) -> Iterator[tuple[str, Tensor]]:
        """The same for a person: name and value, level by level where a term compares maps one by one.

        NaN stands for a value that its loss refuses to compute.
        """
        for name, parts in self.parts.items():
            for part in (one for whole in parts for one in _one_level_each(whole)):
                try:
                    yield part.name, self._value(part, contexts[self.teacher_of[name]])
                except NotANumber:
                    yield part.name, torch.tensor(torch.nan)

    def measured(self, features: Sequence[Tensor], task: Tensor, values: dict[str, Tensor]) -> dict[str, GradientRatio]:
        """How hard each term pulls at the student's neck, at full weight; calibrates what is due.

        Args:
            features: the student's neck outputs, with their graph.
            task: the sum of the task losses.
            values: what `raw` returned.
        """
        at_neck = gradient_at(features, task)
        unweighted = {
            part.name: gradient_at(features, value)
            for name, parts in self.parts.items()
            for part, value in zip(parts, values[name].unbind(), strict=True)
        }
        if self.balance.due():
            self.balance.calibrate(at_neck, unweighted)
        weights = self.weights()
        return {
            name: pull(at_neck, _weighted_sum([(weights[part.name], unweighted[part.name]) for part in parts]))
            for name, parts in self.parts.items()
        }

    def weights(self) -> dict[str, float]:
        """What each part is multiplied by, schedules set aside."""
        return {t.name: t.weight for t in self.terms if t.weight != "auto"} | self.balance.weights()

    def forward(self, values: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Weighted scalars by name, of what `raw` returned; `progress` is the fraction of the run, for schedules."""
        weights = self.weights()
        return {
            term.name: torch.stack(
                [
                    weights[part.name] * term.schedule.factor(progress) * value
                    for part, value in zip(self.parts[term.name], values[term.name].unbind(), strict=True)
                ]
            ).sum()
            for term in self.terms
        }

    def trained_parts(self, term: Term) -> list[nn.Parameter]:
        """What is trained for this term beside the student."""
        learned = [self.learned_losses[p.name] for p in self.parts[term.name] if p.name in self.learned_losses]
        return [parameter for module in (self.adapters[term.name], *learned) for parameter in module.parameters()]

    def _value(self, part: WeightGroup, context: StepContext) -> Tensor:
        adapter = self.adapters[part.term.name]
        whole = len(part.positions) == len(self.pairings[part.term.name].levels)
        adapt = adapter if whole else partial(adapter, positions=part.positions)
        loss = self.learned_losses[part.name] if isinstance(part.term.loss, Learned) else part.term.loss
        return loss(**part.term.view(replace(context, pairing=part.pairing), adapt))


def _one_level_each(part: WeightGroup) -> list[WeightGroup]:
    """The part level by level; itself where its loss is made for its levels, or compares something else."""
    view = part.term.view
    if isinstance(part.term.loss, Learned) or Need.FEATURES not in view.student_needs or view.adapted_maps > 1:
        return [part]
    own = part.term.name
    return [
        replace(
            part, name=f"{own}, stride {level.stride}", pairing=replace(part.pairing, levels=(level,)), positions=(at,)
        )
        for at, level in zip(part.positions, part.pairing.levels, strict=True)
    ]


def _weighted_sum(gradients: Sequence[tuple[float, Sequence[Tensor]]]) -> list[Tensor]:
    """Level by level."""
    by_level = zip(*[[weight * level for level in levels] for weight, levels in gradients], strict=True)
    return [torch.stack(levels).sum(0) for levels in by_level]
