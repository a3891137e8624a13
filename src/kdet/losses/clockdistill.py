"""CLoCKDistill's memory distillation: what a transformer's encoder says, weighed by where the objects are.

Legend: N images, C channels, H W height and width of a level.
"""

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import cell_weights


def clockdistill_loss(
    student: Levels,
    teacher: Levels,
    *,
    foreground: Levels,
    background: Levels,
    foreground_weight: float = 1.0,
    background_weight: float = 0.5,
) -> Tensor:
    """Compute the squared difference of the two encoders' outputs, objects and background weighed apart.

    Paper: Lan, Tian, "CLoCKDistill: Consistent Location-and-Context-aware Knowledge Distillation for DETRs", WACV 2026,
    https://arxiv.org/abs/2502.10683, its location-and-context-aware memory distillation.

        L = Σ_levels 1/N Σ_n Σ_{h,w} (α·F_nhw + β·B_nhw) · 1/C Σ_c (S_nchw − T_nchw)²

    | symbol | argument              | paper                                                                      |
    |--------|-----------------------|----------------------------------------------------------------------------|
    | S, T   | `student`, `teacher`  | memory: the encoder's output, one level or several                         |
    | F      | `foreground`          | where the ground truth has objects; here 1 / cells of the object           |
    | B      | `background`          | elsewhere; here 1 / cells outside all objects                              |
    | α      | `foreground_weight`   | not known to us; here 1                                                    |
    | β      | `background_weight`   | not known to us; here 0.5, FGD's share of α                                |
    | φ      | the caller's 1×1 conv | on the student                                                             |

    Args:
        student: The student's levels, one N×C×H×W map or a list of them.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        foreground: `kdet.ops.regions.foreground_by_area` of each level, N×1×H×W.
        background: `kdet.ops.regions.background_mask` of each level, N×1×H×W.
        foreground_weight: How much the objects count.
        background_weight: How much the rest counts.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import clockdistill_loss
        >>> student, teacher = torch.zeros(1, 8, 2, 2), torch.ones(1, 8, 2, 2)
        >>> foreground = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])  # an object of one cell
        >>> background = (1 - foreground) / 3
        >>> loss = clockdistill_loss(student, teacher, foreground=foreground, background=background)
        >>> round(loss.item(), 4)
        1.5

    Deviations: from the abstract we know that memory is distilled in place of backbone features, and that the objects'
    locations weigh it; the equation is our reading, with FGD's maps of weights and without its attention. Left out is
    the second half of the method, queries made from the ground truth for both decoders; `kd_detr` puts the teacher's
    own queries to both. Of RT-DETR and its kind the memory is what the hybrid encoder hands to the decoder.
    """
    levels = pair_levels(student, teacher)
    students = [s for s, _ in levels]
    inside = cell_weights(foreground, students, name="foreground")
    outside = cell_weights(background, students, name="background")
    with full_precision(students[0]):
        loss = students[0].new_zeros(())
        for (s, t), f, b in zip(levels, inside, outside, strict=True):
            loss = loss + _level_loss(s, t, foreground_weight * f + background_weight * b)
    return refuse_nan(loss, student=student, teacher=teacher, foreground=foreground, background=background)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, weight_N1HW: Tensor) -> Tensor:
    if student_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    gap_N1HW = (student_NCHW - teacher_NCHW).square().mean(1, keepdim=True)
    return (weight_N1HW * gap_N1HW).sum() / len(student_NCHW)
