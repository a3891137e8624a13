"""What the plain differences must give."""

import pytest
import torch
from torch.nn import functional as F

from kdet.losses import lp_loss


def test_a_value_by_hand():
    student = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(1, 1, 2, 2)
    teacher = torch.tensor([0.0, 2.0, 2.0, 2.0]).view(1, 1, 2, 2)
    assert lp_loss(student, teacher, p=1, normalize=None).item() == pytest.approx(3 / 4)
    assert lp_loss(student, teacher, p=2, normalize=None).item() == pytest.approx(5 / 4)
    # Rescaled: 0, 1/4, 1/2, 1 against 0, 1, 1, 1.
    assert lp_loss(student, teacher, p=1).item() == pytest.approx(1.25 / 4)


def test_plain_l2_is_the_library_function_summed_over_levels():
    student, teacher = ([torch.rand(2, 3, n, n) for n in (8, 4)] for _ in range(2))
    expected = sum(F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True))
    torch.testing.assert_close(lp_loss(student, teacher, p=2, normalize=None), expected)


def test_an_affine_copy_is_as_good_as_the_teacher_under_rescale():
    teacher = torch.rand(2, 3, 8, 8)
    assert lp_loss(3 * teacher + 2, teacher, p=1).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_a_dead_channel_of_the_teacher_counts_as_zero_in_the_mean_over_all(p):
    """Rescaled: 0, 1/4, 1/2, 1 against 0, 1, 1, 1 in one channel; the teacher's other one is constant."""
    student = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(1, 1, 2, 2).repeat(1, 2, 1, 1).requires_grad_()
    teacher = torch.tensor([[0.0, 2.0, 2.0, 2.0], [5.0] * 4]).view(1, 2, 2, 2)
    loss = lp_loss(student, teacher, p=p)
    assert loss.item() == pytest.approx((0.75**p + 0.5**p) / 8)
    loss.backward()
    assert student.grad is not None and student.grad[0, 0].any() and not student.grad[0, 1].any()


def test_another_p_is_refused():
    with pytest.raises(ValueError, match="expected p 1 or 2, got 3"):
        lp_loss(torch.rand(1, 1, 2, 2), torch.rand(1, 1, 2, 2), p=3)
