"""Views on neck features with a weight in each cell: where the objects are, or where the teacher sees some.

Legend: N images, A anchors of all levels or of one cell, C channels, H W size, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from kdet.distill.views.base import Adapt, Features, StepContext, on_students_cells, paired_features
from kdet.ops.ranks import mean_over_ranks
from kdet.ops.regions import background_mask, box_mask, cell_mask, foreground_by_area
from kdet.types import Need, Observation, SizeHW


@dataclass(frozen=True)
class UnadaptedFeatures(Features):
    """Neck outputs for a loss that looks past the channels, so that their numbers may differ."""

    adapted_maps: ClassVar[int] = 0


@dataclass(frozen=True)
class FeaturesInBoxes:
    """Neck outputs with the cells that an object's box touches."""

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Features of both and `weight`, N×1×H×W a level, with the sum 1 over the whole batch."""
        student, teacher = paired_features(context, adapt)
        boxes = [target["boxes"] for target in context.targets]
        masks = [box_mask(boxes, size_hw, pixels_hw) for size_hw, pixels_hw in _grids(context, student)]
        return {"student": student, "teacher": teacher, "weight": [_to_one(mask) for mask in masks]}


@dataclass(frozen=True, kw_only=True)
class FeaturesAtPositives:
    """Neck outputs with the cells that hold a positive anchor of the student, or with all others."""

    others: bool = False

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.ASSIGNMENT})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Features of both and `weight`, N×1×H×W a level, with the sum 1 over the whole batch."""
        student, teacher = paired_features(context, adapt)
        assert context.student.assignment is not None
        levels = _by_level(context.student, context.student.assignment >= 0)
        masks = [
            cell_mask(levels[pair.student], context.student.cells_hw[pair.student]) for pair in context.pairing.levels
        ]
        if self.others:
            masks = [1 - mask for mask in masks]
        return {"student": student, "teacher": teacher, "weight": [_to_one(mask) for mask in masks]}


@dataclass(frozen=True)
class FeaturesByRegion:
    """Neck outputs with FGD's two maps: objects, each weighing by its area, and background."""

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Features of both, `foreground` and `background`, N×1×H×W a level."""
        student, teacher = paired_features(context, adapt)
        boxes, grids = [target["boxes"] for target in context.targets], _grids(context, student)
        return {
            "student": student,
            "teacher": teacher,
            "foreground": [foreground_by_area(boxes, size_hw, pixels_hw) for size_hw, pixels_hw in grids],
            "background": [background_mask(boxes, size_hw, pixels_hw) for size_hw, pixels_hw in grids],
        }


@dataclass(frozen=True)
class MemoryByRegion(FeaturesByRegion):
    """The same of neck outputs that are a transformer encoder's memory."""

    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.MEMORY})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.MEMORY})


@dataclass(frozen=True)
class FeaturesByScore:
    """Neck outputs with the teacher's highest class score in each cell."""

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.CLASS_LOGITS})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Features of both and `teacher_scores`, N×1×H×W a level, in 0…1."""
        student, teacher = paired_features(context, adapt)
        scores = _by_level(context.teacher, highest_scores(context.teacher, context.pairing.classes.teacher))
        maps = [
            scores[pair.teacher].amax(-1).reshape(-1, 1, *context.teacher.cells_hw[pair.teacher])
            for pair in context.pairing.levels
        ]
        return {"student": student, "teacher": teacher, "teacher_scores": on_students_cells(context, maps, student)}


def highest_scores(observation: Observation, columns: Sequence[int]) -> Tensor:
    """Return the highest score of each anchor, N×A, over these columns: the score that NMS sorts by."""
    assert observation.class_logits is not None
    logits = observation.class_logits.float()
    if observation.activation == "softmax":
        return logits.softmax(-1)[..., list(columns)].amax(-1)
    scores = logits[..., list(columns)].amax(-1).sigmoid()
    if observation.quality_logits is None:
        return scores
    return (scores * observation.quality_logits.float().sigmoid()).sqrt()


def _by_level(observation: Observation, values_NA: Tensor) -> list[Tensor]:
    """Values of all anchors, split into one N×(H·W)×A per level."""
    counts = [h * w * a for (h, w), a in zip(observation.cells_hw, observation.anchors_per_cell, strict=True)]
    parts = values_NA.split(counts, dim=1)
    return [p.reshape(len(p), -1, a) for p, a in zip(parts, observation.anchors_per_cell, strict=True)]


def _to_one(mask: Tensor) -> Tensor:
    """A mask of 0 and 1 as weights with the sum 1 over the batches of all processes; all zero where it is empty."""
    return mask / mean_over_ranks(mask.sum()).clamp_min(1.0)


def _grids(context: StepContext, student: Sequence[Tensor]) -> list[tuple[SizeHW, SizeHW]]:
    """Cells of each paired level of the student, and the pixels that they cover: at least those of the canvas."""
    strides = [pair.stride for pair in context.pairing.levels]
    sizes = [(int(level.shape[2]), int(level.shape[3])) for level in student]
    return [((h, w), (h * stride, w * stride)) for (h, w), stride in zip(sizes, strides, strict=True)]
