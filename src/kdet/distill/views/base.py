"""From two observations to the tensors that a loss reads.

A view is a frozen description; called with a `StepContext` it returns the loss's keyword arguments.
Legend: N images, C channels, H W size, K shared classes, P positives of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from kdet.distill.pairing import LevelPair, Pairing
from kdet.distill.teacher import FrozenTeacher
from kdet.distill.views.anchors import same_in_cell
from kdet.ops.align import resize_like
from kdet.types import Detector, Need, Observation, Target

NO_NEEDS: frozenset[Need] = frozenset()


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """All that one step has to show to the terms."""

    student: Observation
    teacher: Observation
    targets: Sequence[Target]
    pairing: Pairing
    teacher_detector: FrozenTeacher


Adapt = Callable[[list[Tensor]], list[Tensor]]
"""Student features of the paired levels to the teacher's channels."""


class View(Protocol):
    """What a term needs of either side, and how to pick it."""

    adapted_maps: ClassVar[int]
    """How many maps of each level it hands to φ, where channels must agree with the teacher's; mostly 1 or 0."""

    student_needs: ClassVar[frozenset[Need]]
    teacher_needs: ClassVar[frozenset[Need]]

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """The loss's keyword arguments."""
        ...


@runtime_checkable
class Demanding(Protocol):
    """A view that asks more of a pair than that either side has what it reads."""

    def refusal(self, student: Detector, teacher: Detector, pairing: Pairing) -> str | None:
        """What it compares and why this pair cannot serve it, with the way out; None where it can."""
        ...


def paired_features(context: StepContext, adapt: Adapt) -> tuple[list[Tensor], list[Tensor]]:
    """Return features of the paired levels, N×C×H×W: the student's adapted, the teacher's on the student's cells."""
    assert context.student.features is not None and context.teacher.features is not None
    student = adapt([context.student.features[pair.student] for pair in context.pairing.levels])
    teacher = [context.teacher.features[pair.teacher] for pair in context.pairing.levels]
    return student, on_students_cells(context, teacher, student)


def on_students_cells(context: StepContext, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
    """Resize the teacher's maps of the paired levels to the student's, by what a cell of either measures in pixels."""
    maps = zip(teacher, student, context.pairing.levels, strict=True)
    return [resize_like(t, s, _stride_ratios(context, pair)) for t, s, pair in maps]


def _stride_ratios(context: StepContext, pair: LevelPair) -> tuple[float, float]:
    """The teacher's stride over the student's, along height and width of the student's canvas.

    The teacher's canvas may be the student's rounded up to other shares along either side, which the pairing, made
    before any canvas is known, cannot tell.
    """
    ours, theirs = context.student.levels[pair.student].stride, context.teacher.levels[pair.teacher].stride
    sizes = zip(context.student.input_size_hw, context.teacher.input_size_hw, strict=True)
    down, across = (theirs / ours * own / seen for own, seen in sizes)
    return down, across


@dataclass(frozen=True)
class Features:
    """Neck outputs of the paired levels."""

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """`student` and `teacher`, lists over levels."""
        student, teacher = paired_features(context, adapt)
        return {"student": student, "teacher": teacher}


@dataclass(frozen=True)
class GuidedFeatures:
    """Neck outputs with the class maps of the same cells."""

    adapted_maps: ClassVar[int] = 1
    student_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.CLASS_LOGITS})
    teacher_needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.CLASS_LOGITS})

    def __call__(self, context: StepContext, adapt: Adapt) -> dict[str, Any]:
        """Features and logits of both, lists over levels; logits N×(A·K)×H×W over the shared classes."""
        student, teacher = paired_features(context, adapt)
        classes, levels = context.pairing.classes, context.pairing.levels
        student_maps = class_maps(context.student, classes.student)
        teacher_maps = class_maps(context.teacher, classes.teacher)
        ours, theirs = [student_maps[p.student] for p in levels], [teacher_maps[p.teacher] for p in levels]
        for place, pair in enumerate(levels):
            same = same_in_cell(context.student.levels[pair.student], context.teacher.levels[pair.teacher])
            if not (pair.exact and same and ours[place].shape[1] == theirs[place].shape[1]):
                ours[place], theirs[place] = (_cell_mean(m[place], len(classes.names)) for m in (ours, theirs))
        return {
            "student_features": student,
            "teacher_features": teacher,
            "student_logits": ours,
            "teacher_logits": on_students_cells(context, theirs, ours),
        }


def class_maps(observation: Observation, columns: tuple[int, ...]) -> list[Tensor]:
    """Return these columns' class logits as maps; of a softmax head log-probabilities (logits have no fixed zero)."""
    assert observation.class_logits is not None
    logits = observation.class_logits.float()
    if observation.activation == "softmax":
        logits = logits.log_softmax(dim=-1)
    return observation.level_logits(logits[..., list(columns)])


def _cell_mean(maps: Tensor, num_classes: int) -> Tensor:
    """The mean over the anchors of each cell, which stands for it where the two models have other ones."""
    n, channels, h, w = maps.shape
    return maps.reshape(n, channels // num_classes, num_classes, h, w).mean(dim=1)
