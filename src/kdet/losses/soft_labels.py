"""Temperature soft labels: the student's class distribution follows the teacher's.

Legend: P candidates, K classes.
"""

from typing import assert_never

from torch import Tensor

from kdet.ops.divergence import binary_divergence
from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.temperature import check_temperature
from kdet.types import Activation


def soft_label_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    activation: Activation = "sigmoid",
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute the KL divergence from the teacher's class distribution to the student's, per candidate.

    Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
    https://arxiv.org/abs/1503.02531.

        softmax heads   L = T² / |A| Σ_i KL( softmax(t_i/T) ‖ softmax(s_i/T) )
        sigmoid heads   L = T² / |A| Σ_i Σ_k KL( σ(t_ik/T) ‖ σ(s_ik/T) )        of two outcomes: class k, or not

    | symbol | argument                           | paper                                                   |
    |--------|------------------------------------|---------------------------------------------------------|
    | s, t   | `student_logits`, `teacher_logits` | P×K logits; softmax heads: all classes and background   |
    | T      | `temperature`                      | 1 to 20, by task; here 1                                |
    | |A|    | `normaliser`                       | the number of candidates                                |

    Args:
        student_logits: The student's class logits.
        teacher_logits: The same candidates seen by the teacher; no gradient goes there.
        temperature: Divides both logits; the factor T² keeps the size of the gradient.
        activation: "sigmoid" for one binary question per class, "softmax" for one choice among all classes.
        normaliser: What the sum over candidates is divided by; None is their number, at least 1. In a group of
            processes the count over all of them divided by their number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer tensors, a temperature not above 0, an unknown activation, NaN (on the CPU;
            elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import soft_label_loss
        >>> student, teacher = torch.tensor([[0.5]]).logit(), torch.tensor([[0.75]]).logit()
        >>> round(soft_label_loss(student, teacher).item(), 4)  # 0.75 · log 1.5 + 0.25 · log 0.5
        0.1308

    Deviations: the sigmoid form is the usual reading for detectors without a softmax. T = 1 because a higher one
    inflates the mass of the many absent classes. Classes are summed, not averaged, as the divergence is defined. The
    paper's second term, the true labels, is the detector's own task loss.
    """
    check_temperature(temperature)
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(f'expected activation "sigmoid" or "softmax", got {activation!r}')
    student_PK, teacher_PK = pair_tensors(student_logits, teacher_logits, dims="P×K", where="the logits")
    if student_PK.numel() == 0:
        return attached_zero(student_PK)
    with full_precision(student_PK):
        divergence_PK = _divergence(student_PK / temperature, teacher_PK / temperature, activation)
        count = len(student_PK) if normaliser is None else normaliser
        loss = divergence_PK.sum() * temperature**2 / count
    return refuse_nan(loss, student_logits=student_logits, teacher_logits=teacher_logits)


def _divergence(student_PK: Tensor, teacher_PK: Tensor, activation: Activation) -> Tensor:
    """Each class's share of the divergence; a share may be negative under softmax, their sum is not."""
    match activation:
        case "sigmoid":
            return binary_divergence(student_PK, teacher_PK)
        case "softmax":
            log_teacher_PK = teacher_PK.log_softmax(1)
            return log_teacher_PK.exp() * (log_teacher_PK - student_PK.log_softmax(1))
        case _:
            assert_never(activation)
