"""Localization distillation: the student's distribution over each box edge's position follows the teacher's.

Legend: P candidates, E edges of a box, B bins of an edge's distribution.
"""

from torch import Tensor

from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.temperature import check_temperature


def ld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 10.0,
    weight: Tensor | None = None,
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute the KL divergence from the teacher's edge distributions to the student's, per candidate.

    Paper: Zheng, Ye, Wang, Ren, Zuo, Hou, Cheng, "Localization Distillation for Dense Object Detection", CVPR 2022,
    https://arxiv.org/abs/2102.12252.

        L_LD = τ² / Σ_i w_i · Σ_i w_i · 1/|E| Σ_e KL( softmax(z_T,ie / τ) ‖ softmax(z_S,ie / τ) )

    | symbol   | argument                           | paper                                                     |
    |----------|------------------------------------|-----------------------------------------------------------|
    | z_S, z_T | `student_logits`, `teacher_logits` | P×4×(n+1) logits of a general distribution; n is 16       |
    | E        | their second axis                  | left, top, right, bottom                                  |
    | τ        | `temperature`                      | 10                                                        |
    | w        | `weight`                           | main region: the student's highest class score of each    |
    |          |                                    | positive; valuable region: a share in 0…1                 |
    | Σ w      | `normaliser`                       | 1, see Deviations                                         |
    | λ3, λ4   | the caller's weight                | 0.25 in the main and in the valuable region               |

    Args:
        student_logits: The student's logits before the softmax over bins.
        teacher_logits: The same candidates seen by the teacher, with as many bins; no gradient goes there.
        temperature: Divides both logits; the factor τ² keeps the size of the gradient.
        weight: How much each candidate counts, P numbers or a mask; no gradient goes there. None is 1 each.
        normaliser: What the weighted sum over candidates is divided by; None is the sum of the weights (the number of
            candidates without them), at least 1. In a group of processes that sum over all of them divided by their
            number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer logits, a weight that is not P, a temperature not above 0, NaN (on the CPU;
            elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import ld_loss
        >>> student = torch.tensor([0.5, 0.5]).log().expand(1, 4, 2)  # one candidate, four edges, two bins
        >>> teacher = torch.tensor([0.75, 0.25]).log().expand(1, 4, 2)
        >>> round(ld_loss(student, teacher, temperature=1.0).item(), 4)  # 0.75 · log 1.5 + 0.25 · log 0.5
        0.1308

    Deviations: bins are summed, as the divergence is defined; the official code takes their mean, so that its λ of
    0.25 is 0.25 / (n+1) = 0.0147 here. It also divides by no count (`normaliser=1`), so that its loss grows with the
    objects of the batch, and counts the valuable region a quarter as much (it divides by 16, the main region by the 4
    edges). Under `normaliser=None` neither the batch nor the number of bins changes the size of the loss.
    """
    check_temperature(temperature)
    student_PEB, teacher_PEB = pair_tensors(student_logits, teacher_logits, dims="P×E×B", where="the logits")
    if weight is not None and weight.shape != student_PEB.shape[:1]:
        raise ValueError(
            f"expected a weight for each of the {len(student_PEB)} candidates, got one of shape {tuple(weight.shape)}"
        )
    if student_PEB.numel() == 0:
        return attached_zero(student_PEB)
    with full_precision(student_PEB):
        weight_P = student_PEB.new_ones(len(student_PEB)) if weight is None else weight.detach().to(student_PEB.dtype)
        log_student_PEB = (student_PEB / temperature).log_softmax(2)
        log_teacher_PEB = (teacher_PEB / temperature).log_softmax(2)
        divergence_PE = (log_teacher_PEB.exp() * (log_teacher_PEB - log_student_PEB)).sum(2)
        count = weight_P.sum().clamp_min(1.0) if normaliser is None else normaliser
        loss = (weight_P * divergence_PE.mean(1)).sum() * temperature**2 / count
    return refuse_nan(loss, student_logits=student_logits, teacher_logits=teacher_logits, weight=weight_P)
