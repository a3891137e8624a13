"""Score-weighted imitation: features count where the teacher sees an object.

Legend: N images, C channels, H W height and width of a level.
"""

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import cell_weights, reduce_map


def score_weighted_loss(student: Levels, teacher: Levels, teacher_scores: Levels) -> Tensor:
    """Compute the squared difference of the features, weighted in each cell by the teacher's highest class score.

    Source: the documentation of a widely used YOLO package, whose built-in distillation is a "score-weighted L2 loss",
    weighted by the teacher's classification confidence. There is no paper; the code was not read.

        L = Σ_levels mean over n, c, h, w of p_nhw · (S_nchw − T_nchw)²

    | symbol | argument             | source                                                                      |
    |--------|----------------------|-----------------------------------------------------------------------------|
    | S, T   | `student`, `teacher` | the three inputs of the detection head; one N×C×H×W map or a list of them   |
    | p      | `teacher_scores`     | the teacher's classification confidence                                     |
    | φ      | the caller's 1×1 conv | on the student: two 1×1 convolutions with a ReLU between                   |
    | weight | the caller's weight  | 6                                                                           |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        teacher_scores: N×1×H×W for each level, in 0…1: the teacher's highest class score in the cell, over its classes
            and anchors. No gradient goes there.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import score_weighted_loss
        >>> student, teacher = torch.zeros(1, 8, 2, 2), torch.full((1, 8, 2, 2), 2.0)
        >>> score_weighted_loss(student, teacher, torch.full((1, 1, 2, 2), 0.5)).item()
        2.0

    Deviations: the documentation leaves the reduction open. Ours is the plain mean: it divides by all cells, not by the
    sum of the scores, so that an image without objects adds next to nothing. The weight of 6 belongs to theirs and need
    not suit ours. The adapter is one 1×1 convolution, as for every other loss here. The highest score over classes and
    anchors is our reading of "confidence".
    """
    levels = pair_levels(student, teacher)
    scores = cell_weights(teacher_scores, [s for s, _ in levels], name="teacher_scores")
    with full_precision(levels[0][0]):
        losses = [_level_loss(s, t, p) for (s, t), p in zip(levels, scores, strict=True)]
        loss = sum(losses, start=levels[0][0].new_zeros(()))
    return refuse_nan(loss, student=student, teacher=teacher, teacher_scores=teacher_scores)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, score_N1HW: Tensor) -> Tensor:
    if student_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    return reduce_map(score_N1HW * (student_NCHW - teacher_NCHW).square())
