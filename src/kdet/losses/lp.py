"""Plain difference of feature maps, ℓ1 or ℓ2: the baselines of structural distillation.

Legend: N images, C channels, H W height and width of a level.
"""

from typing import Literal

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import reduce_map
from kdet.ops.ssim.scale import Normalize, check_normalize, rescaled_pair


def lp_loss(student: Levels, teacher: Levels, *, p: Literal[1, 2], normalize: Normalize = "channel") -> Tensor:
    """Compute the mean of |S − T| (p = 1) or (S − T)² (p = 2) over a level, summed over levels.

    Paper: the ℓ1 and ℓ2 baselines of de Rijk, Schneider, Cordts, Gavrila, "Structural Knowledge Distillation for
    Object Detection", NeurIPS 2022, https://arxiv.org/abs/2211.13133. There is no official code.

        L_feat = Σ_r 1/(H_r·W_r·C) Σ_{h,w,c} |ν(S_r) − ν(T_r)|^p

    | symbol   | argument             | paper                                                              |
    |----------|----------------------|--------------------------------------------------------------------|
    | S_r, T_r | `student`, `teacher` | necks' outputs; one N×C×H×W map or a list of them                  |
    | p        | `p`                  | 1 and 2                                                            |
    | ν        | `normalize`          | min-max rescale to [0, 1], each model by its own range             |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        p: 1 or 2.
        normalize: As in `structural_loss`. With None and p = 2 a single map gives `F.mse_loss`.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, another p, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import lp_loss
        >>> student, teacher = torch.zeros(2, 8, 4, 4), torch.full((2, 8, 4, 4), 3.0)
        >>> lp_loss(student, teacher, p=2, normalize=None).item()
        9.0

    Deviations: axes and floor of ν, that the teacher's dead channels count as 0, and the mean over the batch are ours,
    as in `structural_loss`.
    """
    if p not in (1, 2):
        raise ValueError(f"expected p 1 or 2, got {p}")
    check_normalize(normalize)
    levels = pair_levels(student, teacher)
    with full_precision(levels[0][0]):
        loss = sum((_level_loss(s, t, p, normalize) for s, t in levels), start=levels[0][0].new_zeros(()))
    return refuse_nan(loss, student=student, teacher=teacher)


def _level_loss(student: Tensor, teacher: Tensor, p: Literal[1, 2], normalize: Normalize) -> Tensor:
    if student.numel() == 0:
        return attached_zero(student)
    own, other, taught = rescaled_pair(student, teacher, normalize)
    difference = (own - other) * taught
    return reduce_map(difference.abs() if p == 1 else difference.square())
