"""BCKD: class scores distilled as the binary questions that the detector is trained on, boxes by their overlap.

Legend: P candidates (anchors or points of the whole batch), K classes.
"""

from typing import Literal

from torch import Tensor

from kdet.ops.boxes import paired_generalised_iou, paired_iou
from kdet.ops.divergence import quality_focal
from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision

Overlap = Literal["giou", "iou"]


def bckd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    *,
    class_weight: float = 1.0,
    box_weight: float = 4.0,
    overlap: Overlap = "giou",
    normaliser: float | Tensor | None = None,
) -> Tensor:
    """Compute binary classification and IoU-based localisation distillation over all candidates.

    Paper: Yang, Zhou, Li, Qiao, Li, Yang, Wang, Li, "Bridging Cross-task Protocol Inconsistency for Distillation in
    Dense Object Detection", ICCV 2023, https://arxiv.org/abs/2308.14286.

        w_ik  = |σ(t_ik) − σ(s_ik)|
        L_cls = 1/S Σ_i Σ_k w_ik · BCE(s_ik, σ(t_ik))
        L_loc = 1/S Σ_i max_k w_ik · (1 − IoU(b^s_i, b^t_i))
        L     = α₁ · L_cls + α₂ · L_loc

    | symbol   | argument                           | paper                                                       |
    |----------|------------------------------------|-------------------------------------------------------------|
    | s, t     | `student_logits`, `teacher_logits` | P×K logits of all candidates, one binary question per class |
    | b^s, b^t | `student_boxes`, `teacher_boxes`   | P×4 decoded boxes, x1 y1 x2 y2                              |
    | α₁       | `class_weight`                     | 1, GFL's official configuration                             |
    | α₂       | `box_weight`                       | 4, there                                                    |
    | IoU      | `overlap`                          | the formula has IoU; the official configuration takes GIoU  |
    | S        | `normaliser`                       | officially the student's positives, at least 1              |
    | —        | the caller's weight                | 1, over α₁ and α₂                                           |

    Args:
        student_logits: The student's class logits before the sigmoid.
        teacher_logits: The same candidates seen by the teacher; no gradient goes there.
        student_boxes: The student's boxes.
        teacher_boxes: The teacher's; no gradient goes there.
        class_weight: How much L_cls counts.
        box_weight: How much L_loc counts.
        overlap: "giou" also moves boxes that do not meet; "iou" leaves them.
        normaliser: What both sums are divided by; None is the number of candidates. In a group of processes
            the count over all of them divided by their number.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer tensors, another overlap, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import bckd_loss
        >>> student_logits = torch.tensor([[0.5]]).logit()
        >>> teacher_logits = torch.tensor([[0.75]]).logit()
        >>> student_boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> teacher_boxes = torch.tensor([[0.0, 0.0, 2.0, 4.0]])  # IoU and GIoU are 0.5
        >>> loss = bckd_loss(student_logits, teacher_logits, student_boxes, teacher_boxes)
        >>> round(loss.item(), 4)  # 1 · 0.25 · log 2 + 4 · 0.25 · 0.5
        0.6733

    Deviations: sure are w, both sums, and the constants (from the official configuration for GFL); that the formula has
    the plain IoU is from the paper's text. The gradient of L_cls passes through w, that of L_loc does not, as in the
    official code. It leaves the whole loss out on a level without a positive; here every candidate counts everywhere.
    Under a softmax head each class is one binary question. The centreness of FCOS and ATSS is not distilled. Two boxes
    that together span no area count 0 under "giou", 1 under "iou".
    """
    if overlap not in ("giou", "iou"):
        raise ValueError(f'expected overlap "giou" or "iou", got {overlap!r}')
    student_PK, teacher_PK = pair_tensors(student_logits, teacher_logits, dims="P×K", where="the logits")
    boxes = pair_tensors(student_boxes, teacher_boxes, dims="P×4", where="the boxes")
    if boxes[0].shape != (len(student_PK), 4):
        raise ValueError(f"expected {len(student_PK)}×4 boxes, one for each row of logits, got {tuple(boxes[0].shape)}")
    if student_PK.numel() == 0:
        return attached_zero(student_PK, boxes[0])
    similarity = paired_generalised_iou if overlap == "giou" else paired_iou
    with full_precision(student_PK):
        score_PK = teacher_PK.sigmoid()
        apart_P = (score_PK - student_PK.detach().sigmoid()).abs().amax(1)
        loss = class_weight * quality_focal(student_PK, score_PK, 1.0).sum()
        loss = loss + box_weight * (apart_P * (1 - similarity(*boxes))).sum()
        loss = loss / (len(student_PK) if normaliser is None else normaliser)
    return refuse_nan(
        loss,
        student_logits=student_logits,
        teacher_logits=teacher_logits,
        student_boxes=student_boxes,
        teacher_boxes=teacher_boxes,
    )
