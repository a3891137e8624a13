"""Channel-wise distillation: where in the image each channel is active.

Legend: N images, C channels, L = H·W cells of a level.
"""

from torch import Tensor
from torch.nn import functional as F

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import reduce_map
from kdet.ops.temperature import check_temperature


def cwd_loss(student: Levels, teacher: Levels, *, temperature: float = 1.0) -> Tensor:
    """Compute the KL divergence between the two distributions of a channel over the cells, mean over channels.

    Paper: Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
    https://arxiv.org/abs/2011.13256.

        L    = Σ_levels T²/C Σ_c KL( φ(T_c) ‖ φ(S_c) )                  mean over images
        φ(y) = exp(y_i / T) / Σ_j exp(y_j / T)                          softmax over the cells i of one channel

    | symbol   | argument             | paper                                                                    |
    |----------|----------------------|--------------------------------------------------------------------------|
    | S_c, T_c | `student`, `teacher` | channel of the necks' outputs or of the class maps; N×C×H×W, or a list   |
    | T        | `temperature`        | 1 for the necks of detectors (official configuration), 4 for segmentation |
    | α        | the caller's weight  | 5 a level for RetinaNet (official configuration), 10 in mmrazor for      |
    |          |                      | Faster R-CNN, RetinaNet and GFL; 3 for the logits of segmentation        |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        temperature: Divides both maps; the factor T² keeps the size of the gradient.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, a temperature not above 0, NaN (on the CPU; elsewhere the
            loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import cwd_loss
        >>> student = torch.tensor([0.5, 0.5]).log().reshape(1, 1, 1, 2)
        >>> teacher = torch.tensor([0.75, 0.25]).log().reshape(1, 1, 1, 2)
        >>> round(cwd_loss(student, teacher).item(), 4)  # 0.75 · log 1.5 + 0.25 · log 0.5
        0.1308

    Deviations: none from the equation. A constant added to a channel changes nothing, its scale does. A level of one
    cell gives 0.
    """
    check_temperature(temperature)
    levels = pair_levels(student, teacher)
    with full_precision(levels[0][0]):
        loss = sum((_level_loss(s, t, temperature) for s, t in levels), start=levels[0][0].new_zeros(()))
    return refuse_nan(loss, student=student, teacher=teacher)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, temperature: float) -> Tensor:
    if student_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    student_NCL = (student_NCHW / temperature).flatten(2).log_softmax(2)
    teacher_NCL = (teacher_NCHW / temperature).flatten(2).log_softmax(2)
    divergence_NC = F.kl_div(student_NCL, teacher_NCL, reduction="none", log_target=True).sum(2)
    return reduce_map(divergence_NC) * temperature**2
