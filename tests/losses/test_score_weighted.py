"""What score-weighted imitation must give, by hand, and what is asked of the scores."""

import pytest
import torch
from torch.nn import functional as F

from kdet.losses import score_weighted_loss


def test_a_value_by_hand():
    """Squares 1 and 9 in a cell of score 1/2, 4 and 4 in one of score 1/4: (5 + 2) / 4 entries; a second level adds."""
    teacher = torch.randn(1, 2, 1, 2, dtype=torch.float64)
    student = teacher + torch.tensor([[1.0, 2.0], [3.0, -2.0]]).view(1, 2, 1, 2)
    scores = torch.tensor([0.5, 0.25]).view(1, 1, 1, 2)
    assert score_weighted_loss(student, teacher, scores).item() == pytest.approx(1.75)
    twice = score_weighted_loss([student, student], [teacher, teacher], [scores, scores])
    assert twice.item() == pytest.approx(3.5)


def test_a_sure_teacher_gives_the_mean_squared_error():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    loss = score_weighted_loss(student, teacher, torch.ones(2, 1, 4, 5))
    torch.testing.assert_close(loss, F.mse_loss(student, teacher))


def test_features_learn_only_where_the_teacher_sees_something():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    scores = torch.zeros(2, 1, 4, 5)
    scores[0, 0, 1:3, 2] = 0.7
    student.requires_grad_()
    score_weighted_loss(student, teacher, scores).backward()
    assert student.grad is not None
    assert torch.equal(student.grad.ne(0).any(1, keepdim=True), scores > 0)


def test_a_teacher_that_sees_nothing_gives_a_zero_with_a_graph():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    student.requires_grad_()
    loss = score_weighted_loss(student, teacher, torch.zeros(2, 1, 4, 5))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_scores_on_other_cells_or_levels_are_refused():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    with pytest.raises(ValueError, match=r"expected teacher_scores of level 0 of shape \(2, 1, 4, 5\)"):
        score_weighted_loss(student, teacher, torch.rand(2, 3, 4, 5))
    with pytest.raises(ValueError, match="expected teacher_scores for 1 levels, got 2"):
        score_weighted_loss([student], [teacher], [torch.rand(2, 1, 4, 5)] * 2)


def test_nan_in_the_scores_is_named():
    student, teacher = torch.randn(2, 2, 3, 4, 5).unbind()
    with pytest.raises(ValueError, match="expected numbers, got NaN in level 0 of teacher_scores"):
        score_weighted_loss([student], [teacher], [torch.full((2, 1, 4, 5), torch.nan)])
