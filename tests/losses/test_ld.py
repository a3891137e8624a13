"""What localization distillation must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import ld_loss

# Two bins: the student's probabilities are 1/2, 1/2 and the teacher's 3/4, 1/4.
STUDENT, TEACHER = torch.zeros(1, 1, 2), torch.tensor([[[math.log(3), 0.0]]])
DIVERGENCE = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)


def test_a_value_by_hand():
    assert ld_loss(STUDENT, TEACHER, temperature=1.0).item() == pytest.approx(DIVERGENCE)
    # Logits ten times as large give the same distributions at a temperature of ten, and the factor 10² is left.
    assert ld_loss(STUDENT, 10 * TEACHER).item() == pytest.approx(100 * DIVERGENCE)


def test_edges_are_averaged_and_bins_summed():
    two_edges = ld_loss(torch.cat([STUDENT, TEACHER], 1), torch.cat([TEACHER, TEACHER], 1), temperature=1.0)
    assert two_edges.item() == pytest.approx(DIVERGENCE / 2)
    # A third bin that both models leave empty changes nothing.
    nothing = torch.full((1, 1, 1), -200.0)
    padded = ld_loss(torch.cat([STUDENT, nothing], 2), torch.cat([TEACHER, nothing], 2), temperature=1.0)
    assert padded.item() == pytest.approx(DIVERGENCE)


def test_weights_pick_candidates_and_divide_by_their_sum():
    student, teacher = torch.randn(2, 6, 4, 9).unbind()
    mask = torch.tensor([True, False, True, True, False, False])
    torch.testing.assert_close(ld_loss(student, teacher, weight=mask), ld_loss(student[mask], teacher[mask]))
    torch.testing.assert_close(ld_loss(student, teacher, weight=torch.full((6,), 0.5)), ld_loss(student, teacher))
    summed = ld_loss(student, teacher, weight=mask, normaliser=torch.tensor(1.0))
    torch.testing.assert_close(summed, 3 * ld_loss(student[mask], teacher[mask]))


def test_weights_below_one_in_all_are_divided_by_one():
    faint = ld_loss(STUDENT, TEACHER, temperature=1.0, weight=torch.tensor([0.1]))
    assert faint.item() == pytest.approx(0.1 * DIVERGENCE)
    student = STUDENT.clone().requires_grad_()
    none = ld_loss(student, TEACHER, weight=torch.zeros(1))
    none.backward()
    assert none.item() == 0 and student.grad is not None and not student.grad.any()


def test_no_gradient_goes_to_the_weight():
    weight = torch.rand(3, requires_grad=True)
    student = torch.randn(3, 4, 5, requires_grad=True)
    ld_loss(student, torch.randn(3, 4, 5), weight=weight).backward()
    assert weight.grad is None


@settings(max_examples=25)
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 40), seed=st.integers(0, 9))
def test_only_the_distributions_count(shift: float, scale: float, seed: int):
    """A shift of all logits of an edge is invisible, and the loss of any logits is finite and not below 0."""
    student, teacher = scale * torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    loss = ld_loss(student, teacher)
    assert loss.isfinite() and loss >= 0
    torch.testing.assert_close(ld_loss(student + shift, teacher), loss, rtol=1e-3, atol=1e-3)


def test_wrong_arguments_are_refused():
    logits = torch.rand(2, 4, 8)
    with pytest.raises(ValueError, match="expected a temperature above 0"):
        ld_loss(logits, logits, temperature=0.0)
    with pytest.raises(ValueError, match=r"expected a weight for each of the 2 candidates, got one of shape \(2, 4\)"):
        ld_loss(logits, logits, weight=torch.rand(2, 4))
    with pytest.raises(ValueError, match="expected numbers, got NaN in weight"):
        ld_loss(logits, logits, weight=torch.tensor([1.0, torch.nan]))
