"""Views on the positive candidates of each object: rank mimicking and soft labels.

Legend: N images, A anchors of all levels, K class columns, M objects of the batch, P positives of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdet.distill.pairing import Pairing
from kdet.distill.views.anchors import no_common_cells, other_anchors
from kdet.distill.views.base import Adapt, StepContext
from kdet.distill.views.cells import same_anchors, shared_cells
from kdet.errors import InputError
from kdet.ops.boxes import paired_iou, scaled
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Detector, Need, Observation

Score = Literal["probability", "logit"]
_WAY_OUT = (
    "give both the same detector, `anchor_scale` and input size, or use rank_mimicking or feature terms for this pair"
)


@dataclass(frozen=True, kw_only=True)
class Positives:
    """The P positive candidates of a batch and what they belong to; each field has length P."""

    image: Tensor
    anchor: Tensor
    object_index: Tensor
    """0 … number of objects that have candidates − 1, over the whole batch."""
    label: Tensor
    """Student column of the object's class."""
    box: Tensor
    """P×4, the object's box."""
    num_objects: Tensor
    """Objects that have candidates; the mean over ranks, so that the sum of the ranks' losses counts globally."""


def positives(context: StepContext) -> Positives:
    """Return all positives of objects that the teacher knows, pooled over levels, without a loop over objects."""
    assignment = context.student.assignment
    assert assignment is not None
    image, anchor = torch.where(assignment >= 0)
    counts = torch.tensor([len(t["boxes"]) for t in context.targets], device=assignment.device)
    first = counts.cumsum(0) - counts
    owner = first[image] + assignment[image, anchor]
    labels = torch.cat([t["labels"] for t in context.targets])
    if context.pairing.classes.only_student:
        known = teacher_columns(context, labels)[owner] >= 0
        image, anchor, owner = image[known], anchor[known], owner[known]
    boxes = torch.cat([t["boxes"] for t in context.targets])
    has_candidates = torch.zeros(len(labels), dtype=torch.int64, device=assignment.device)
    has_candidates[owner] = 1
    compact = has_candidates.cumsum(0) - 1
    return Positives(
        image=image,
        anchor=anchor,
        object_index=compact[owner],
        label=labels[owner],
        box=boxes[owner],
        num_objects=mean_over_ranks(has_candidates.sum()),
    )


def teacher_columns(context: StepContext, student_columns: Tensor) -> Tensor:
    """Return the teacher's columns of the same class names; -1 for the classes that it does not have."""
    classes = context.pairing.classes
    table = torch.full((classes.num_columns,), -1, dtype=torch.int64)
    table[list(classes.student)] = torch.tensor(classes.teacher, dtype=torch.int64)
    return table.to(student_columns.device)[student_columns]


@dataclass(frozen=True, kw_only=True)
class RankedByClass:
    """Each candidate's score for its object's class: the score that NMS sorts by."""

    score: Score = "probability"

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair that has no cells in common."""
        return no_common_cells(pairing)

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Scores of the P positives under one assignment, the student's."""
        found = positives(context)
        columns = teacher_columns(context, found.label)
        return ranked(
            context,
            found,
            lambda image, anchor, row: class_scores(context.student, image, anchor, found.label[row], self.score),
            lambda image, anchor, row: class_scores(context.teacher, image, anchor, columns[row], self.score),
        )


@dataclass(frozen=True, kw_only=True)
class RankedByBox:
    """Each candidate's localisation quality: IoU of its decoded box with its object."""

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair that has no cells in common."""
        return no_common_cells(pairing)

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """IoU of the P positives under one assignment, the student's."""
        found, student, teacher = positives(context), context.student.boxes, context.teacher.boxes
        assert student is not None and teacher is not None
        return ranked(
            context,
            found,
            lambda image, anchor, row: paired_iou(student[image, anchor], found.box[row]),
            lambda image, anchor, row: paired_iou(teacher[image, anchor], found.box[row]),
        )


Scorer = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Image, anchor and row among the positives → score; all of one length."""


def ranked(context: StepContext, found: Positives, student_score: Scorer, teacher_score: Scorer) -> dict[str, Any]:
    """Return rank mimicking's arguments: anchor by anchor, or cell by cell where the models lay other anchors."""
    rows, num_objects = torch.arange(len(found.image), device=found.image.device), found.num_objects
    if same_anchors(context):
        scores = [score(found.image, found.anchor, rows) for score in (student_score, teacher_score)]
    else:
        rows, student_anchors, teacher_anchors = shared_cells(context, found.anchor, found.object_index)
        image = found.image[rows]
        num_objects = mean_over_ranks(torch.tensor(len(found.object_index[rows].unique()), device=rows.device))
        scores = [
            _best_of_cell(score, image, anchors, rows)
            for score, anchors in ((student_score, student_anchors), (teacher_score, teacher_anchors))
        ]
    return {
        "student_scores": scores[0],
        "teacher_scores": scores[1],
        "object_index": found.object_index[rows],
        "num_objects": num_objects,
    }


