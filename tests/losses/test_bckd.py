"""What binary classification and IoU-based localisation distillation must give."""

import math

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from kdet.losses import bckd_loss

PAIR = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
"""Overlap 2, union 6 and hull 6: IoU = GIoU = 1/3."""
APART = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[3.0, 0, 4, 1]])
"""No overlap, union 2, hull 4: GIoU = −1/2."""


def test_values_by_hand():
    """Scores 1/2 and 3/4: w = 1/4, BCE(1/2, any) = ln 2; of the second class both say 1/2, so that it adds nothing."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    classes, boxes = math.log(2) / 4, 1 / 4 * (1 - 1 / 3)
    assert bckd_loss(student, teacher, *PAIR).item() == pytest.approx(classes + 4 * boxes)
    assert bckd_loss(student, teacher, *PAIR, class_weight=3.0, box_weight=0.5, normaliser=2).item() == pytest.approx(
        (3 * classes + boxes / 2) / 2
    )


@pytest.mark.parametrize(("overlap", "cost"), [("giou", 1.5), ("iou", 1.0)])
def test_only_giou_moves_boxes_that_do_not_meet(overlap: str, cost: float):
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3))
    ours = APART[0].clone().requires_grad_()
    loss = bckd_loss(student, teacher, ours, APART[1], class_weight=0.0, box_weight=1.0, overlap=overlap)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == pytest.approx(cost / 4) and ours.grad is not None
    assert bool(ours.grad.any()) == (overlap == "giou")


def test_the_box_part_is_torchvisions_loss_weighted_by_the_largest_gap_of_the_scores():
    generator = torch.Generator().manual_seed(0)
    corners, sizes = torch.rand(2, 64, 2, generator=generator) * 40, torch.rand(2, 64, 2, generator=generator) * 20 + 1
    ours, theirs = torch.cat([corners, corners + sizes], -1)
    student, teacher = torch.randn(2, 64, 5, generator=generator)
    gap = (student.sigmoid() - teacher.sigmoid()).abs().amax(1)
    expected = (gap * generalized_box_iou_loss(ours, theirs)).sum() / 64
    torch.testing.assert_close(bckd_loss(student, teacher, ours, theirs, class_weight=0.0, box_weight=1.0), expected)


def test_boxes_do_not_teach_the_class_scores():
    student = torch.zeros(1, 3, requires_grad=True)
    bckd_loss(student, torch.randn(1, 3), *PAIR, class_weight=0.0).backward()
    assert student.grad is None or not student.grad.any()


def test_where_the_scores_agree_the_boxes_teach_nothing():
    """What is imitated is where the student is wrong about the class, as the paper has it."""
    logits = torch.randn(4, 3)
    boxes = PAIR[0].expand(4, 4), PAIR[1].expand(4, 4)
    assert bckd_loss(logits, logits.clone(), *boxes).item() == 0


def test_wrong_arguments_are_refused():
    logits = torch.rand(3, 2)
    with pytest.raises(ValueError, match='expected overlap "giou" or "iou", got \'diou\''):
        bckd_loss(logits, logits, torch.rand(3, 4), torch.rand(3, 4), overlap="diou")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected 3×4 boxes, one for each row of logits, got \(2, 4\)"):
        bckd_loss(logits, logits, torch.rand(2, 4), torch.rand(2, 4))
