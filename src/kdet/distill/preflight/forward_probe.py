"""One step of both models, watched: did they run, on which pixels, and is what they reveal of this batch at all?"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from kdet.distill.distiller import Distiller, as_seen_by
from kdet.distill.paired_teacher import PairedTeacher
from kdet.distill.preflight.input_check import SAME, InputCapture, capture_input, r_squared, same_scene
from kdet.distill.terms import Term
from kdet.distill.views.base import StepContext
from kdet.types import Batch, Need, Observation

_NOT_OF_PIXELS = frozenset({Need.LOSSES, Need.ASSIGNMENT, Need.PROPOSALS, Need.DECODER})
"""What only a student gives, and what does not follow from the pixels alone; learned queries are always the same."""

_FILLED: dict[Need, Callable[[Observation], Any]] = {
    Need.FEATURES: lambda o: o.features,
    Need.CLASS_LOGITS: lambda o: o.class_logits,
    Need.BOXES: lambda o: o.boxes,
    Need.ASSIGNMENT: lambda o: o.assignment,
    Need.LOSSES: lambda o: o.losses,
    Need.PROPOSALS: lambda o: o.proposals,
    Need.HEAD_FEATURES: lambda o: o.head_features,
    Need.EDGE_LOGITS: lambda o: o.edge_logits,
    Need.QUERIES: lambda o: o.query_logits,
    Need.MEMORY: lambda o: o.features,
    Need.DECODER: lambda o: o.decoder and o.decoder.queries,
}
"""Fields of an observation that keep what a need asks for."""


@dataclass(frozen=True, kw_only=True)
class ForwardProbe:
    """Both models on one batch."""

    contexts: Sequence[StepContext]
    """One a teacher."""
    student: InputCapture
    teachers: Sequence[InputCapture]
    batch: Batch
    """The batch before the models saw it."""
    changed: bool
    """Whether one of them wrote into the batch's images."""


def watch(distiller: Distiller, batch: Batch) -> ForwardProbe:
    """Run one forward pass of either model, as a step of training does it."""
    assert distiller.criterion is not None
    kept = replace(batch, images=batch.images.clone())
    with ExitStack() as stack:
        of_student = stack.enter_context(capture_input(distiller.model))
        of_teachers = [stack.enter_context(capture_input(paired.teacher.model)) for paired in distiller.paired_teachers]
        _, contexts = distiller.observe_pair(batch)
    changed = not torch.equal(batch.images, kept.images)
    return ForwardProbe(contexts=contexts, student=of_student, teachers=of_teachers, batch=kept, changed=changed)


def missing_outputs(distiller: Distiller, watched: ForwardProbe) -> Iterator[str]:
    """What the terms read and an observation does not hold, or holds whatever the pixels are."""
    criterion, contexts = distiller.criterion, watched.contexts
    assert criterion is not None
    student = Side("student", criterion.terms, criterion.student_needs, watched.student, contexts[0].student)
    teachers = [
        Side("teacher", paired.terms, needs, seen, context.teacher)
        for paired, needs, seen, context in zip(
            distiller.paired_teachers, criterion.teacher_needs, watched.teachers, contexts, strict=True
        )
    ]
    for number, side in enumerate([student, *teachers]):
        if not side.seen.ran:
            yield (
                f"the {side.name}: no layer of its model ran, so what its observe() returns belongs to another batch; "
                "let observe() call the model that the detector holds"
            )
            continue
        unfilled = list(_unfilled(side))
        yield from unfilled
        if not unfilled:
            paired = distiller.paired_teachers[number - 1] if number else None
            yield from _stale(side, paired, distiller, watched.batch)


def other_pixels(watched: ForwardProbe) -> Iterator[str]:
    """Models that are given anything but the batch's own pixels."""
    if watched.changed:
        yield (
            "observe() of the student or the teacher writes into the batch's images, which both must find as they "
            "were; let it normalise a copy"
        )
    scene = watched.batch.for_teacher()
    if watched.batch.teacher_images is not None and not same_scene(scene.images, watched.batch):
        yield "the teacher's larger images do not show what the student's do; give both the same crop and flip"
    teachers = [("teacher", seen) for seen in watched.teachers]
    for side, seen in (("student", watched.student), *teachers):
        share = 1.0 if seen.pixels is None else max(r_squared(seen.pixels, given) for given in (watched.batch, scene))
        if share < SAME:
            yield (
                f"the {side} does not see the batch's pixels: they explain {max(0.0, share):.0%} of what its first "
                "layer is given; does its observe() flip, crop, resize or augment, or take other images?"
            )


@dataclass(frozen=True)
class Side:
    """The student or one of the teachers, in one step."""

    name: Literal["student", "teacher"]
    terms: Sequence[Term]
    needs: frozenset[Need]
    seen: InputCapture
    observation: Observation

    def needs_of(self, term: Term) -> frozenset[Need]:
        """What one term reads of this side."""
        return term.view.student_needs if self.name == "student" else term.view.teacher_needs

    @property
    def teaches(self) -> frozenset[Need]:
        """What this side must say about the pixels; a placebo may learn from noise."""
        needs = [self.needs_of(term) for term in self.terms if not term.placebo]
        return frozenset[Need]().union(*needs) - _NOT_OF_PIXELS


def _unfilled(side: Side) -> Iterator[str]:
    seen = side.observation
    for need in sorted(side.needs):
        if _FILLED[need](seen) is not None and len(_FILLED[need](seen)):
            continue
        readers = [term.name for term in side.terms if need in side.needs_of(term)] or ["distillation"]
        yield (
            f"{', '.join(readers)}: reads the {side.name}'s {need}, and its observe() left them empty; the layer that "
            "should give them never ran, so hook one that does, or call it in observe()"
        )
    if seen.features is not None and 0 < len(seen.features) != len(seen.levels):
        yield (
            f"the {side.name} names {len(seen.levels)} levels and gave {len(seen.features)} feature maps; "
            "make them agree"
        )


def _stale(side: Side, paired: PairedTeacher | None, distiller: Distiller, batch: Batch) -> Iterator[str]:
    """Parts of an observation that are the same for the negative of every image."""
    larger = None if batch.teacher_images is None else 1 - batch.teacher_images
    negative = replace(batch, images=1 - batch.images, teacher_images=larger)
    with torch.no_grad():
        if paired is not None:
            other = paired.teacher.observe(as_seen_by(paired, negative), side.teaches)
        else:
            other = distiller.student.observe(negative, side.teaches, batch.targets)
    for need in sorted(side.teaches):
        before, after = _tensors(_FILLED[need](side.observation)), _tensors(_FILLED[need](other))
        if len(before) == len(after) and all(torch.equal(b, a) for b, a in zip(before, after, strict=True)):
            yield (
                f"the {side.name}'s {need} are the same for other images: left over from an earlier pass (hook a layer "
                "that runs, and return what it gave), or the model is dead (did its weights load?)"
            )


def _tensors(part: Any) -> list[Tensor]:
    """Collect the tensors in one field of an observation."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, list | tuple):
        return [tensor for item in part for tensor in _tensors(item)]  # pyright: ignore
    return [tensor for item in vars(part).values() for tensor in _tensors(item)]
