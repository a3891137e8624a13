"""One step of both models, watched: did they run, on which pixels, and is what they reveal of this batch at all?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdet.distill.criterion import Criterion
from kdet.distill.distiller import Distiller
from kdet.distill.pixels import SAME, Glimpse, explained, glimpse
from kdet.distill.views import Sight
from kdet.types import Batch, Need, Observation

_FROM_THE_LABELS = frozenset({Need.LOSSES, Need.ASSIGNMENT, Need.PROPOSALS})
"""What only a student gives, and what does not follow from the pixels alone."""

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
}
"""Where an observation keeps what a need asks for."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Both models on one batch."""

    sight: Sight
    student: Glimpse
    teacher: Glimpse
    batch: Batch
    """As it was before the models saw it."""
    changed: bool
    """Whether one of them wrote into the batch's images."""


def watch(distiller: Distiller, batch: Batch) -> Watched:
    """One forward pass of either model, as a step of training does it."""
    assert distiller.criterion is not None and distiller.teacher is not None
    kept = replace(batch, images=batch.images.clone())
    needs = distiller.criterion.student_needs | {Need.LOSSES}
    with glimpse(distiller.model) as of_student:
        seen = distiller.student.observe(batch, needs, batch.targets)
    with glimpse(distiller.teacher.model) as of_teacher:
        sight = distiller.sight(batch, seen)
    changed = not torch.equal(batch.images, kept.images)
    return Watched(sight=sight, student=of_student, teacher=of_teacher, batch=kept, changed=changed)


def silent_parts(distiller: Distiller, watched: Watched) -> Iterator[str]:
    """What the terms read and an observation does not hold, or holds whatever the pixels are."""
    criterion = distiller.criterion
    assert criterion is not None and distiller.teacher is not None
    sides = (
        ("student", criterion.student_needs, watched.student, watched.sight.student),
        ("teacher", criterion.teacher_needs, watched.teacher, watched.sight.teacher),
    )
    for side, needs, seen, observation in sides:
        if not seen.ran:
            yield (
                f"the {side}: no layer of its model ran, so what its observe() returns belongs to another batch; "
                "let observe() call the model that the detector holds"
            )
            continue
        unfilled = list(_unfilled(side, needs, observation, criterion))
        yield from unfilled
        if not unfilled:
            yield from _stale(side, _to_learn_from(side, criterion), observation, distiller, watched.batch)


def other_pixels(watched: Watched) -> Iterator[str]:
    """Models that are given anything but the batch's own pixels."""
    if watched.changed:
        yield (
            "observe() of the student or the teacher writes into the batch's images, which both must find as they "
            "were; let it normalise a copy"
        )
    for side, seen in (("student", watched.student), ("teacher", watched.teacher)):
        share = 1.0 if seen.pixels is None else explained(seen.pixels, watched.batch)
        if share < SAME:
            yield (
                f"the {side} does not see the batch's pixels: they explain {max(0.0, share):.0%} of what its first "
                "layer is given; does its observe() flip, crop, resize or augment, or take other images?"
            )


def _unfilled(side: str, needs: frozenset[Need], seen: Observation, criterion: Criterion) -> Iterator[str]:
    for need in sorted(needs):
        if _FILLED[need](seen) is not None and len(_FILLED[need](seen)):
            continue
        readers = [t.name for t in criterion.terms if need in getattr(t.view, f"{side}_needs")] or ["distillation"]
        yield (
            f"{', '.join(readers)}: reads the {side}'s {need}, and its observe() left them empty; the layer that "
            "should give them never ran, so hook one that does, or call it in observe()"
        )
    if seen.features is not None and 0 < len(seen.features) != len(seen.levels):
        yield f"the {side} names {len(seen.levels)} levels and gave {len(seen.features)} feature maps; make them agree"


def _to_learn_from(side: str, criterion: Criterion) -> frozenset[Need]:
    """What a side must say about the pixels; a placebo may learn from noise."""
    needs = [getattr(term.view, f"{side}_needs") for term in criterion.terms if not term.placebo]
    return frozenset[Need]().union(*needs) - _FROM_THE_LABELS


def _stale(side: str, needs: frozenset[Need], seen: Observation, distiller: Distiller, batch: Batch) -> Iterator[str]:
    """Parts of an observation that are the same for the negative of every image."""
    assert distiller.teacher is not None
    negative = replace(batch, images=1 - batch.images)
    with torch.no_grad():
        if side == "teacher":
            other = distiller.teacher.observe(negative, needs)
        else:
            other = distiller.student.observe(negative, needs, batch.targets)
    for need in sorted(needs):
        before, after = _tensors(_FILLED[need](seen)), _tensors(_FILLED[need](other))
        if len(before) == len(after) and all(torch.equal(b, a) for b, a in zip(before, after, strict=True)):
            yield (
                f"the {side}'s {need} are the same for other images: left over from an earlier pass (hook a layer that "
                "runs, and return what it gave), or the model is dead (did its weights load?)"
            )


def _tensors(part: Any) -> list[Tensor]:
    """Of one field of an observation."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, list | tuple):
        return [tensor for item in part for tensor in _tensors(item)]  # pyright: ignore
    return [tensor for item in vars(part).values() for tensor in _tensors(item)]
