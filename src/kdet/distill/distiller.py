"""Student, terms and a hidden teacher in one module: the only thing that a training engine wraps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from kdet.distill.criterion import Criterion
from kdet.distill.pairing import Pairing, pair
from kdet.distill.teacher import FrozenTeacher
from kdet.distill.terms import Term
from kdet.distill.views import Sight
from kdet.errors import InputError
from kdet.types import Batch, Detector, LossReport, Need, Pull, Target


class Distiller(nn.Module):
    """One training step of a student, alone or under a teacher.

    Everything that learns (the student's model, adapters, learned losses) is registered here and runs inside
    `forward`, so DDP needs no `find_unused_parameters`. The teacher follows `.to(device)` and is otherwise
    invisible: not in `state_dict()`, not in `parameters()`.
    """

    def __init__(
        self,
        student: Detector,
        teacher: Detector | FrozenTeacher | None = None,
        terms: Sequence[Term] = (),
        *,
        class_map: Mapping[str, str] | None = None,
    ) -> None:
        """Pair student and teacher.

        Args:
            student: the detector to train.
            teacher: the detector to learn from; it is frozen here if it is not yet.
            terms: what `kdet.methods.…()` return, added up.
            class_map: teacher's class name → student's, where they differ.

        Raises:
            InputError: no common stride, other class names, or a term that either side cannot serve.
        """
        super().__init__()
        self.student = student
        self.model = student.model
        self.teacher: FrozenTeacher | None = None
        self.pairing: Pairing | None = None
        self.criterion: Criterion | None = None
        if teacher is not None:
            if teacher.model is student.model:
                raise InputError("student and teacher are the same module; give the teacher a copy of its own")
            frozen = teacher if isinstance(teacher, FrozenTeacher) else FrozenTeacher(teacher)
            self.teacher = frozen
            # A teacher of features alone knows no classes, and no term reads any of it.
            theirs = frozen.class_names or student.class_names
            self.pairing = pair(student.levels, frozen.levels, student.class_names, theirs, class_map)
            self.criterion = Criterion(terms, student, frozen.detector, self.pairing)

    def forward(
        self,
        images: Batch | Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        *,
        progress: float = 1.0,
        measure: bool = False,
    ) -> LossReport:
        """Loss of one batch.

        Args:
            images: a Batch, or torchvision's convention: a list of 3×H×W tensors in 0…1.
            targets: with a list of images, a list of {"boxes": M×4 x1 y1 x2 y2, "labels": M}.
            progress: fraction of the run done, 0…1; schedules read it. 1 = full weight unless a term has stopped.
            measure: fill the report's `pulls`; costs a backward pass from each term to the neck.
        """
        batch = images if isinstance(images, Batch) else self.student.batch(images, targets)
        assert batch.targets is not None, "training needs targets"
        needs = frozenset({Need.LOSSES})
        if self.criterion is not None:
            needs |= self.criterion.student_needs
        seen = self.student.observe(batch, needs, batch.targets)
        parts = {f"task/{name}": value for name, value in seen.losses.items()}
        pulls: dict[str, Pull] = {}
        if self.criterion is not None:
            values = self.criterion.raw(self.sight(batch, seen))
            if torch.is_grad_enabled() and (measure or self.criterion.balance.due()):
                assert seen.features is not None
                pulls = self.criterion.measured(seen.features, sum_of(parts), values)
            parts |= self.criterion(values, progress)
            self.criterion.balance.count()
        return LossReport(total=sum_of(parts), parts=parts, pulls=pulls)

    def sight(self, batch: Batch, seen: Any) -> Sight:
        """What the terms may read of one batch; runs the teacher."""
        assert self.teacher is not None and self.pairing is not None and self.criterion is not None
        return Sight(
            student=seen,
            teacher=self.teacher.observe(batch, self.criterion.teacher_needs),
            targets=batch.targets or [],
            pairing=self.pairing,
            teacher_detector=self.teacher,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(device)` and the like reach the teacher too."""
        if self.teacher is not None:
            self.teacher.model._apply(fn)  # pyright: ignore[reportPrivateUsage]
        return super()._apply(fn, recurse)  # pyright: ignore[reportReturnType]


def sum_of(parts: Mapping[str, Tensor]) -> Tensor:
    """The sum of the parts."""
    values = iter(parts.values())
    total = next(values)
    for value in values:
        total = total + value
    return total
