"""What channel-wise distillation must give, by hand and by the promises of a softmax over cells."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import cwd_loss

LN3 = math.log(3)


def channel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_a_value_by_hand():
    """Two cells: the student has them at 1/2 each, the teacher at 3/4 and 1/4; KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student, teacher = channel(0, 0), channel(LN3, 0)
    assert cwd_loss(student, teacher).item() == pytest.approx(divergence)
    # Twice the logits under T = 2 are the same distributions, and T² = 4.
    assert cwd_loss(student, 2 * teacher, temperature=2.0).item() == pytest.approx(4 * divergence)
    # A second channel in which the two agree halves the mean over channels; a second level adds.
    more = channel(5, 2)
    assert cwd_loss(torch.cat([student, more], 1), torch.cat([teacher, more], 1)).item() == pytest.approx(
        divergence / 2
    )
    assert cwd_loss([student, student], [teacher, teacher]).item() == pytest.approx(2 * divergence)


def test_the_teachers_distribution_is_the_reference():
    """KL is not symmetric: KL(1/2, 1/2 ‖ 3/4, 1/4) = 1/2 ln(2/3) + 1/2 ln 2."""
    expected = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert cwd_loss(channel(LN3, 0), channel(0, 0)).item() == pytest.approx(expected)


@settings(max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    temperature=st.floats(0.2, 5.0),
    seed=st.integers(0, 2**16),
)
def test_a_constant_on_a_channel_changes_nothing(shape, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *shape, generator=generator, dtype=torch.float64).unbind()
    offset = 10 * torch.randn(*shape[:2], 1, 1, generator=generator, dtype=torch.float64)
    loss = cwd_loss(student, teacher, temperature=temperature)
    assert loss.item() >= -1e-12
    torch.testing.assert_close(cwd_loss(student + offset, teacher, temperature=temperature), loss)
    torch.testing.assert_close(cwd_loss(student, teacher - offset, temperature=temperature), loss)


def test_a_single_cell_gives_nothing():
    student = torch.randn(2, 3, 1, 1, requires_grad=True)
    loss = cwd_loss(student, torch.randn(2, 3, 1, 1))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_extreme_activations_stay_finite():
    student = torch.tensor([1e4, -1e4, 0.0, 3.0]).view(1, 1, 2, 2).requires_grad_()
    loss = cwd_loss(student, -student.detach())
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="expected a temperature above 0, got"):
        cwd_loss(channel(0, 0), channel(0, 1), temperature=temperature)
