"""A view on all that two dense heads say: class scores and boxes of every anchor.

Legend: N images, A anchors of all levels, K shared classes, P anchors of the batch that are not ignored.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from kdet.distill.pairing import Pairing
from kdet.distill.views.anchors import other_anchors
from kdet.distill.views.base import Adapt, StepContext
from kdet.distill.views.cells import same_anchors
from kdet.distill.views.queries import binary_logits
from kdet.errors import InputError
from kdet.ops.ranks import mean_over_ranks
from kdet.types import Detector, Need

_WAY_OUT = "give both the same detector, `anchor_scale` and input size, or use rank_mimicking or feature terms"


@dataclass(frozen=True)
class EveryAnchor:
    """Class logits, each a question of its own, and boxes of all anchors that the student does not ignore."""

    adapted_maps: ClassVar[int] = 0
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_LOGITS, Need.BOXES})

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair whose anchors differ in place or size."""
        why = other_anchors(student.levels, teacher.levels, pairing)
        return why and f"compares anchor by anchor: {why}; {_WAY_OUT} for this pair"

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """P×K logits over the shared classes and P×4 boxes of both, and the student's positives over all processes.

        Raises:
            InputError: other grids than the strides tell.
        """
        if not same_anchors(context):
            raise InputError(
                f"the student's grids {context.student.cells_hw} are not the teacher's {context.teacher.cells_hw}, and "
                f"this term compares anchor by anchor; {_WAY_OUT} for this pair"
            )
        assert context.student.assignment is not None
        chosen = torch.where(context.student.assignment > -2)
        found: dict[str, Any] = {}
        classes = context.pairing.classes
        for side, seen, columns in (
            ("student", context.student, classes.student),
            ("teacher", context.teacher, classes.teacher),
        ):
            assert seen.class_logits is not None and seen.boxes is not None
            logits = binary_logits(seen.class_logits.float(), seen.activation)[..., list(columns)]
            found |= {f"{side}_logits": logits[chosen], f"{side}_boxes": seen.boxes[chosen]}
        positives = (context.student.assignment >= 0).sum()
        return {**found, "normaliser": mean_over_ranks(positives).clamp_min(1.0)}
