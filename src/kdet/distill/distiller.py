"""Student, terms and a hidden teacher in one module: the only thing that a training engine wraps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from kdet.distill.criterion import Criterion
from kdet.distill.paired_teacher import PairedTeacher, TeacherConfig, fit_to
from kdet.distill.pairing import Pairing
from kdet.distill.teacher import FrozenTeacher
from kdet.distill.terms import Term
from kdet.distill.views.base import StepContext
from kdet.errors import InputError
from kdet.ops.boxes import scaled
from kdet.ops.canvas import teacher_canvas
from kdet.ops.modes import frozen_norms
from kdet.ops.randomness import seeded
from kdet.ops.ranks import num_ranks
from kdet.types import Batch, Detector, GradientRatio, LossReport, Need, Observation, Phased, Target

_TEACHERS, _TERMS = 0, 1
"""Who draws random numbers apart from the student."""


class Distiller(nn.Module):
    """One training step of a student, alone or under a teacher.

    Everything that learns (the student's model, adapters, learned losses) is registered here and runs inside
    `forward`, so DDP needs no `find_unused_parameters`. The teacher follows `.to(device)` and is otherwise
    invisible: not in `state_dict()`, not in `parameters()`.

    Examples:
        >>> import kdet
        >>> import torch
        >>> arguments = {"classes": ["circle"], "backbone": "resnet10", "fpn_channels": 16, "image_size": 64}
        >>> student = kdet.build("retinanet", width=0.25, **arguments)
        >>> teacher = kdet.build("retinanet", width=0.5, **arguments)  # yours has trained weights
        >>> distiller = kdet.Distiller(student, teacher, kdet.methods.structural(weight=2.0))
        >>> images = [torch.rand(3, 64, 64)]
        >>> targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
        >>> report = distiller(images, targets)
        >>> list(report.parts)
        ['task/classification', 'task/bbox_regression', 'structural']
        >>> report.total.backward()
    """

    def __init__(
        self,
        student: Detector,
        teacher: Detector | FrozenTeacher | None = None,
        terms: Sequence[Term] = (),
        *,
        class_map: Mapping[str, str] | None = None,
        teachers: Sequence[TeacherConfig] = (),
    ) -> None:
        """Pair student and teachers.

        Args:
            student: the detector to train.
            teacher: the detector to learn from; it is frozen here if it is not yet.
            terms: what `kdet.methods.…()` return, added up.
            class_map: teacher's class name → student's, where they differ.
            teachers: in place of these three, for several teachers or one that sees larger images.

        Raises:
            InputError: no common level, or a term that either side cannot serve.
        """
        super().__init__()
        self.student = student
        self.model = student.model
        if teacher is not None:
            if teachers:
                raise InputError("give either `teacher` with its terms, or `teachers`")
            teachers = [TeacherConfig(teacher=teacher, terms=terms, class_map=class_map or {})]
        self.paired_teachers = tuple(fit_to(student, config) for config in teachers)
        scales = sorted({paired.scale for paired in self.paired_teachers if paired.needs_larger_images})
        if len(scales) > 1:
            raise InputError(f"teachers see images {scales} times as large; at most one size beside the student's")
        self.teacher_scale = scales[0] if scales else 1.0
        """How many times larger the images are that batches bring for a teacher."""
        with seeded(torch.initial_seed()):  # the loop's next random numbers are those that it has without terms
            has_terms = any(paired.terms for paired in self.paired_teachers)  # else a teacher only finds boxes
            self.criterion = Criterion(self.paired_teachers, student) if has_terms else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode as torch does, but keep the statistics of `kdet.ops.modes.frozen_norms` as they are."""
        super().train(mode)
        for norm in frozen_norms(self.model):
            norm.eval()
        return self

    @property
    def clipped_apart(self) -> list[nn.Module]:
        """The student, then all else that learns: a generator's gradient must not shrink the student's step."""
        return [module for module in (self.model, self.criterion) if module is not None]

    @property
    def teacher(self) -> FrozenTeacher | None:
        """The first one: whose classes, detections and maps are shown beside the student's."""
        return self.paired_teachers[0].teacher if self.paired_teachers else None

    @property
    def pairing(self) -> Pairing | None:
        """Pairing of the student's neck with the first teacher's; None without a teacher."""
        return self.paired_teachers[0].features if self.paired_teachers else None

    def forward(
        self,
        images: Batch | Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        *,
        progress: float | None = None,
        measure: bool = False,
    ) -> LossReport | list[dict[str, Tensor]]:
        """Loss of one batch; in evaluation mode and without targets what the student finds, as torchvision's models do.

        Args:
            images: a Batch, or torchvision's convention: a list of 3×H×W tensors in 0…1.
            targets: with a list of images, a list of {"boxes": M×4 x1 y1 x2 y2 in pixels of its image, "labels": M,
                indices into the student's `class_names`}; other keys are not read.
            progress: fraction of the run done, 0…1. Schedules read it, and students whose own loss changes over a run
                (`kdet.types.Phased`). None = full weight unless a term has stopped, and the student's loss as built.
            measure: fill the report's `pulls`; costs a backward pass from each term to the neck.

        Returns:
            A LossReport; or for each image of a list "boxes" M×4 in its own pixels, "scores" M and "labels" M.

        Raises:
            InputError: a list of images without targets in training mode.
        """
        if targets is None and not isinstance(images, Batch):
            if self.training:
                raise InputError("training needs targets beside the images; without them call `.eval()` first")
            return self._found(images)
        if progress is not None and isinstance(self.student, Phased):
            self.student.at(progress)
        batch = images if isinstance(images, Batch) else self._batch(images, targets)
        if batch.targets is None:
            raise InputError("training needs targets, and this batch has none")
        # Among several processes nobody leaves early: the terms that follow may count over all of them, and DDP wants
        # all at the end of its forward pass; else the others would wait.
        seen, contexts = self.observe_pair(batch, nan_for_refusal=num_ranks() > 1)
        parts = {f"task/{name}": value for name, value in seen.losses.items()}
        gradients: dict[str, GradientRatio] = {}
        if self.criterion is not None:
            with self._drawing_apart(batch, _TERMS):
                values = self.criterion.raw(contexts)
            if torch.is_grad_enabled() and (measure or self.criterion.balance.due()):
                assert seen.features is not None
                gradients = self.criterion.measured(seen.features, sum_of(parts), values)
            parts |= self.criterion(values, 1.0 if progress is None else progress)
            self.criterion.balance.count()
        return LossReport(total=sum_of(parts), parts=parts, gradients=gradients)

    def observe_pair(
        self,
        batch: Batch,
        *,
        student: Detector | None = None,
        only: frozenset[Need] | None = None,
        also: frozenset[Need] = frozenset(),
        nan_for_refusal: bool = False,
    ) -> tuple[Observation, list[StepContext]]:
        """What both sides reveal of one batch: for training, its proof, a diagnosis and the report alike.

        Args:
            batch: on the device.
            student: in place of the distiller's own, such as its moving average.
            only: these of what the terms and the student's own loss need, on either side.
            also: more of either side.
            nan_for_refusal: where the student's own loss refuses the numbers, as matching does NaN, NaN is its loss.

        Returns:
            The student's observation, and what the terms may read, one context a teacher; none where no teacher is
            asked for anything.
        """
        ours, theirs = frozenset({Need.LOSSES}), [frozenset[Need]() for _ in self.paired_teachers]
        if self.criterion is not None:
            ours, theirs = ours | self.criterion.student_needs, self.criterion.teacher_needs
        ours, *theirs = [(needs if only is None else needs & only) | also for needs in (ours, *theirs)]
        paired_teachers = self.paired_teachers if any(theirs) else ()
        # First: what a teacher's own pass takes is free again before the student's activations pile up.
        with self._drawing_apart(batch, _TEACHERS):
            asked = zip(paired_teachers, theirs, strict=False)
            answers = [own.teacher.observe(as_seen_by(own, batch), needs) for own, needs in asked]
        detector = student or self.student
        observe = partial(observed, detector) if nan_for_refusal else detector.observe
        seen = observe(batch, ours, batch.targets)
        return seen, [
            StepContext(
                student=seen,
                teacher=answer,
                targets=batch.targets or [],
                pairing=paired.pairing,
                teacher_detector=paired.teacher,
            )
            for paired, answer in zip(paired_teachers, answers, strict=True)
        ]

    def _drawing_apart(self, batch: Batch, who: int) -> AbstractContextManager[None]:
        """Teachers and terms draw random numbers of their own, new ones in each step; the student draws what it does
        alone. The step is saved with the state, so that a loop that goes on draws what it would have drawn."""
        if self.criterion is None:
            return nullcontext()
        step = int(self.criterion.balance.batches)
        return seeded(torch.initial_seed(), step, who, device=batch.images.device)

    def _found(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        batch = self.student.batch(images)
        found = zip(self.student.predict(batch), batch.sizes_hw, batch.original_sizes_hw, strict=True)
        return [
            {"boxes": scaled(one.boxes, seen_hw, own_hw), "scores": one.scores, "labels": one.labels}
            for one, seen_hw, own_hw in found
        ]

    def _batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None) -> Batch:
        batch = self.student.batch(images, targets)
        if self.teacher_scale == 1:
            return batch
        height, width = batch.images.shape[-2:]
        larger = teacher_canvas(images, batch.sizes_hw, (height, width), self.teacher_scale)
        return replace(batch, teacher_images=larger)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(device)` and the like reach the teachers too."""
        for paired in self.paired_teachers:
            paired.teacher.model._apply(fn)  # pyright: ignore[reportPrivateUsage]
        return super()._apply(fn, recurse)  # pyright: ignore[reportReturnType]


def observed(student: Detector, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None) -> Observation:
    """Observe a student; where a loss of its own refuses the numbers, as matching does NaN, NaN is its loss.

    Raises:
        InputError: as the detector's own.
    """
    try:
        return student.observe(batch, needs, targets)
    except InputError:
        raise
    except ValueError:
        shown = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.BOXES, Need.QUERIES}) & student.provides
        seen = student.observe(batch, (needs - {Need.LOSSES}) | shown, targets)
        held = [*(seen.features or ()), seen.class_logits, seen.boxes, seen.query_logits, seen.query_boxes]
        if all(value is None or bool(value.isfinite().all()) for value in held):
            raise  # it refuses something else
        return replace(seen, losses={"refused": batch.images.new_full((), torch.nan)})


def as_seen_by(paired: PairedTeacher, batch: Batch) -> Batch:
    """Return the batch with or without its larger images, as this teacher needs them.

    Raises:
        InputError: they are needed and not there.
    """
    if not paired.needs_larger_images:
        return replace(batch, teacher_images=None)
    if batch.teacher_images is None:
        raise InputError(
            f"this teacher sees images {paired.scale:g} times as large, and the batch brings none; "
            "give a list of images, or a batch of a pipeline with this `teacher_scale`"
        )
    return batch


def sum_of(parts: Mapping[str, Tensor]) -> Tensor:
    """Sum the parts."""
    values = iter(parts.values())
    total = next(values)
    for value in values:
        total = total + value
    return total
