"""DIST: the student's class probabilities need only correlate with the teacher's, along classes and candidates.

Legend: P candidates, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.ranks import num_ranks, sum_over_ranks
from kdet.ops.temperature import check_temperature
from kdet.types import Activation

FLOOR = 1e-4
"""The least norm of centred probabilities that is believed; its square is the official code's epsilon."""


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    activation: Activation = "softmax",
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute one minus the correlation of class probabilities, along classes and along candidates.

    Paper: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
    https://arxiv.org/abs/2205.10536.

        L       = β · L_inter + γ · L_intra                                  of S = p(s/τ) and T = p(t/τ), P×K
        L_inter = τ²/B Σ_i (1 − ρ(S_i,:, T_i,:))     L_intra = τ²/K Σ_k (1 − ρ(S_:,k, T_:,k))
        ρ(u, v) = (u − ū)·(v − v̄) / (‖u − ū‖ ‖v − v̄‖)

    | symbol | argument                           | paper                                                         |
    |--------|------------------------------------|---------------------------------------------------------------|
    | s, t   | `student_logits`, `teacher_logits` | P×K logits; softmax heads: all classes and background         |
    | p      | `activation`                       | softmax; sigmoid for RetinaNet                                |
    | τ      | `temperature`                      | 1 in detection                                                |
    | B      | `normaliser`                       | P, the number of candidates                                   |
    | β, γ   | `beta`, `gamma`                    | 1, 1 in detection                                             |
    | —      | the caller's weight                | 1, on all anchors (RetinaNet) or all regions (Faster R-CNN)   |

    Args:
        student_logits: The student's class logits.
        teacher_logits: The same candidates seen by the teacher; no gradient goes there.
        temperature: Divides both logits; the factor τ² keeps the size of the gradient.
        beta: How much the order of the classes within a candidate counts.
        gamma: How much the order of the candidates within a class counts; in a group of processes, the candidates
            of all of them. Every process must then take part, also one without any.
        activation: "sigmoid" for one binary question per class, "softmax" for one choice among all classes.
        normaliser: What L_inter's sum over candidates is divided by; None is their number, at least 1. In a group of
            processes the count over all of them divided by their number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer tensors, a temperature not above 0, an unknown activation, NaN (on the CPU;
            elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import dist_loss
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> round(dist_loss(-teacher, teacher).item(), 4)  # correlation −1 both ways
        4.0

    Deviations: where the teacher's probabilities are constant there is nothing to correlate with, and the row or
    column counts 0 (1 without a gradient in the official code); so one candidate alone has no L_intra and one class
    alone no L_inter. Norms below 1e-4 count as 1e-4, which bounds the gradient of a student's constant row; the
    official code adds 1e-8 to the product of the norms. The published detection code has no τ.
    """
    check_temperature(temperature)
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(f'expected activation "sigmoid" or "softmax", got {activation!r}')
    student_PK, teacher_PK = pair_tensors(student_logits, teacher_logits, dims="P×K", where="the logits")
    if student_PK.numel() == 0 and num_ranks() == 1:
        return attached_zero(student_PK)
    with full_precision(student_PK):
        student_PK, teacher_PK = student_PK / temperature, teacher_PK / temperature
        if activation == "sigmoid":
            student_PK, teacher_PK = student_PK.sigmoid(), teacher_PK.sigmoid()
        else:
            student_PK, teacher_PK = student_PK.softmax(1), teacher_PK.softmax(1)
        inter_P = _uncorrelated(student_PK, teacher_PK, 1, _of_this_rank)
        intra_K = (
            _uncorrelated(student_PK, teacher_PK, 0, sum_over_ranks) * num_ranks()
        )  # each adds its candidates' part
        count = max(1, len(student_PK)) if normaliser is None else normaliser
        loss = (beta * inter_P.sum() / count + gamma * intra_K.mean()) * temperature**2
    return refuse_nan(loss, student_logits=student_logits, teacher_logits=teacher_logits)


def _uncorrelated(student_PK: Tensor, teacher_PK: Tensor, along: int, total: Callable[[Tensor], Tensor]) -> Tensor:
    """1 − ρ of each row or column: written t̂·(t̂ − ŝ) with the teacher's unit vector t̂, equal ones give exactly 0."""
    count = total(student_PK.new_full((), student_PK.shape[along])).clamp(min=1)

    def centred(values_PK: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centred values and their squared norm."""
        values_PK = values_PK - total(values_PK.sum(along, keepdim=True)) / count
        return values_PK, total(values_PK.square().sum(along, keepdim=True))

    student_PK, square_s = centred(student_PK)
    teacher_PK, square_t = centred(teacher_PK)
    # The floor comes before the root, which has no finite derivative at 0.
    student_PK = student_PK / square_s.clamp_min(FLOOR**2).sqrt()
    # A NaN in the norm must stay: masked away it would pass for a constant row.
    teacher_PK = torch.where(square_t <= FLOOR**2, 0.0, teacher_PK / square_t.clamp_min(FLOOR**2).sqrt())
    return (teacher_PK * (teacher_PK - student_PK)).sum(along)


def _of_this_rank(values: Tensor) -> Tensor:
    return values
