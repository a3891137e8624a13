"""What hints must give, by hand, and what is asked of the weights."""

import pytest
import torch
from torch.nn import functional as F

from kdet.losses import hint_loss


def two_cells() -> tuple[torch.Tensor, torch.Tensor]:
    """Two channels; they differ by 1 and 3 in the first cell and not at all in the second."""
    teacher = torch.randn(1, 2, 1, 2, dtype=torch.float64)
    return teacher + torch.tensor([[1.0, 0.0], [3.0, 0.0]]).view(1, 2, 1, 2), teacher


def cells(*weights: float) -> torch.Tensor:
    return torch.tensor(weights).view(1, 1, 1, -1)


def test_values_by_hand():
    """The mean over channels of 1 and 9 is 5, half of it 2.5, in one of two cells."""
    student, teacher = two_cells()
    assert hint_loss(student, teacher).item() == pytest.approx(1.25)
    assert hint_loss(student, teacher, weight=cells(1, 0)).item() == pytest.approx(2.5)
    assert hint_loss(student, teacher, weight=cells(0.25, 0.75)).item() == pytest.approx(0.625)
    both = [cells(1, 0), cells(0, 1)]
    assert hint_loss([student, student], [teacher, teacher], weight=both).item() == pytest.approx(2.5)


def test_alike_weights_are_no_weights():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    loss = hint_loss(student, teacher)
    torch.testing.assert_close(loss, F.mse_loss(student, teacher) / 2)
    torch.testing.assert_close(hint_loss(student, teacher, weight=torch.full((2, 1, 4, 5), 1 / 40)), loss)


def test_only_cells_with_a_weight_learn():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    weight = torch.zeros(2, 1, 4, 5)
    weight[1, 0, 2, 3] = 1
    student.requires_grad_()
    hint_loss(student, teacher, weight=weight).backward()
    assert student.grad is not None
    assert torch.equal(student.grad.ne(0).any(1, keepdim=True), weight.bool())


def test_a_level_without_weight_is_a_zero_with_a_graph():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    student.requires_grad_()
    loss = hint_loss(student, teacher, weight=torch.zeros(2, 1, 4, 5))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_no_gradient_reaches_the_weight():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    weight = torch.rand(2, 1, 4, 5, requires_grad=True)
    student.requires_grad_()
    hint_loss(student, teacher, weight=weight).backward()
    assert weight.grad is None


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5), (1, 1, 4, 5), (2, 1, 4, 4), (2, 1, 1, 1)])
def test_a_weight_of_another_shape_is_refused(shape):
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    with pytest.raises(ValueError, match=r"expected weight of level 0 of shape \(2, 1, 4, 5\) \(N, 1, H, W\), got"):
        hint_loss(student, teacher, weight=torch.ones(shape))


def test_weights_for_other_levels_are_refused():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    with pytest.raises(ValueError, match="expected weight for 2 levels, got 1"):
        hint_loss([student, student], [teacher, teacher], weight=[torch.ones(2, 1, 4, 5)])


def test_nan_in_the_weight_is_named():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    with pytest.raises(ValueError, match="expected numbers, got NaN in weight"):
        hint_loss(student, teacher, weight=torch.full((2, 1, 4, 5), torch.nan))
