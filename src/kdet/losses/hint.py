"""Hints: the student's features are to equal the teacher's, everywhere or where a weight says.

Legend: N images, C channels, H W height and width of a level.
"""

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import cell_weights, reduce_map


def hint_loss(student: Levels, teacher: Levels, *, weight: Levels | None = None) -> Tensor:
    """Compute half the squared difference of the features, averaged over channels and weighted cell by cell.

    Paper: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
    https://arxiv.org/abs/1412.6550. On detectors: Chen, Choi, Yu, Han, Chandraker, "Learning Efficient Object Detection
    Models with Knowledge Distillation", NIPS 2017 (whole map); Wang, Yuan, Zhang, Feng, "Distilling Object Detectors
    with Fine-grained Feature Imitation", CVPR 2019, https://arxiv.org/abs/1906.03609 (cells near objects).

        L = 1/2 Σ_levels Σ_{n,h,w} I_nhw · 1/C Σ_c (S_nchw − T_nchw)²

    | symbol | argument             | paper                                                                       |
    |--------|----------------------|-----------------------------------------------------------------------------|
    | S, T   | `student`, `teacher` | one layer; here one N×C×H×W map or a list of them                           |
    | I      | `weight`             | 1 everywhere (FitNets); 1/N_p in the N_p chosen cells, else 0 (CVPR 2019)   |
    | r      | the caller's 1×1 conv | the regressor on the student's features                                    |
    | γ, λ   | the caller's weight  | 0.5 (NIPS 2017); 0.01 on the sum over channels, so 0.01·C here (CVPR 2019)  |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        weight: N×1×H×W for each level, usually with the sum 1 over a level's whole batch; in a group of processes the
            sum is 1 in their mean, as `kdet.ops.ranks.mean_over_ranks` makes it. None weighs all cells alike,
            1/(N·H·W). No gradient goes there.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import hint_loss
        >>> student, teacher = torch.zeros(2, 8, 4, 4), torch.ones(2, 8, 4, 4)
        >>> hint_loss(student, teacher).item()
        0.5
        >>> hint_loss([student, student], [teacher, teacher]).item()  # two levels of the neck
        1.0

    Deviations: FitNets sums over channels and cells, CVPR 2019 over channels; with means a weight stands for the same
    at any width and size. NIPS 2017 has no 1/2. Which cells are chosen is the caller's affair. In the papers a hint
    stands on one layer, and FitNets is done with it before it trains the task; here it is a term beside the task's
    losses, on any number of levels.
    """
    levels = pair_levels(student, teacher)
    given = {} if weight is None else {"weight": weight}
    weights = None if weight is None else cell_weights(weight, [s for s, _ in levels], name="weight")
    with full_precision(levels[0][0]):
        loss = levels[0][0].new_zeros(())
        for level, (s, t) in enumerate(levels):
            loss = loss + _level_loss(s, t, None if weights is None else weights[level])
    return refuse_nan(loss, student=student, teacher=teacher, **given)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, weight_N1HW: Tensor | None) -> Tensor:
    if student_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    gap_N1HW = (student_NCHW - teacher_NCHW).square().mean(1, keepdim=True)
    return (reduce_map(gap_N1HW) if weight_N1HW is None else (gap_N1HW * weight_N1HW).sum()) / 2
