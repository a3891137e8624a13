"""A view on distributional boxes: what each model thinks of the edges at the student's positives.

Legend: N images, A anchors of all levels, P positives of the batch, B bins of an edge's distribution.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from kdet.distill.pairing import Pairing
from kdet.distill.views.anchors import other_grids, same_centres
from kdet.distill.views.base import Adapt, StepContext
from kdet.distill.views.candidates import positives
from kdet.distill.views.features import highest_scores
from kdet.errors import InputError
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Detector, Need


@dataclass(frozen=True)
class EdgeDistributions:
    """P×4×B logits of both models at the student's positives, which count by the student's class score."""

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.EDGE_LOGITS, Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.EDGE_LOGITS, Need.CLASS_LOGITS})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair whose edges are measured from different points; the sizes of anchors do not matter."""
        why = other_grids(student.levels, teacher.levels, pairing)
        if not why and not all(map(same_centres, student.levels, teacher.levels)):
            why = "the two models measure them from other points of a cell"
        return why and f"compares box edges anchor by anchor: {why}; use feature terms for this pair"

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Logits of both, the student's highest score of each positive, and the count of positives over all processes.

        Raises:
            InputError: other grids, or another number of bins.
        """
        ours, theirs = context.student.edge_logits, context.teacher.edge_logits
        assert ours is not None and theirs is not None
        if ours.shape[1:] != theirs.shape[1:] or context.student.cells_hw != context.teacher.cells_hw:
            raise InputError(
                "ld compares box edges anchor by anchor and bin by bin: the student has "
                f"{context.student.anchors_per_cell} anchors per cell on grids {context.student.cells_hw} with "
                f"{ours.shape[-1]} bins, the teacher {context.teacher.anchors_per_cell} on {context.teacher.cells_hw} "
                f"with {theirs.shape[-1]}; use feature terms for this pair"
            )
        found = positives(context)
        chosen = (found.image, found.anchor)
        count = torch.tensor(len(found.image), device=ours.device)
        return {
            "student_logits": ours[chosen],
            "teacher_logits": theirs[chosen],
            "weight": highest_scores(context.student, context.pairing.classes.student)[chosen].detach(),
            "normaliser": mean_over_ranks(count).clamp_min(1.0),
        }
