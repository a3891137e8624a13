"""Bring the teacher's map to the student's size."""

from torch import Tensor
from torch.nn import functional as F


def resize_like(teacher_NCHW: Tensor, student_NCHW: Tensor) -> Tensor:
    """The teacher's map at the student's height and width (bilinear); the same tensor where they already agree."""
    size_hw = student_NCHW.shape[-2:]
    if teacher_NCHW.shape[-2:] == size_hw:
        return teacher_NCHW
    return F.interpolate(teacher_NCHW, size=size_hw, mode="bilinear", align_corners=False)
