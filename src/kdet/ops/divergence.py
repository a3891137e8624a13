"""How far a teacher's answer to a question of two outcomes is from a student's."""

from torch import Tensor
from torch.nn import functional as F


def binary_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL( σ(t) ‖ σ(s) ) of two outcomes, entry by entry; no entry is below 0."""
    present = teacher_logits.sigmoid() * (F.logsigmoid(teacher_logits) - F.logsigmoid(student_logits))
    absent = teacher_logits.neg().sigmoid() * (F.logsigmoid(-teacher_logits) - F.logsigmoid(-student_logits))
    return present + absent
