"""What soft labels must give."""

import math

import pytest
import torch

from kdet.losses import soft_label_loss


def test_values_by_hand():
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3))  # probabilities 1/2 and 3/4
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_label_loss(student, teacher).item() == pytest.approx(expected)
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])  # 1/2, 1/2 and 3/4, 1/4
    assert soft_label_loss(student, teacher, activation="softmax").item() == pytest.approx(expected)


def test_classes_are_summed_and_candidates_averaged():
    student, teacher = torch.randn(2, 1, 1).unbind()
    one = soft_label_loss(student, teacher)
    torch.testing.assert_close(soft_label_loss(student.expand(5, 3), teacher.expand(5, 3)), 3 * one)
    torch.testing.assert_close(soft_label_loss(student.expand(5, 3), teacher.expand(5, 3), normaliser=15), one)
    by_tensor = soft_label_loss(student.expand(5, 3), teacher.expand(5, 3), normaliser=torch.tensor(15))
    torch.testing.assert_close(by_tensor, one)


def test_the_gradient_keeps_its_size_under_temperature():
    teacher = torch.randn(4, 6)
    sizes = []
    for temperature in (1.0, 20.0):
        student = torch.zeros(4, 6, requires_grad=True)
        soft_label_loss(student, teacher, temperature=temperature, activation="softmax").backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert 0.3 < sizes[1] / sizes[0] < 3


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_extreme_logits_stay_finite(activation):
    student = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = soft_label_loss(student, -student.detach(), activation=activation)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_wrong_options_are_refused():
    logits = torch.rand(2, 3)
    with pytest.raises(ValueError, match="expected a temperature above 0"):
        soft_label_loss(logits, logits, temperature=-1.0)
    with pytest.raises(ValueError, match='expected activation "sigmoid" or "softmax"'):
        soft_label_loss(logits, logits, activation="tanh")
