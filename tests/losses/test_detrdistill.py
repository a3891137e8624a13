"""What the loss on matched queries must give."""

import math

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou_loss

from kdet.losses import detrdistill_loss

FRACTIONS = torch.tensor([[0.0, 0.0, 0.2, 0.2]]), torch.tensor([[0.1, 0.0, 0.3, 0.2]])
"""Overlap 0.02, union 0.06, hull 0.06: GIoU = 1/3. Centres 0.1 apart, sizes equal."""


def test_a_value_by_hand():
    """Scores 1/2 and 3/4: KL = ¾ ln(¾/½) + ¼ ln(¼/½) = 0.75·ln 3 − ln 2."""
    student, teacher, one = torch.zeros(1, 1), torch.full((1, 1), math.log(3)), torch.ones(1)
    divergence = 0.75 * math.log(3) - math.log(2)
    loss = detrdistill_loss(student, teacher, *FRACTIONS, weight=one)
    assert loss.item() == pytest.approx(2 * divergence + 5 * 0.1 + 2 * (1 - 1 / 3), rel=1e-5)
    alone = detrdistill_loss(student, teacher, *FRACTIONS, weight=one, box_weight=0, giou_weight=0, class_weight=1)
    assert alone.item() == pytest.approx(divergence, rel=1e-5)


def test_a_pair_counts_by_its_weight_and_one_of_weight_0_does_not():
    student, teacher = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    boxes = FRACTIONS[0].expand(3, 4), FRACTIONS[1].expand(3, 4)
    apart = [detrdistill_loss(student[i : i + 1], teacher[i : i + 1], *FRACTIONS, weight=torch.ones(1)) for i in (0, 1)]
    both = detrdistill_loss(student, teacher, *boxes, weight=torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(both, (3 * apart[0] + apart[1]) / 4)


def test_little_weight_is_not_blown_up():
    """Below 1 the sum of the weights does not divide: a teacher that sees next to nothing teaches next to nothing."""
    student, teacher = torch.zeros(1, 2), torch.ones(1, 2)
    full = detrdistill_loss(student, teacher, *FRACTIONS, weight=torch.ones(1))
    faint = detrdistill_loss(student, teacher, *FRACTIONS, weight=torch.full((1,), 0.01))
    torch.testing.assert_close(faint, full / 100)


def test_the_box_parts_are_those_of_detr():
    generator = torch.Generator().manual_seed(0)
    centres, sizes = torch.rand(2, 16, 2, generator=generator), torch.rand(2, 16, 2, generator=generator) / 4 + 0.05
    as_centres = torch.cat([centres, sizes], -1)
    ours, theirs = box_convert(as_centres, "cxcywh", "xyxy")
    logits, one = torch.zeros(16, 3), torch.ones(16)
    distance = (as_centres[0] - as_centres[1]).abs().sum(1).mean()
    loss = detrdistill_loss(logits, logits, ours, theirs, weight=one, giou_weight=0)
    torch.testing.assert_close(loss, 5 * distance)
    giou = generalized_box_iou_loss(ours, theirs, reduction="mean")
    torch.testing.assert_close(detrdistill_loss(logits, logits, ours, theirs, weight=one, box_weight=0), 2 * giou)


@pytest.mark.parametrize(("boxes", "weights"), [(2, 3), (3, 2)])
def test_one_box_and_one_weight_for_each_row(boxes: int, weights: int):
    logits, corners = torch.zeros(3, 2), torch.rand(boxes, 4)
    with pytest.raises(ValueError, match=r"expected 3×4 boxes and 3 weights, .* got"):
        detrdistill_loss(logits, logits, corners, corners, weight=torch.ones(weights))
