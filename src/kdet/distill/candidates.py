"""Views on the positive candidates of each object: rank mimicking and soft labels.

Legend: N images, A anchors of all levels, K class columns, M objects of the batch, P positives of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdet.distill.views import Adapt, Sight
from kdet.ops.boxes import paired_iou
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Need, Observation

Score = Literal["probability", "logit"]


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


def positives(sight: Sight) -> Positives:
    """All positives of the student's assignment, pooled over levels, without a loop over objects."""
    assignment = sight.student.assignment
    assert assignment is not None
    image, anchor = torch.where(assignment >= 0)
    counts = torch.tensor([len(t["boxes"]) for t in sight.targets], device=assignment.device)
    first = counts.cumsum(0) - counts
    owner = first[image] + assignment[image, anchor]
    labels = torch.cat([t["labels"] for t in sight.targets])
    boxes = torch.cat([t["boxes"] for t in sight.targets])
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


def teacher_columns(sight: Sight, student_columns: Tensor) -> Tensor:
    """The teacher's columns of the same class names."""
    classes = sight.pairing.classes
    table = torch.full((max(classes.student) + 1,), -1, dtype=torch.int64)
    table[list(classes.student)] = torch.tensor(classes.teacher)
    return table.to(student_columns.device)[student_columns]


@dataclass(frozen=True, kw_only=True)
class RankedByClass:
    """Each candidate's score for its object's class: the score that NMS sorts by."""

    score: Score = "probability"

    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS})

    def __call__(self, sight: Sight, adapt: Adapt) -> dict[str, Any]:
        """Scores of the P positives under one assignment, the student's."""
        found = positives(sight)
        require_same_anchors(sight)
        columns = teacher_columns(sight, found.label)
        return {
            "student_scores": class_scores(sight.student, found, found.label, self.score),
            "teacher_scores": class_scores(sight.teacher, found, columns, self.score),
            "object_index": found.object_index,
            "num_objects": found.num_objects,
        }


@dataclass(frozen=True, kw_only=True)
class RankedByBox:
    """Each candidate's localisation quality: IoU of its decoded box with its object."""

    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES})

    def __call__(self, sight: Sight, adapt: Adapt) -> dict[str, Any]:
        """IoU of the P positives under one assignment, the student's."""
        found = positives(sight)
        require_same_anchors(sight)
        assert sight.student.boxes is not None and sight.teacher.boxes is not None
        return {
            "student_scores": paired_iou(sight.student.boxes[found.image, found.anchor], found.box),
            "teacher_scores": paired_iou(sight.teacher.boxes[found.image, found.anchor], found.box),
            "object_index": found.object_index,
            "num_objects": found.num_objects,
        }


def class_scores(observation: Observation, found: Positives, columns: Tensor, score: Score) -> Tensor:
    """Score of each positive for one column: softmax with background, sigmoid, times centreness where there is one."""
    assert observation.class_logits is not None
    logits = observation.class_logits[found.image, found.anchor].float()
    if observation.activation == "softmax":
        log_probability = logits.log_softmax(dim=-1).gather(1, columns[:, None])[:, 0]
        return log_probability if score == "logit" else log_probability.exp()
    chosen = logits.gather(1, columns[:, None])[:, 0]
    if observation.quality_logits is None:
        return chosen if score == "logit" else chosen.sigmoid()
    quality = observation.quality_logits[found.image, found.anchor].float()
    probability = (chosen.sigmoid() * quality.sigmoid()).clamp_min(1e-12).sqrt()
    return torch.logit(probability, eps=1e-6) if score == "logit" else probability


def require_same_anchors(sight: Sight) -> None:
    """Rank mimicking compares the same candidates; both models must lay the same anchors.

    Raises:
        ValueError: other strides, or another number of anchors in a cell.
    """
    student, teacher = sight.student, sight.teacher
    if (student.cells_hw, student.anchors_per_cell) != (teacher.cells_hw, teacher.anchors_per_cell):
        raise ValueError(
            "rank mimicking needs the same candidates on both sides: the student has "
            f"{student.anchors_per_cell} anchors per cell on grids {student.cells_hw}, the teacher "
            f"{teacher.anchors_per_cell} on {teacher.cells_hw}; use feature terms (structural, lp) for this pair"
        )


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """Class logits of the student's positives, or of every anchor, from both models."""

    candidates: Literal["positive", "all"] = "positive"

    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS})

    def __call__(self, sight: Sight, adapt: Adapt) -> dict[str, Any]:
        """P×K logits over the shared classes (softmax heads: with the background)."""
        require_same_anchors(sight)
        student, teacher = sight.student, sight.teacher
        assert student.class_logits is not None and teacher.class_logits is not None
        assert student.assignment is not None
        chosen = student.assignment >= 0 if self.candidates == "positive" else student.assignment > -9
        return soft_label_inputs(sight, student.class_logits[chosen], teacher.class_logits[chosen])


@dataclass(frozen=True, kw_only=True)
class RegionSoftLabels:
    """Two-stage: the teacher's box head scores the regions that the student sampled."""

    candidates: Literal["positive", "all"] = "positive"

    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.PROPOSALS})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __call__(self, sight: Sight, adapt: Adapt) -> dict[str, Any]:
        """P×K logits with the background."""
        student = sight.student
        assert student.proposals is not None and student.proposal_labels is not None
        assert student.proposal_logits is not None and sight.teacher.features is not None
        theirs = sight.teacher_detector.head_from(sight.teacher.features, student.proposals)
        labels = torch.cat(student.proposal_labels)
        chosen = labels > 0 if self.candidates == "positive" else labels > -9
        return soft_label_inputs(sight, student.proposal_logits[chosen], theirs[chosen])


def soft_label_inputs(sight: Sight, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Any]:
    """Columns of the shared classes, the activation, and the count of candidates over all ranks."""
    classes, activation = sight.pairing.classes, sight.student.activation
    background: Sequence[int] = [0] if activation == "softmax" else []
    count = torch.tensor(float(len(student_logits)), device=student_logits.device)
    return {
        "student_logits": student_logits[:, [*background, *classes.student]],
        "teacher_logits": teacher_logits[:, [*background, *classes.teacher]],
        "activation": activation,
        "normaliser": mean_over_ranks(count).clamp_min(1.0),
    }
