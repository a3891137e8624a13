"""Rank mimicking: the student ranks the candidates of each object as the teacher does.

Legend: P candidates (positive anchors or points) of the whole batch, M objects.
"""

import torch
from torch import Tensor

from kdet.ops.pairs import attached_zero, pair_tensors, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.segments import group_numbers, segment_log_softmax
from kdet.ops.temperature import check_temperature


def rank_mimicking_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    object_index: Tensor,
    num_objects: float | Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Compute the KL divergence between the two models' distributions over the candidates of each object.

    Paper: Li, Li, Wang, Zhang, Wu, Liang, "Knowledge Distillation for Object Detection via Rank Mimicking and
    Prediction-guided Feature Imitation", AAAI 2022, https://arxiv.org/abs/2112.04840. There is no official code.

        t'_ji = softmax_i(t_ji / T)     s'_ji = softmax_i(s_ji / T)     over the candidates i of object j
        L_RM  = 1/M Σ_j Σ_i t'_ji · (log t'_ji − log s'_ji)

    | symbol | argument                | paper                                                              |
    |--------|-------------------------|--------------------------------------------------------------------|
    | s, t   | `student_scores`, `teacher_scores` | scores of all positives of the batch for their object's class, P |
    | j      | `object_index`          | object of each positive, P; any numbers that differ between objects |
    | M      | `num_objects`           | number of objects                                                  |
    | T      | `temperature`           | none, that is 1                                                    |
    | α      | the caller's weight     | 4                                                                  |

    Args:
        student_scores: Probabilities or logits, as the caller chooses.
        teacher_scores: The same candidates seen by the teacher; no gradient goes there.
        object_index: Equal for the candidates of one object, pooled over levels; different across images.
        num_objects: Objects that have candidates, a number or a scalar tensor. In a group of processes the count
            over all of them divided by their number, so that averaged gradients equal those of one process.
        temperature: Divides both scores; there is no factor T².

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: shapes differ, integer scores, a fractional or negative index, a temperature not above 0, NaN
            (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import rank_mimicking_loss
        >>> student = torch.tensor([0.5, 0.5, 0.2]).log()
        >>> teacher = torch.tensor([0.75, 0.25, 0.9]).log()
        >>> object_index = torch.tensor([0, 0, 1])  # the second object has a single candidate
        >>> loss = rank_mimicking_loss(student, teacher, object_index, 2)
        >>> round(loss.item(), 4)  # (0.75 · log 1.5 + 0.25 · log 0.5) / 2
        0.0654

    Deviations: T is our addition. M counts only objects that have candidates; others have no distribution. The scores
    are not sorted: two sorted vectors can agree while the models prefer different candidates, the very failure the
    paper shows. An object with a single candidate gives exactly 0.
    """
    check_temperature(temperature)
    student_P, teacher_P = pair_tensors(student_scores, teacher_scores, dims="P", where="the scores")
    if object_index.shape != student_P.shape or object_index.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"expected an integer object_index of {len(student_P)} entries, "
            f"got {object_index.dtype} of shape {tuple(object_index.shape)}"
        )
    if len(student_P) == 0:
        return attached_zero(student_P)
    with full_precision(student_P):
        index_P, num_groups = group_numbers(object_index.long())
        log_student_P = segment_log_softmax(student_P / temperature, index_P, num_groups)
        log_teacher_P = segment_log_softmax(teacher_P / temperature, index_P, num_groups)
        loss = (log_teacher_P.exp() * (log_teacher_P - log_student_P)).sum() / num_objects
    return refuse_nan(loss, student_scores=student_scores, teacher_scores=teacher_scores)
