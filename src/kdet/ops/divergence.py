"""How far a student's answers to questions of two outcomes are from a teacher's, entry by entry."""

from torch import Tensor
from torch.nn import functional as F


def binary_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return KL( σ(t) ‖ σ(s) ) of two outcomes, entry by entry; no entry is below 0."""
    present = teacher_logits.sigmoid() * (F.logsigmoid(teacher_logits) - F.logsigmoid(student_logits))
    absent = teacher_logits.neg().sigmoid() * (F.logsigmoid(-teacher_logits) - F.logsigmoid(-student_logits))
    return present + absent


def quality_focal(logits: Tensor, scores: Tensor, power: float) -> Tensor:
    """Return |σ(logits) − score|^power · cross entropy of the two; the gradient passes through both factors."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    return (logits.sigmoid() - scores).abs().pow(power) * cross_entropy
