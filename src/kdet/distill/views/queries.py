"""Views on the queries of two detectors that predict a set: which belongs to which, image by image.

Legend: N images, Q queries, S T queries of student and teacher, K shared classes, P matched pairs of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from kdet.distill.pairing import Pairing
from kdet.distill.views.anchors import other_grids
from kdet.distill.views.base import Adapt, StepContext
from kdet.ops.boxes import centre_and_size, paired_generalised_iou
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Activation, Detector, Need, Observation, TakesQueries


@dataclass(frozen=True, kw_only=True)
class MatchedQueries:
    """The teacher's queries that see something, each with the student's query that the Hungarian algorithm gives it.

    The costs are Deformable DETR's: the student's probability of the teacher's class, the L1 distance and the
    generalised IoU of the boxes.
    """

    threshold: float = 0.1
    """The least class score of a teacher's query."""
    class_cost: float = 2.0
    box_cost: float = 5.0
    giou_cost: float = 2.0

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.QUERIES})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.QUERIES})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Logits P×K over the shared classes, boxes P×4 as fractions of the image, and the teacher's scores."""
        classes = context.pairing.classes
        student = _fractions(context, context.student, classes.student)
        teacher = _fractions(context, context.teacher, classes.teacher)
        image, ours, theirs = self._matches(student, teacher)
        score = teacher[0][image, theirs].sigmoid().amax(1)
        return {
            "student_logits": student[0][image, ours],
            "teacher_logits": teacher[0][image, theirs],
            "student_boxes": student[1][image, ours],
            "teacher_boxes": teacher[1][image, theirs],
            "weight": score,
            "normaliser": mean_over_ranks(score.sum()).clamp_min(1.0),
        }

    @torch.no_grad()
    def _matches(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Image, student's and teacher's query of each pair; length P."""
        found: list[Tensor] = []
        for i, logits_TK in enumerate(teacher[0]):
            score_T, label_T = logits_TK.sigmoid().max(1)
            seen = torch.where(score_T >= self.threshold)[0]
            costs = self._costs(student[0][i], student[1][i], label_T[seen], teacher[1][i][seen])
            rows, columns = linear_sum_assignment(np.nan_to_num(costs.cpu().numpy(), posinf=1e9, neginf=-1e9))
            ours, theirs = torch.from_numpy(rows).to(seen.device), torch.from_numpy(columns).to(seen.device)
            found.append(torch.stack([torch.full_like(ours, i), ours, seen[theirs]]))
        image, ours, theirs = torch.cat(found, 1)
        return image, ours, theirs

    def _costs(self, logits_SK: Tensor, boxes_S4: Tensor, label_T: Tensor, boxes_T4: Tensor) -> Tensor:
        """S×T."""
        shape = len(boxes_S4), len(boxes_T4)
        pairs = [b.expand(*shape, 4).reshape(-1, 4) for b in (boxes_S4[:, None], boxes_T4[None])]
        giou = paired_generalised_iou(*pairs).reshape(shape)
        distance = (centre_and_size(pairs[0]) - centre_and_size(pairs[1])).abs().sum(1).reshape(shape)
        return self.box_cost * distance - self.class_cost * logits_SK.sigmoid()[:, label_T] - self.giou_cost * giou


@dataclass(frozen=True)
class ConsistentQueries:
    """The teacher's queries, put to both decoders: what the teacher says of each beside what the student says of it."""

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.DECODER})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.QUERIES, Need.DECODER})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair whose queries are of different kinds, or are cells of different grids."""
        assert isinstance(student, TakesQueries) and isinstance(teacher, TakesQueries)
        ours, theirs = student.query_form, teacher.query_form
        if ours != theirs:
            why = f"the student's are {ours}, the teacher's {theirs}"
        elif "cells" in ours and (grids := other_grids(student.levels, teacher.levels, pairing)):
            why = grids
        else:
            return None
        return f"puts the teacher's queries to the student's decoder: {why}; use detrdistill, which matches answers"

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Logits P×K over the shared classes, boxes P×4 as fractions of the image, and the teacher's scores."""
        ours, theirs = context.student.decoder, context.teacher.decoder
        assert ours is not None and theirs is not None
        logits, boxes = ours.answer(theirs.queries)
        asked = replace(context.student, query_logits=logits, query_boxes=boxes)
        student = _fractions(context, asked, context.pairing.classes.student)
        teacher = _fractions(context, context.teacher, context.pairing.classes.teacher)
        score = teacher[0].sigmoid().amax(-1).flatten()
        return {
            "student_logits": student[0].flatten(0, 1),
            "teacher_logits": teacher[0].flatten(0, 1),
            "student_boxes": student[1].flatten(0, 1),
            "teacher_boxes": teacher[1].flatten(0, 1),
            "weight": score,
            "normaliser": mean_over_ranks(score.sum()).clamp_min(1.0),
        }


def _fractions(context: StepContext, seen: Observation, columns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Binary logits N×Q×K of these columns, and boxes N×Q×4 as fractions of the student's input.

    Both models' boxes are in its pixels, whatever the size at which a teacher sees the images.
    """
    assert seen.query_logits is not None and seen.query_boxes is not None
    height, width = context.student.input_size_hw
    boxes = seen.query_boxes.float() / seen.query_boxes.new_tensor([width, height, width, height])
    return binary_logits(seen.query_logits.float(), seen.activation)[..., list(columns)], boxes


def binary_logits(logits: Tensor, activation: Activation) -> Tensor:
    """Return log p − log(1 − p) of each class: a sigmoid head's own logits, a softmax head's as one question each."""
    if activation == "sigmoid":
        return logits
    log_p = logits.log_softmax(-1).clamp_max(-1e-6)  # beyond it 1 − p is 0 in float32
    return log_p - torch.log(-torch.expm1(log_p))
