"""What the correlation loss must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import dist_loss


def test_values_by_hand():
    """Two classes: centred, the rows are (1/4, −1/4) and (−1/4, 1/4), so ρ = −1 and 1 − ρ = 2; no second candidate."""
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(3), 0.0]])
    assert dist_loss(student, teacher).item() == pytest.approx(2)
    assert dist_loss(student, teacher, beta=0.5, gamma=7.0).item() == pytest.approx(1)


def test_candidates_of_a_class_by_hand():
    """Probabilities 1/4, 1/2, 3/4 and 1/4, 3/4, 1/2, centred (−1, 0, 1)/4 and (−1, 1, 0)/4: ρ = 1/2."""
    low, high = -math.log(3), math.log(3)
    student, teacher = torch.tensor([[low], [0.0], [high]]), torch.tensor([[low], [high], [0.0]])
    assert dist_loss(student, teacher, activation="sigmoid").item() == pytest.approx(0.5)
    assert dist_loss(student, teacher, activation="sigmoid", gamma=3.0).item() == pytest.approx(1.5)


def test_temperature_divides_the_logits_and_multiplies_the_loss_by_its_square():
    student, teacher = torch.randn(2, 6, 5).unbind()
    torch.testing.assert_close(dist_loss(4 * student, 4 * teacher, temperature=4.0), 16 * dist_loss(student, teacher))


def test_the_normaliser_divides_the_sum_over_candidates_alone():
    student, teacher = torch.randn(2, 6, 5).unbind()
    plain, halved = (dist_loss(student, teacher, gamma=0.0, normaliser=n) for n in (None, torch.tensor(12)))
    torch.testing.assert_close(2 * halved, plain)
    along_candidates = dist_loss(student, teacher, beta=0.0)
    torch.testing.assert_close(dist_loss(student, teacher, beta=0.0, normaliser=12), along_candidates)


@settings(max_examples=25)
@given(stretch=st.floats(0.2, 0.9), shift=st.floats(0.01, 0.09), seed=st.integers(0, 9))
def test_a_students_probabilities_need_only_be_a_stretch_of_the_teachers(stretch: float, shift: float, seed: int):
    probability = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    student, teacher = torch.logit(stretch * probability + shift), torch.logit(probability)
    assert dist_loss(student, teacher, activation="sigmoid").item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_constant_teacher_teaches_nothing(activation):
    student = torch.randn(1, 6, requires_grad=True)
    loss = dist_loss(student, torch.full((1, 6), 0.3), activation=activation)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-5])
def test_a_constant_student_is_pulled_with_a_bounded_force(noise):
    """Its row has no direction yet; the force is at most 1/floor times the slope of the sigmoid."""
    student = (noise * torch.randn(1, 6)).requires_grad_()
    teacher = torch.tensor([[3.0, -3.0, -3.0, -3.0, -3.0, -3.0]])
    dist_loss(student, teacher, activation="sigmoid").backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.abs().max() <= 0.25e4
    if noise < 1e-6:
        assert student.grad[0, 0] < 0 and (student.grad[0, 1:] > 0).all()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_extreme_logits_stay_finite(activation):
    student = torch.tensor([[200.0, -200.0, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    loss = dist_loss(student, -student.detach(), activation=activation)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_wrong_options_are_refused():
    logits = torch.rand(2, 3)
    with pytest.raises(ValueError, match="expected a temperature above 0"):
        dist_loss(logits, logits, temperature=-1.0)
    with pytest.raises(ValueError, match='expected activation "sigmoid" or "softmax"'):
        dist_loss(logits, logits, activation="tanh")
