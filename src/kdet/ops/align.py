"""Bring the teacher's map to the student's cells."""

from torch import Tensor
from torch.nn import functional as F

_SAME = 1e-6
"""Strides this near each other, as a share, are equal."""


def resize_like(teacher_NCHW: Tensor, student_NCHW: Tensor, ratio_hw: tuple[float, float]) -> Tensor:
    """Resize the teacher's map to the student's cells: each takes what the teacher has at its centre.

    A map has as many cells as it takes to cover the canvas, so the last ones may reach beyond, and those of a coarser
    map farther than those of a finer one. Both begin at the canvas' top left corner; hence their strides and not their
    sizes say which cell is where. Values are bilinear between the centres of the teacher's cells, and those of the edge
    beyond the outermost. A map more than twice as fine is averaged to half the student's stride first, lest most of its
    cells be looked over.

    Args:
        teacher_NCHW: the teacher's map.
        student_NCHW: the student's; only its height and width are read.
        ratio_hw: the teacher's stride over the student's, along height and width, both in pixels of one canvas.

    Returns:
        N×C×H×W of at least float32; the very tensor where the cells agree already.
    """
    within_hw = tuple(max(1, int(0.5 / ratio + _SAME)) for ratio in ratio_hw)
    agree = all(abs(ratio - 1) < _SAME for ratio in ratio_hw)
    if agree and teacher_NCHW.shape[2:] == student_NCHW.shape[2:]:
        return teacher_NCHW
    maps = teacher_NCHW.float() if teacher_NCHW.element_size() < 4 else teacher_NCHW
    if within_hw != (1, 1):
        maps = F.avg_pool2d(maps, within_hw, ceil_mode=True)
    # What the student's cells cover as shares of what the teacher's do. F.interpolate looks at their numbers alone.
    sides = zip(student_NCHW.shape[2:], maps.shape[2:], ratio_hw, within_hw, strict=True)
    down, across = (cells / (ratio * within * have) for cells, have, ratio, within in sides)
    part = maps.new_tensor([[across, 0, across - 1], [0, down, down - 1]]).expand(len(maps), 2, 3)
    grid = F.affine_grid(part, [*maps.shape[:2], *student_NCHW.shape[2:]], align_corners=False)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
