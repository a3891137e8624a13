"""What cosine alignment must give, by hand and by what a cosine cannot see."""

import pytest
import torch
from torch.nn import functional as F

from kdet.losses import cosine_loss


def cells(*vectors: tuple[float, ...]) -> torch.Tensor:
    """One image of one row, a vector a cell."""
    return torch.tensor(vectors, dtype=torch.float64).T[None, :, None, :].contiguous()


def test_values_by_hand():
    """60° costs 1/2, a right angle 1, opposite directions 2: their mean is 7/6; levels add up."""
    student = cells((2.0, 0.0), (0.0, 3.0), (1.0, 1.0))
    teacher = cells((0.5, 0.75**0.5), (5.0, 0.0), (-4.0, -4.0))
    assert cosine_loss(student, teacher).item() == pytest.approx(7 / 6)
    assert cosine_loss([student, student], [teacher, student]).item() == pytest.approx(7 / 6)
    assert cosine_loss([student, student], [teacher, teacher]).item() == pytest.approx(7 / 3)


def test_it_is_one_minus_torchs_cosine():
    student, teacher = torch.randn(2, 2, 8, 5, 7, dtype=torch.float64).unbind()
    torch.testing.assert_close(cosine_loss(student, teacher), 1 - F.cosine_similarity(student, teacher).mean())


def test_the_length_of_a_cells_vector_does_not_matter():
    student, teacher = torch.randn(2, 2, 8, 5, 7, dtype=torch.float64).unbind()
    lengths = 0.5 + torch.rand(2, 1, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(cosine_loss(student * lengths, teacher / lengths), cosine_loss(student, teacher))


@pytest.mark.parametrize("owner", ["student", "teacher"])
def test_a_dead_cell_does_not_take_over_the_gradient(owner: str):
    """Without the floor a vector of 1e-9 would have a gradient a billion times that of its neighbours."""
    student, teacher = torch.randn(2, 2, 8, 5, 7, dtype=torch.float64).unbind()
    (student if owner == "student" else teacher)[:, :, 2, 3] *= 1e-9
    student.requires_grad_()
    cosine_loss(student, teacher).backward()
    assert student.grad is not None and student.grad.isfinite().all()
    by_cell = student.grad.abs().amax((0, 1))
    assert by_cell[2, 3] < 200 * by_cell[:2].max()


def test_maps_of_zeros_cost_one_and_have_a_finite_gradient():
    flat = torch.zeros(1, 4, 3, 3, requires_grad=True)
    loss = cosine_loss(flat, torch.randn(1, 4, 3, 3))
    loss.backward()
    assert loss.item() == 1 and flat.grad is not None and flat.grad.isfinite().all()
