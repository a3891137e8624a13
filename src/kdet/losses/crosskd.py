"""CrossKD: what the teacher's head makes of the student's features mimics what it makes of the teacher's own.

Legend: P candidates (anchors or points of the whole batch), K classes.
"""

from torch import Tensor

from kdet.ops.boxes import paired_generalised_iou
from kdet.ops.divergence import quality_focal
from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision


def crosskd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_boxes: Tensor | None = None,
    teacher_boxes: Tensor | None = None,
    *,
    power: float = 1.0,
    box_weight: float = 1.0,
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute the quality focal loss of the class scores and the generalised IoU loss of the boxes over all candidates.

    Paper: Wang, Chen, Zheng, Li, Cheng, Hou, "CrossKD: Cross-Head Knowledge Distillation for Object Detection",
    CVPR 2024, https://arxiv.org/abs/2306.11369.

        L_cls = 1/|S| Σ_i Σ_k |σ(s_ik) − σ(t_ik)|^β · BCE(s_ik, σ(t_ik))
        L_reg = 1/|S| Σ_i max_k σ(t_ik) · (1 − GIoU(b^s_i, b^t_i))
        L     = L_cls + λ · L_reg

    | symbol   | argument                           | paper                                                       |
    |----------|------------------------------------|-------------------------------------------------------------|
    | s, b^s   | `student_logits`, `student_boxes`  | cross-head predictions: the student's hidden features of    |
    |          |                                    | the head, passed through the rest of the teacher's head     |
    | t, b^t   | `teacher_logits`, `teacher_boxes`  | the teacher's own; P×K logits, P×4 boxes                    |
    | β        | `power`                            | 1                                                           |
    | λ        | `box_weight`                       | RetinaNet, ATSS 1; FCOS 0.75 / 0.4                          |
    | |S|      | `normaliser`                       | RetinaNet: the positives; FCOS: the sum of their centreness |
    | —        | the caller's weight                | RetinaNet, ATSS 1; FCOS 0.4                                 |

    Args:
        student_logits: The cross-head class logits before the sigmoid.
        teacher_logits: The teacher's own; no gradient goes there.
        student_boxes: The cross-head boxes, x1 y1 x2 y2. None leaves L_reg out.
        teacher_boxes: The teacher's own; no gradient goes there.
        power: Exponent of the distance between the scores, at least 1.
        box_weight: How much L_reg counts beside L_cls.
        normaliser: What both sums are divided by; None is the sum of the teacher's highest scores, at least 1. In a
            group of processes the count over all of them divided by their number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer tensors, boxes of one model only, a power below 1 (its gradient has no
            bound), NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import crosskd_loss
        >>> student_logits = torch.tensor([[0.5]]).logit()
        >>> teacher_logits = torch.tensor([[0.75]]).logit()
        >>> round(crosskd_loss(student_logits, teacher_logits).item(), 4)  # 0.25 · log 2
        0.1733

    Deviations: `normaliser=None` is for a caller who has no assignment; the paper's formula with S = 1 would divide by
    the number of candidates, the official code does as the table says. Its FCOS takes −log IoU in place of 1 − GIoU,
    its GFL a divergence of edge distributions beside L_reg (see `ld_loss`), its ATSS a third part on the centreness.
    The entropy of σ(t) that BCE holds even between equal models meets a factor of 0 there. Two boxes that together
    span no area (FCOS can predict flat ones) count 0.
    """
    if power < 1:
        raise ValueError(f"expected a power of at least 1, got {power}")
    student_PK, teacher_PK = pair_tensors(student_logits, teacher_logits, dims="P×K", where="the logits")
    boxes = _pair_boxes(student_boxes, teacher_boxes, len(student_PK))
    if student_PK.numel() == 0:
        return attached_zero(student_PK, *boxes[:1])
    with full_precision(student_PK):
        score_PK = teacher_PK.sigmoid()
        highest_P = score_PK.amax(1)
        loss = quality_focal(student_PK, score_PK, power).sum()
        if boxes:
            loss = loss + box_weight * (highest_P * (1 - paired_generalised_iou(*boxes))).sum()
        loss = loss / (highest_P.sum().clamp_min(1.0) if normaliser is None else normaliser)
    inputs = {
        "student_logits": student_logits,
        "teacher_logits": teacher_logits,
        "student_boxes": student_boxes,
        "teacher_boxes": teacher_boxes,
    }
    return refuse_nan(loss, **{name: tensor for name, tensor in inputs.items() if tensor is not None})


def _pair_boxes(student: Tensor | None, teacher: Tensor | None, num_candidates: int) -> list[Tensor]:
    """Student's and teacher's boxes, or an empty list."""
    if student is None and teacher is None:
        return []
    if student is None or teacher is None:
        owner = "teacher" if student is None else "student"
        raise ValueError(f"expected boxes of both models or of neither, got the {owner}'s alone")
    pair = pair_tensors(student, teacher, dims="P×4", where="the boxes")
    if pair[0].shape != (num_candidates, 4):
        raise ValueError(f"expected {num_candidates}×4 boxes, one for each row of logits, got {tuple(pair[0].shape)}")
    return list(pair)
