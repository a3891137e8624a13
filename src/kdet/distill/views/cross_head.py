"""A view on the student through the teacher's eyes: its hidden features of the head, judged by the teacher's head.

Legend: N images, C channels, H W size, A anchors of all levels, K shared classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdet.distill.pairing import Pairing
from kdet.distill.views.anchors import other_grids
from kdet.distill.views.base import Adapt, StepContext
from kdet.errors import InputError
from kdet.ops.ranks import channel_moments, mean_over_ranks
from kdet.types import Detector, HeadFeatures, Need, Observation

FLOOR_SHARE = 0.01
"""A channel's spread counts as at least this share of the map's mean spread, lest noise be blown up."""
FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class CrossHead:
    """Cross-head predictions of the student beside the teacher's own, on all its anchors, padding included."""

    after: int = 3
    """Hidden layers that are the student's; the teacher's take over from there. Official: 3 of 4, for FCOS 2."""
    align: bool = True
    """Whether each channel of the student's maps is first brought to the mean and spread of the teacher's, over the
    images of all processes and their cells: in the official code (there of one process), not in the paper's formula."""

    adapted_maps: ClassVar[int] = 2
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.HEAD_FEATURES, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.FEATURES, Need.HEAD_FEATURES, Need.CLASS_LOGITS, Need.BOXES}
    )

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """Refuse a pair whose grids differ; anchors may, since both predictions are made on the teacher's."""
        why = other_grids(student.levels, teacher.levels, pairing)
        return why and (
            f"has the teacher's head finish the student's maps, which it can only on its own grids: {why}; use feature "
            "terms (structural, lp) for this pair"
        )

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """(N·A)×K logits over the shared classes and (N·A)×4 boxes of either, and the student's count of positives.

        Raises:
            InputError: other grids, or fewer hidden layers than `after`.
        """
        _require_grids(context)
        own = self._layer(context.teacher, "teacher")
        maps = adapt(self._layer(context.student, "student"))
        if self.align:
            maps = [_aligned(theirs, ours) for theirs, ours in zip(maps, own, strict=True)]
        half = len(maps) // 2
        hidden = HeadFeatures(classes=maps[:half], boxes=maps[half:])
        crossed = context.teacher_detector.finish_head(hidden, self.after, context.teacher)
        columns = context.pairing.classes.teacher
        assert context.student.assignment is not None
        return {
            **_predictions(crossed, columns, "student"),
            **_predictions(context.teacher, columns, "teacher"),
            "normaliser": mean_over_ranks((context.student.assignment >= 0).sum()).clamp_min(1.0),
        }

    def _layer(self, seen: Observation, side: Literal["student", "teacher"]) -> list[Tensor]:
        """Maps of the class branch, then of the box branch, one N×C×H×W per level each."""
        depth = len(seen.head_features)
        if not 1 <= self.after <= depth:
            raise InputError(f"the {side}'s head has {depth} hidden layers: expected after 1…{depth}, got {self.after}")
        layer = seen.head_features[self.after - 1]
        return [*layer.classes, *layer.boxes]


def _predictions(seen: Observation, columns: Sequence[int], side: Literal["student", "teacher"]) -> dict[str, Tensor]:
    assert seen.class_logits is not None and seen.boxes is not None
    logits = seen.class_logits[..., list(columns)]
    return {f"{side}_logits": logits.flatten(0, 1), f"{side}_boxes": seen.boxes.flatten(0, 1)}


def _require_grids(context: StepContext) -> None:
    """Refuse grids that are not those that the strides tell."""
    ours, theirs = context.student.cells_hw, context.teacher.cells_hw
    if ours != theirs:
        raise InputError(
            f"the teacher's head can finish the student's maps only on its own grids {theirs}, and the student has "
            f"{ours}; use feature terms (structural, lp) for this pair"
        )


def _aligned(student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """The student's map with the mean and spread that each channel of the teacher's has over images and cells."""
    dtype = torch.promote_types(student_NCHW.dtype, torch.float32)
    s_NCHW, t_NCHW = student_NCHW.to(dtype), teacher_NCHW.to(dtype)
    (mean_s, variance_s), (mean_t, variance_t) = channel_moments(s_NCHW), channel_moments(t_NCHW)
    floor = (FLOOR_SHARE * variance_s.detach().sqrt().mean()).clamp_min(FLOOR)
    scale = variance_t.sqrt() / variance_s.maximum(floor.square()).sqrt()
    return ((s_NCHW - mean_s) * scale + mean_t).to(student_NCHW.dtype)
