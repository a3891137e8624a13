"""What the two models give, brought to one form before a loss sees it: checked pairs, float32, teacher detached."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdet.errors import NotANumber
from kdet.ops.ranks import num_ranks

Levels = Tensor | Sequence[Tensor]
"""One N×C×H×W map, or one per level of the neck."""


def pair_levels(student: Levels, teacher: Levels) -> list[tuple[Tensor, Tensor]]:
    """Pair the levels of student and teacher, of equal shape, in float32 (float64 stays), the teacher's detached.

    Raises:
        ValueError: the two differ in number of levels or in shape, or are not floating-point N×C×H×W maps.
    """
    students = [student] if isinstance(student, Tensor) else list(student)
    teachers = [teacher] if isinstance(teacher, Tensor) else list(teacher)
    if not students or len(students) != len(teachers):
        raise ValueError(
            f"expected as many levels from the teacher as from the student, at least one, "
            f"got {len(students)} of the student and {len(teachers)} of the teacher"
        )
    return [
        pair_tensors(s, t, dims="N×C×H×W", where=f"level {level}")
        for level, (s, t) in enumerate(zip(students, teachers, strict=True))
    ]


def pair_tensors(student: Tensor, teacher: Tensor, *, dims: str, where: str = "the input") -> tuple[Tensor, Tensor]:
    """Pair two tensors in the same way; `dims` names the axes that both must have, for example "P×K".

    Raises:
        ValueError: the two differ in shape, have other axes, or are not floating-point.
    """
    for owner, tensor in (("student", student), ("teacher", teacher)):
        if not tensor.is_floating_point():
            raise ValueError(f"expected a floating-point tensor at {where} of the {owner}, got {tensor.dtype}")
    if student.ndim != dims.count("×") + 1:
        raise ValueError(f"expected {dims} at {where}, got a student of shape {_shown(student)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"expected the teacher's shape at {where} to be the student's {_shown(student)}, got {_shown(teacher)}"
            + _remedy(student, teacher)
        )
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def refuse_nan(loss: Tensor, **inputs: Levels) -> Tensor:
    """Return the loss itself, unless it is NaN because an input holds NaN.

    NaN in an input always makes the loss NaN, so looking at the one resulting number is enough. Reading it would
    make the host wait for an accelerator, so there, and while compiling, the NaN is simply handed on to the caller.
    So it is among several processes: the terms that follow may count over all of them, and a process that left here
    would let the others wait.

    Raises:
        NotANumber: an input on the CPU holds NaN, in a process that is alone.
    """
    if torch.compiler.is_compiling() or loss.device.type != "cpu" or num_ranks() > 1 or not bool(loss.isnan()):
        return loss
    for name, levels in inputs.items():
        tensors = [levels] if isinstance(levels, Tensor) else levels
        for level, tensor in enumerate(tensors):
            if bool(tensor.isnan().any()):
                where = name if isinstance(levels, Tensor) else f"level {level} of {name}"
                raise NotANumber(f"expected numbers, got NaN in {where}")
    return loss


def attached_zero(*tensors: Tensor) -> Tensor:
    """Return a zero that keeps the graph, for inputs in which nothing is selected."""
    return torch.stack([tensor.sum() * 0 for tensor in tensors]).sum()


def _shown(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a scalar"


def _remedy(student: Tensor, teacher: Tensor) -> str:
    """What mends the difference, where the axes show it."""
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[0] != teacher.shape[0]:
        return ""
    if student.shape[1] != teacher.shape[1]:
        return "; a 1×1 convolution on the student brings the channels together"
    return "; kdet.ops.align.resize_like brings the teacher's map to the student's cells"