def _best_of_cell(score: Scorer, image: Tensor, anchors_PA: Tensor, rows: Tensor) -> Tensor:
    """The highest score among the anchors of each cell."""
    per_cell = anchors_PA.shape[1]
    flat = [index.repeat_interleave(per_cell) for index in (image, rows)]
    return score(flat[0], anchors_PA.reshape(-1), flat[1]).reshape(-1, per_cell).amax(dim=1)


def class_scores(observation: Observation, image: Tensor, anchor: Tensor, columns: Tensor, score: Score) -> Tensor:
    """Return each anchor's score for one column: softmax with background, or sigmoid, times any centreness."""
    assert observation.class_logits is not None
    logits = observation.class_logits[image, anchor].float()
    if observation.activation == "softmax":
        log_probability = logits.log_softmax(dim=-1).gather(1, columns[:, None])[:, 0]
        return log_probability if score == "logit" else log_probability.exp()
    chosen = logits.gather(1, columns[:, None])[:, 0]
    if observation.quality_logits is None:
        return chosen if score == "logit" else chosen.sigmoid()
    quality = observation.quality_logits[image, anchor].float()
    probability = (chosen.sigmoid() * quality.sigmoid()).clamp_min(1e-12).sqrt()
    return torch.logit(probability, eps=1e-6) if score == "logit" else probability


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """Class logits of the student's positives, or of every anchor, from both models."""

    candidates: Literal["positive", "all"] = "positive"

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair whose anchors differ in place or size."""
        why = other_anchors(student.levels, teacher.levels, pairing)
        return why and f"compares anchor by anchor: {why}; {_WAY_OUT}"

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """P×K logits over the shared classes (softmax heads: with the background).

        Raises:
            InputError: other anchors, or other grids than the strides tell.
        """
        student, teacher = context.student, context.teacher
        if not same_anchors(context):
            raise InputError(
                "soft labels compare anchor by anchor: the student has "
                f"{student.anchors_per_cell} anchors per cell on grids {student.cells_hw}, the teacher "
                f"{teacher.anchors_per_cell} on {teacher.cells_hw}; {_WAY_OUT}"
            )
        assert student.class_logits is not None and teacher.class_logits is not None
        if self.candidates == "positive":
            found = positives(context)
            rows = (found.image, found.anchor)
            return soft_label_inputs(context, student.class_logits[rows], teacher.class_logits[rows])
        return soft_label_inputs(context, student.class_logits.flatten(0, 1), teacher.class_logits.flatten(0, 1))


@dataclass(frozen=True, kw_only=True)
class RegionSoftLabels:
    """Two-stage: the teacher's box head scores the regions that the student sampled."""

    candidates: Literal["positive", "all"] = "positive"

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.PROPOSALS})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a teacher without a box head."""
        if Need.PROPOSALS in teacher.provides:
            return None
        return (
            f"on regions needs a teacher that scores regions, and a {teacher.family} does not; "
            "use structural or lp for this pair"
        )

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """P×K logits with the background."""
        student = context.student
        assert student.proposals is not None and student.proposal_labels is not None
        assert student.proposal_logits is not None and context.teacher.features is not None
        sizes = (student.input_size_hw, context.teacher.input_size_hw)
        regions = (
            [scaled(regions, *sizes) for regions in student.proposals] if sizes[0] != sizes[1] else student.proposals
        )
        theirs = context.teacher_detector.head_from(context.teacher.features, regions)
        labels = torch.cat(student.proposal_labels)
        chosen = (teacher_columns(context, labels) > 0) if self.candidates == "positive" else labels > -9
        return soft_label_inputs(context, student.proposal_logits[chosen], theirs[chosen])


def soft_label_inputs(context: StepContext, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Any]:
    """Return the columns of the shared classes, the activation, and the count of candidates over all ranks."""
    classes, activation = context.pairing.classes, context.student.activation
    background: Sequence[int] = [0] if activation == "softmax" else []
    count = torch.tensor(float(len(student_logits)), device=student_logits.device)
    return {
        "student_logits": student_logits[:, [*background, *classes.student]],
        "teacher_logits": teacher_logits[:, [*background, *classes.teacher]],
        "activation": activation,
        "normaliser": mean_over_ranks(count).clamp_min(1.0),
    }
