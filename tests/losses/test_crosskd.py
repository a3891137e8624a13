"""What the loss on cross-head predictions must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou_loss

from kdet.losses import crosskd_loss


def boxes(seed: int, count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 40
    return torch.cat([corners, corners + 1 + 20 * torch.rand(count, 2, generator=generator)], 1)


def test_a_value_by_hand():
    """Scores 1/2 and 3/4: |−1/4| · BCE, and BCE(1/2, any) = ln 2. Boxes: overlap 2, union 6, hull 6, so GIoU = 1/3."""
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3))
    assert crosskd_loss(student, teacher).item() == pytest.approx(math.log(2) / 4)
    assert crosskd_loss(student, teacher, power=2.0).item() == pytest.approx(math.log(2) / 16)
    pair = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert crosskd_loss(student, teacher, *pair).item() == pytest.approx(math.log(2) / 4 + 0.75 * (1 - 1 / 3))
    assert crosskd_loss(teacher, teacher, *pair, box_weight=4.0).item() == pytest.approx(4 * 0.75 * (1 - 1 / 3))


def test_boxes_weigh_by_the_teachers_highest_score():
    """Of two equal gaps the one that the teacher scores 0.9 counts nine times the one that it scores 0.1."""
    logits = torch.tensor([[math.log(9), -20.0], [-20.0, -math.log(9)]])
    student, teacher = boxes(0, 2), boxes(1, 2)
    student[1], teacher[1] = student[0], teacher[0]
    student.requires_grad_()
    crosskd_loss(logits, logits, student, teacher).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad[0], 9 * student.grad[1])


def test_the_default_normaliser_is_the_sum_of_the_teachers_highest_scores():
    student, teacher = torch.randn(2, 12, 3).unbind()
    pair = boxes(0, 12), boxes(1, 12)
    total = crosskd_loss(student, teacher, *pair, normaliser=1)
    highest = teacher.sigmoid().amax(1).sum()
    assert highest > 1
    torch.testing.assert_close(crosskd_loss(student, teacher, *pair), total / highest)
    # Where the teacher sees next to nothing the sum counts as 1.
    faint = teacher - 12
    torch.testing.assert_close(crosskd_loss(student, faint), crosskd_loss(student, faint, normaliser=torch.tensor(1)))


def test_the_box_part_is_torchvisions_loss():
    """Scores of 1 leave the box part alone."""
    sure, (a, b) = torch.full((64, 1), 50.0, dtype=torch.float64), (boxes(0).double(), boxes(1).double())
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    loss, expected = crosskd_loss(sure, sure, ours, b), generalized_box_iou_loss(theirs, b, reduction="mean")
    torch.testing.assert_close(loss, expected)
    (grad,), (expected_grad,) = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("flat", [[3.0, 4.0, 3.0, 9.0], [3.0, 4.0, 3.0, 4.0]])
def test_equal_boxes_without_an_area_have_nothing_to_learn(flat):
    sure, student = torch.full((1, 1), 50.0), torch.tensor([flat], requires_grad=True)
    loss = crosskd_loss(sure, sure, student, torch.tensor([flat]))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_a_flat_box_beside_another_counts_as_any_other():
    """GIoU = −1: no overlap, and neither covers any of their hull."""
    sure, student = torch.full((1, 1), 50.0), torch.tensor([[3.0, 4.0, 3.0, 9.0]], requires_grad=True)
    loss = crosskd_loss(sure, sure, student, torch.tensor([[5.0, 4.0, 5.0, 9.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(2) and student.grad is not None and student.grad.isfinite().all()


@settings(max_examples=25)
@given(
    student=st.lists(st.floats(-15, 15), min_size=4, max_size=4),
    teacher=st.lists(st.floats(-15, 15), min_size=4, max_size=4),
    power=st.floats(1, 3),
)
def test_each_score_is_drawn_towards_the_teachers(student: list[float], teacher: list[float], power: float):
    s, t = torch.tensor([student]).double().requires_grad_(), torch.tensor([teacher]).double()
    loss = crosskd_loss(s, t, power=power)
    loss.backward()
    assert loss >= 0 and s.grad is not None
    assert (s.grad * (s.detach() - t) >= 0).all()


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_equal_models_have_nothing_to_learn_at_any_power(power):
    logits, corners = torch.randn(9, 4, requires_grad=True), boxes(0, 9).requires_grad_()
    loss = crosskd_loss(logits, logits.detach(), corners, corners.detach(), power=power)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert logits.grad is not None and corners.grad is not None
    assert not logits.grad.any() and corners.grad.abs().max() < 1e-6


def test_wrong_arguments_are_refused():
    logits = torch.rand(3, 2)
    with pytest.raises(ValueError, match=r"expected a power of at least 1, got 0\.5"):
        crosskd_loss(logits, logits, power=0.5)
    with pytest.raises(ValueError, match="expected boxes of both models or of neither, got the student's alone"):
        crosskd_loss(logits, logits, boxes(0, 3))
    with pytest.raises(ValueError, match="got the teacher's alone"):
        crosskd_loss(logits, logits, None, boxes(0, 3))
    with pytest.raises(ValueError, match=r"expected 3×4 boxes, one for each row of logits, got \(2, 4\)"):
        crosskd_loss(logits, logits, boxes(0, 2), boxes(1, 2))
    with pytest.raises(ValueError, match="expected numbers, got NaN in student_boxes"):
        crosskd_loss(logits, logits, torch.full((3, 4), torch.nan), boxes(0, 3))
