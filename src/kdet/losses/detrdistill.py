"""DETRDistill's logits distillation: matched queries of two detectors that predict a set.

Legend: P matched pairs of queries (of the whole batch), K classes.
"""

from torch import Tensor

from kdet.ops.boxes import centre_and_size, paired_generalised_iou
from kdet.ops.divergence import binary_divergence
from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision


def detrdistill_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    *,
    weight: Tensor,
    class_weight: float = 2.0,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute class divergence, L1 and generalised IoU loss of queries that were matched beforehand.

    Paper: Chang, Wang, Xu, Chen, Yang, Zhao, "DETRDistill: A Universal Knowledge Distillation Framework for
    DETR-families", ICCV 2023, https://arxiv.org/abs/2211.10156.

        L = 1/W Σ_i w_i · ( λ_cls Σ_k KL( σ(t_ik) ‖ σ(s_ik) )
                            + λ_L1 ‖b^s_i − b^t_i‖₁ + λ_GIoU (1 − GIoU(b^s_i, b^t_i)) )

    | symbol     | argument                           | paper                                                   |
    |------------|------------------------------------|---------------------------------------------------------|
    | s, t       | `student_logits`, `teacher_logits` | P×K logits of a query and of the one matched to it      |
    | b^s, b^t   | `student_boxes`, `teacher_boxes`   | P×4 boxes, as fractions of the image                    |
    | w          | `weight`                           | 1 for the teacher's positive queries, 0 for the others  |
    | W          | `normaliser`                       | the sum of the weights                                  |
    | λ_cls      | `class_weight`                     | not known to us; here 2, as in Deformable DETR's loss   |
    | λ_L1       | `box_weight`                       | not known to us; here 5, as there                       |
    | λ_GIoU     | `giou_weight`                      | not known to us; here 2, as there                       |

    Args:
        student_logits: The student's class logits, one binary question per class.
        teacher_logits: The teacher's of the matched queries; no gradient goes there.
        student_boxes: x1 y1 x2 y2; the L1 part compares centre and size, as DETR does.
        teacher_boxes: The teacher's; no gradient goes there.
        weight: How much each pair counts, length P, not below 0.
        class_weight: How much the divergence of the classes counts.
        box_weight: How much the L1 distance of the boxes counts.
        giou_weight: How much 1 − GIoU counts.
        normaliser: What the sum is divided by; None is the sum of the weights, at least 1. In a group of processes
            the sum over all of them divided by their number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer tensors, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import detrdistill_loss
        >>> student_logits = torch.tensor([[0.5]]).logit()
        >>> teacher_logits = torch.tensor([[0.75]]).logit()
        >>> boxes = torch.tensor([[0.2, 0.2, 0.6, 0.8]])
        >>> loss = detrdistill_loss(student_logits, teacher_logits, boxes, boxes, weight=torch.ones(1))
        >>> round(loss.item(), 4)  # 2 · (0.75 · log 1.5 + 0.25 · log 0.5)
        0.2616

    Deviations: the part of the paper on matched predictions alone. Left out are its distillation of the locations of
    the teacher's negative queries, its stage by stage comparison of decoder layers, its feature and its assignment
    distillation. A pair counts by the teacher's score in place of a hard choice of positives, so that what the
    teacher is unsure of teaches little. A softmax head is read as one binary question per class, so that DETR and its
    sigmoid descendants can teach each other.
    """
    logits_PK = pair_tensors(student_logits, teacher_logits, dims="P×K", where="the logits")
    boxes_P4 = pair_tensors(student_boxes, teacher_boxes, dims="P×4", where="the boxes")
    pairs = len(student_logits)
    if boxes_P4[0].shape != (pairs, 4) or weight.shape != (pairs,):
        raise ValueError(
            f"expected {pairs}×4 boxes and {pairs} weights, one for each row of logits, "
            f"got {tuple(student_boxes.shape)} and {tuple(weight.shape)}"
        )
    if pairs == 0:
        return attached_zero(logits_PK[0], boxes_P4[0])
    with full_precision(student_logits):
        weight_P = weight.detach().to(logits_PK[0].dtype)
        distance_P = (centre_and_size(boxes_P4[0]) - centre_and_size(boxes_P4[1])).abs().sum(1)
        loss_P = class_weight * binary_divergence(*logits_PK).sum(1) + box_weight * distance_P
        loss_P = loss_P + giou_weight * (1 - paired_generalised_iou(*boxes_P4))
        loss = (weight_P * loss_P).sum() / (weight_P.sum().clamp_min(1.0) if normaliser is None else normaliser)
    return refuse_nan(
        loss,
        student_logits=student_logits,
        teacher_logits=teacher_logits,
        student_boxes=student_boxes,
        teacher_boxes=teacher_boxes,
    )
